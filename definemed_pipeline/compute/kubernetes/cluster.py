"""The few requests a Job needs, on one namespace, with plain dictionaries in and out.

Retries of single requests are urllib3's (429, 5xx and cut connections, with Retry-After obeyed); every request here may safely be sent twice.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import urllib3
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from definemed_pipeline.compute.kubernetes.objects import Object
from definemed_pipeline.compute.kubernetes.settings import KubernetesSettings
from definemed_pipeline.compute.kubernetes.state import Snapshot
from definemed_pipeline.errors import UserError

RETRIES = urllib3.Retry(
    total=6,
    backoff_factor=0.25,
    backoff_max=8,
    status_forcelist=(429, 500, 502, 503, 504),
    allowed_methods=None,
    raise_on_status=False,
)
SECONDS_TO_ANSWER = 30
SECONDS_A_WATCH_LASTS = 300
OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
Response = urllib3.response.BaseHTTPResponse


class ApiError(Exception):
    """A request that did not come to its end."""


class UnreachableError(ApiError):
    """The API server did not answer, or not properly; it may again."""


class ConflictError(ApiError):
    """An object of that name is there already."""


class MissingError(ApiError):
    """There is no object of that name, or no such namespace."""


class Cluster:
    """One namespace of a cluster."""

    def __init__(self, api: client.ApiClient, namespace: str) -> None:
        self.api, self.namespace = api, namespace
        self.jobs, self.core = client.BatchV1Api(api), client.CoreV1Api(api)

    @classmethod
    @contextmanager
    def connected(cls, settings: KubernetesSettings) -> Iterator["Cluster"]:
        """Connect as the settings say. Raise UserError where there is no cluster to connect to."""
        configuration = client.Configuration()
        try:
            _load(configuration, settings.context)
        except (config.ConfigException, OSError) as error:
            raise UserError(
                f"no Kubernetes cluster is configured: {error}; set KUBECONFIG, correct compute.kubernetes.context, or run inside the cluster"
            ) from error
        configuration.retries = RETRIES
        with client.ApiClient(configuration) as api:
            yield cls(api, settings.namespace)

    def job(self, name: str) -> Object | None:
        """Return a Job, or None where there is none."""
        return self._asked(self.jobs.read_namespaced_job, name, self.namespace)

    def all_jobs(self, selector: str) -> list[Object]:
        """Return the Jobs with these labels."""
        return self._listed(self.jobs.list_namespaced_job, label_selector=selector)

    def create_job(self, job: Object) -> Object:
        """Create a Job and return it as the server has it. Raise ConflictError where one of that name is there already."""
        try:
            return self._must(self.jobs.create_namespaced_job, self.namespace, job)
        except MissingError as error:
            raise UserError(f"{error}; create the namespace, or correct compute.kubernetes.namespace") from error

    def create_service(self, service: Object) -> None:
        """Create a Service unless it is there already."""
        try:
            self._must(self.core.create_namespaced_service, self.namespace, service)
        except ConflictError:
            return

    def annotate(self, job: str, *, labels: Mapping[str, str] | None = None, **metadata: Any) -> Object | None:
        """Change a Job's metadata; return it, or None where it is gone."""
        patch = {"metadata": {"labels": dict(labels or {}), **metadata}}
        return self._asked(self.jobs.patch_namespaced_job, job, self.namespace, patch)

    def delete_job(self, name: str) -> None:
        """Delete a Job with all that belongs to it, its pods first."""
        self._asked(self.jobs.delete_namespaced_job, name, self.namespace, propagation_policy="Foreground")

    def snapshot(self, name: str) -> Snapshot:
        """Return a Job, its pods and the events about both."""
        job = self.job(name)
        if job is None:
            return Snapshot(job=None)
        pods = self._listed(self.core.list_namespaced_pod, label_selector=self.pods_of(name))
        waits = job["spec"].get("suspend") or not any(pod.get("status", {}).get("phase") == "Running" for pod in pods)
        events = [event for one in ([job, *pods] if waits else []) for event in self._events_about(one["metadata"]["name"])]
        return Snapshot(job=job, pods=pods, events=events)

    def watch_job(self, name: str) -> Response:
        """Open a watch on one Job."""
        return self._stream(self.jobs.list_namespaced_job, self.namespace, watch=True, field_selector=f"metadata.name={name}")

    def watch_pods(self, job: str) -> Response:
        """Open a watch on a Job's pods."""
        return self._stream(self.core.list_namespaced_pod, self.namespace, watch=True, label_selector=self.pods_of(job))

    def log(self, pod: str, since_seconds: int | None) -> Response:
        """Open a pod's log to follow it, with the time before each line: all of it, or from so many seconds ago."""
        since = {} if since_seconds is None else {"since_seconds": since_seconds}
        return self._stream(self.core.read_namespaced_pod_log, pod, self.namespace, follow=True, timestamps=True, **since)

    @cached_property
    def owner(self) -> Object | None:
        """The Job that this very process runs in, as an owner of what it creates; None where it runs elsewhere."""
        if not OWN_NAMESPACE.exists() or OWN_NAMESPACE.read_text("utf-8").strip() != self.namespace:
            return None
        pod = self._asked(self.core.read_namespaced_pod, os.environ.get("HOSTNAME", ""), self.namespace) or {"metadata": {}}
        owners = [one for one in pod["metadata"].get("ownerReferences", []) if one["kind"] == "Job"]
        return {key: owners[0][key] for key in ("apiVersion", "kind", "name", "uid")} if owners else None

    @staticmethod
    def pods_of(job: str) -> str:
        return f"batch.kubernetes.io/job-name={job}"

    def _events_about(self, name: str) -> list[Object]:
        """Return the events about the object of a name: those of a whole namespace may be thousands."""
        return self._listed(self.core.list_namespaced_event, field_selector=f"involvedObject.name={name}")

    def _asked(self, request: Any, *arguments: Any, **keywords: Any) -> Object | None:
        """Send a request; return None where the object is not there."""
        try:
            return self._must(request, *arguments, **keywords)
        except MissingError:
            return None

    def _listed(self, request: Any, **keywords: Any) -> list[Object]:
        items: list[Object] = self._must(request, self.namespace, **keywords)["items"]
        return items

    def _must(self, request: Any, *arguments: Any, **keywords: Any) -> Object:
        """Send a request and return the answer's object. Raise MissingError where there is none of that name."""
        with _explained(self.namespace):
            response = request(*arguments, **keywords, _preload_content=False, _request_timeout=SECONDS_TO_ANSWER)
            answer: Object = json.loads(response.data)
            return answer

    def _stream(self, request: Any, *arguments: Any, **keywords: Any) -> Response:
        if keywords.get("watch"):
            keywords["timeout_seconds"] = SECONDS_A_WATCH_LASTS
        with _explained(self.namespace):
            response: Response = request(*arguments, **keywords, _preload_content=False)
            return response


