"""The production dagster.yaml and the Helm values: loaded by Dagster itself, saying the same, and leading to Jobs that Kubernetes accepts.

A real PostgreSQL behind docker/dagster.yaml is the matter of end_to_end/test_postgres.py. The chart itself is not to be had offline: that it renders
these values is not tested; `instance_of_the_chart` says what its templates make of them, as far as we use them.
"""

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import dagster as dg
import kubernetes_validate
import pytest
import yaml
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.instance.ref import InstanceRef
from dagster._core.launcher.base import LaunchRunContext
from dagster._core.origin import DEFAULT_DAGSTER_ENTRY_POINT, JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.run_coordinator import QueuedRunCoordinator
from dagster_aws.s3.compute_log_manager import S3ComputeLogManager
from dagster_k8s import K8sRunLauncher

from definemed_pipeline_tests.docker.files import DOCKER, MANIFESTS, objects_of

OF_THE_LAUNCHER = {"run_launcher"}
OF_THE_SIZE = {"concurrency"}
ENVIRONMENT = {
    "DAGSTER_PG_HOST": "127.0.0.1",
    "DAGSTER_PG_PORT": "5432",
    "DAGSTER_PG_USERNAME": "dagster",
    "DAGSTER_PG_PASSWORD": "a-secret",
    "DAGSTER_PG_DB": "dagster",
    "DAGSTER_LOGS_BUCKET": "definemed",
    "AWS_DEFAULT_REGION": "us-east-1",
}
# What the chart's schema allows at its top, of which it refuses nothing else; and below, what we use.
TOP = {
    "global", "rbacEnabled", "serviceAccount", "postgresql", "generatePostgresqlPasswordSecret", "rabbitmq", "redis", "telemetry", "migrate",
    "dagsterWebserver", "dagsterDaemon", "concurrency", "retention", "computeLogManager", "additionalInstanceConfig", "runLauncher",
    "dagster-user-deployments",
}  # fmt: skip
LAUNCHER = {
    "imagePullPolicy", "loadInclusterConfig", "envConfigMaps", "envSecrets", "envVars", "volumes", "volumeMounts", "resources", "securityContext",
    "runK8sConfig",
}  # fmt: skip


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def values() -> dict[str, Any]:
    return yaml.safe_load((MANIFESTS / "values.yaml").read_text("utf-8"))


def production() -> dict[str, Any]:
    return yaml.safe_load((DOCKER / "dagster.yaml").read_text("utf-8"))


