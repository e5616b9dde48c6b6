"""The server, the unmodified `kubernetes` client connected to it, and Jobs that run a shell command."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config

from definemed_pipeline_tests.kubernetes_server import KubernetesServer
from definemed_pipeline_tests.kubernetes_server.store import Object

NAMESPACE = "definemed"


class Client:
    """The unmodified client of one server; answers come as plain dictionaries, refusals as its ApiException."""

    def __init__(self, server: KubernetesServer) -> None:
        configuration = client.Configuration()
        config.load_kube_config(str(server.kubeconfig), client_configuration=configuration)
        self.api = client.ApiClient(configuration)
        self.batch, self.core = client.BatchV1Api(self.api), client.CoreV1Api(self.api)

    def create(self, job: Object) -> Object:
        return self.ask(self.batch.create_namespaced_job, NAMESPACE, job)

    def job(self, name: str) -> Object:
        return self.ask(self.batch.read_namespaced_job, name, NAMESPACE)

    def patch(self, name: str, patch: Object, content_type: str | None = None) -> Object:
        kind = {} if content_type is None else {"_content_type": content_type}
        return self.ask(self.batch.patch_namespaced_job, name, NAMESPACE, patch, **kind)

    def delete(self, name: str, policy: str | None = "Foreground") -> Object:
        return self.ask(self.batch.delete_namespaced_job, name, NAMESPACE, propagation_policy=policy)

    def delete_pod(self, name: str, **options: Any) -> Object:
        return self.ask(self.core.delete_namespaced_pod, name, NAMESPACE, **options)

    def pods(self, selector: str = "") -> list[Object]:
        items: list[Object] = self.ask(self.core.list_namespaced_pod, NAMESPACE, label_selector=selector)["items"]
        return items

    def log(self, pod: str, **options: Any) -> str:
        response = self.core.read_namespaced_pod_log(pod, NAMESPACE, _preload_content=False, **options)
        return response.data.decode()

    @staticmethod
    def ask(request: Any, *arguments: Any, **options: Any) -> Object:
        answer: Object = json.loads(request(*arguments, **options, _preload_content=False).data)
        return answer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[KubernetesServer]:
    with KubernetesServer(tmp_path, namespace=NAMESPACE) as running:
        yield running


@pytest.fixture
def kubernetes(server: KubernetesServer) -> Iterator[Client]:
    connected = Client(server)
    with connected.api:
        yield connected


def pod_spec(script: str, **container: Any) -> Object:
    """Return a pod spec whose one container runs a shell script."""
    return {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 5,
        "containers": [{"name": "payload", "image": "example/payload:1", "command": ["sh", "-c", script], **container}],
    }


def job(script: str, name: str = "train", *, container: Object | None = None, pod: Object | None = None, **spec: Any) -> Object:
    """Return a Job whose pods run a shell script."""
    template = {"spec": {**pod_spec(script, **(container or {})), **(pod or {})}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {"template": template, **spec}}


def conditions(one: Object) -> dict[str, tuple[str, str]]:
    """Return an object's true conditions with reason and message."""
    told = one.get("status", {}).get("conditions", [])
    return {each["type"]: (each.get("reason", ""), each.get("message", "")) for each in told if each["status"] == "True"}


def finished(server: KubernetesServer, name: str = "train") -> Object:
    """Wait until a Job is over, and return it."""
    server.wait_for(lambda: conditions(server.job(name)).keys() & {"Complete", "Failed"})
    return server.job(name)


def running(server: KubernetesServer, name: str = "train", *, count: int = 1, says: str = "") -> list[str]:
    """Wait until so many pods of a Job are at work, and each has said a word; return their names in the order of creation."""

    def at_work() -> list[str]:
        names = [pod["metadata"]["name"] for pod in server.pods(name) if is_at_work(pod)]
        return names if len(names) == count and all(says in server.log(one) for one in names) else []

    return server.wait_for(at_work)


def is_at_work(pod: Object) -> bool:
    return pod["status"]["phase"] == "Running" and not pod["metadata"].get("deletionTimestamp")


def container_state(pod: Object) -> tuple[str, Object]:
    """Return in which state a pod's first container is, and what is told about it."""
    ((kind, told),) = pod["status"]["containerStatuses"][0]["state"].items()
    return kind, told