def _load(configuration: client.Configuration, context: str | None) -> None:
    if context is None and "KUBERNETES_SERVICE_HOST" in os.environ:
        config.load_incluster_config(client_configuration=configuration)
    else:
        # the client read KUBECONFIG when it was imported
        config.load_kube_config(os.environ.get("KUBECONFIG"), context=context, client_configuration=configuration)


@contextmanager
def _explained(namespace: str) -> Iterator[None]:
    """Turn the API's errors into what the caller can tell apart."""
    try:
        yield
    except ApiException as error:
        message = _message(error)
        match error.status:
            case 404:
                raise MissingError(message) from error
            case 409:
                raise ConflictError(message) from error
            case 401 | 403:
                raise UserError(
                    f"the cluster refuses access to the namespace {namespace}: {message}; renew the credentials or see docs/kubernetes.md for the rights it takes"
                ) from error
            case 400 | 422:
                raise UserError(f"the cluster refuses the object: {message}; correct compute.kubernetes") from error
            case _:
                raise UnreachableError(f"{error.status} {message}") from error
    except (urllib3.exceptions.HTTPError, OSError, json.JSONDecodeError) as error:
        raise UnreachableError(str(error)) from error


def _message(error: ApiException) -> str:
    try:
        return str(json.loads(error.body or "")["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.reason)