def in_snakes(value: Any) -> Any:
    """Write the keys of the chart's values as dagster.yaml does."""
    if isinstance(value, dict):
        return {re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", key).lower(): in_snakes(one) for key, one in value.items()}
    return [in_snakes(one) for one in value] if isinstance(value, list) else value


def instance_of_the_chart(values: dict[str, Any]) -> dict[str, Any]:
    """Return the dagster.yaml that the chart's templates make of its values."""
    database, daemon, launcher = values["postgresql"], values["dagsterDaemon"], values["runLauncher"]["config"]["k8sRunLauncher"]
    storage = {
        "postgres_db": {
            "scheme": database["postgresqlScheme"],
            "username": database["postgresqlUsername"],
            "password": {"env": "DAGSTER_PG_PASSWORD"},
            "hostname": database["postgresqlHost"],
            "db_name": database["postgresqlDatabase"],
            "port": database["service"]["port"],
        }
    }
    assert values["runLauncher"]["type"] == "K8sRunLauncher"
    assert daemon["runCoordinator"]["type"] == "QueuedRunCoordinator"
    config = {key: value for key, value in launcher.items() if key not in ("envConfigMaps", "envSecrets", "runK8sConfig")}
    return {
        "storage": {"postgres": storage},
        "run_launcher": {
            "module": "dagster_k8s",
            "class": "K8sRunLauncher",
            "config": {
                **{in_snakes({key: None}).popitem()[0]: value for key, value in config.items()},
                "env_config_maps": [one["name"] for one in launcher["envConfigMaps"]],
                "env_secrets": [one["name"] for one in launcher["envSecrets"]],
                "run_k8s_config": {in_snakes({key: None}).popitem()[0]: value for key, value in launcher["runK8sConfig"].items()},
                "service_account_name": values["global"]["serviceAccountName"],
                "job_namespace": "definemed",
                "dagster_home": values["global"]["dagsterHome"],
                "instance_config_map": "dagster-instance",
                "postgres_password_secret": values["global"]["postgresqlSecretName"],
            },
        },
        "run_coordinator": {
            "module": "dagster._core.run_coordinator",
            "class": "QueuedRunCoordinator",
            "config": in_snakes(daemon["runCoordinator"]["config"]["queuedRunCoordinator"]),
        },
        "compute_logs": {
            "module": "dagster_aws.s3.compute_log_manager",
            "class": "S3ComputeLogManager",
            "config": in_snakes(values["computeLogManager"]["config"]["s3ComputeLogManager"]),
        },
        "concurrency": {part: in_snakes(values["concurrency"][part]) for part in ("pools", "runs")},
        "run_monitoring": in_snakes(daemon["runMonitoring"]),
        "retention": {part: in_snakes(values["retention"][part]) for part in ("schedule", "sensor")},
        "sensors": in_snakes(daemon["sensors"]),
        "schedules": in_snakes(daemon["schedules"]),
        "telemetry": values["telemetry"],
        **values["additionalInstanceConfig"],
    }


def loaded(folder, instance) -> InstanceRef:
    """Let Dagster read an instance as it does at its start: unknown keys, wrong types and missing variables are refused here."""
    (folder / "dagster.yaml").write_text(yaml.safe_dump(instance), "utf-8")
    return InstanceRef.from_dir(str(folder))


def test_dagster_loads_the_production_instance(tmp_path):
    reference = loaded(tmp_path, production())
    assert isinstance(reference.run_coordinator, QueuedRunCoordinator)
    assert isinstance(reference.compute_log_manager, S3ComputeLogManager)
    assert type(reference.run_launcher).__name__ == "DefaultRunLauncher"
    url = yaml.safe_load(reference.run_storage_data.config_yaml)["postgres_db"]
    assert url["password"] == {"env": "DAGSTER_PG_PASSWORD"}  # read where it is used, and written nowhere
    assert reference.settings["run_monitoring"]["free_slots_after_run_end_seconds"] == 60
    assert reference.settings["telemetry"] == {"enabled": False}
    assert reference.settings["concurrency"]["pools"]["granularity"] == "run"


def test_dagster_refuses_what_it_does_not_know(tmp_path):
    with pytest.raises(dg.DagsterInvalidConfigError, match="free_slots"):
        loaded(tmp_path, {**production(), "run_monitoring": {"free_slots": 60}})


def test_the_chart_makes_the_same_instance_but_for_the_launcher_and_its_size(tmp_path, values):
    chart, ours = instance_of_the_chart(values), production()
    assert set(chart) == set(ours)
    same = set(ours) - OF_THE_LAUNCHER - OF_THE_SIZE - {"storage"}
    assert {key: chart[key] for key in same} == {key: ours[key] for key in same}
    assert set(chart["storage"]["postgres"]["postgres_db"]) == set(ours["storage"]["postgres"]["postgres_db"])
    assert chart["storage"]["postgres"]["postgres_db"]["scheme"] == ours["storage"]["postgres"]["postgres_db"]["scheme"]
    assert chart["concurrency"]["pools"]["granularity"] == ours["concurrency"]["pools"]["granularity"]
    loaded(tmp_path, chart)


def test_the_values_use_no_key_the_chart_does_not_have(values):
    assert set(values) == TOP
    assert set(values["runLauncher"]["config"]["k8sRunLauncher"]) == LAUNCHER
    with_env = {"image", "envConfigMaps", "envSecrets", "podSecurityContext", "securityContext", "resources"}
    assert set(values["dagsterWebserver"]) == with_env | {"service", "readinessProbe"}
    assert values["dagsterWebserver"]["readinessProbe"]["httpGet"]["port"] == values["dagsterWebserver"]["service"]["port"]
    daemon = {"enabled", "runCoordinator", "runMonitoring", "runRetries", "sensors", "schedules"}
    assert set(values["dagsterDaemon"]) == with_env | daemon
    (deployment,) = values["dagster-user-deployments"]["deployments"]
    own = {"name", "dagsterApiGrpcArgs", "port", "includeConfigInLaunchedRuns", "volumes", "volumeMounts", "startupProbe"}
    assert set(deployment) == with_env | own


def test_the_values_name_what_the_manifests_hold(values):
    (environment,) = objects_of("ConfigMap")
    text = (MANIFESTS / "values.yaml").read_text("utf-8")
    assert environment["metadata"]["name"] == values["dagsterDaemon"]["envConfigMaps"][0]["name"]
    assert {"DAGSTER_LOGS_BUCKET", "DEFINEMED_LAKE", "DEFINEMED_RECIPE"} <= set(environment["data"])
    assert values["global"]["serviceAccountName"] in {one["metadata"]["name"] for one in objects_of("ServiceAccount")}
    assert values["postgresql"]["postgresqlHost"] in {one["metadata"]["name"] for one in objects_of("Service")}
    assert environment["data"]["DEFINEMED_RECIPE"].startswith("/recipes/")
    assert "assword:" not in text.replace("generatePostgresqlPasswordSecret:", "")


@pytest.fixture
def api_server(tmp_path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Serve just enough of Kubernetes' API to see which Job a launcher creates; yield a kubeconfig and the Jobs."""
    created: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            created.append(json.loads(body))
            self.send_response(201)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        yaml.safe_dump(
            {
                "current-context": "test",
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
                "clusters": [{"name": "test", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
                "users": [{"name": "test", "user": {}}],
            }
        )
    )
    yield str(kubeconfig), created
    server.shutdown()
    server.server_close()


def test_a_run_becomes_a_job_that_kubernetes_accepts(tmp_path, values, api_server):
    kubeconfig, created = api_server
    chart = instance_of_the_chart(values)
    chart["run_launcher"]["config"] |= {"load_incluster_config": False, "kubeconfig_file": kubeconfig}
    launcher = loaded(tmp_path, chart).run_launcher
    assert isinstance(launcher, K8sRunLauncher)
    origin = RepositoryPythonOrigin(
        executable_path="/opt/venv/bin/python",
        code_pointer=ModuleCodePointer("definemed_pipeline.definitions", "defs"),
        container_image="registry.example/definemed-user-code:0.1.0",
        entry_point=DEFAULT_DAGSTER_ENTRY_POINT,
    )

    @dg.job
    def shards() -> None:
        """What is in it does not matter."""

    with dg.instance_for_test() as instance:
        launcher.register_instance(instance)
        run = instance.create_run_for_job(shards, job_code_origin=JobPythonOrigin("shards", origin))
        launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=None))
    (job,) = created
    for version in ("1.31", kubernetes_validate.latest_version()):
        kubernetes_validate.validate(job, version, strict=True)
    assert job["spec"]["ttlSecondsAfterFinished"] == 86400
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == "registry.example/definemed-user-code:0.1.0"
    assert pod["serviceAccountName"] == "definemed"
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert "memory" in container["resources"]["limits"]
    assert {mount["mountPath"] for mount in container["volumeMounts"]} >= {"/scratch", "/recipes"}
    assert {one["secretRef"]["name"] for one in container["envFrom"] if "secretRef" in one} == {"definemed-object-store"}
    (password,) = [one for one in container["env"] if one["name"] == "DAGSTER_PG_PASSWORD"]
    assert password["valueFrom"]["secretKeyRef"] == {"name": "definemed-postgres", "key": "postgresql-password"}
