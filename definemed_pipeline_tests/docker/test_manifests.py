"""What is applied to a cluster: valid for the oldest and the newest Kubernetes, with no right more than is used, and no secret in it."""

import importlib.util
import re
from pathlib import Path

import dagster_k8s
import kubernetes_validate
import pytest
import yaml

import definemed_pipeline
from definemed_pipeline_tests.docker.files import MANIFESTS, objects, objects_of, pod_specs

VERSIONS = ["1.31", kubernetes_validate.latest_version()]
KUEUE = "kueue.x-k8s.io/"  # its own schemas are in no package
OBJECTS = objects()
all_objects = pytest.mark.parametrize(
    "manifest", [one for _, one in OBJECTS], ids=[f"{name}-{one['kind']}-{one['metadata']['name']}" for name, one in OBJECTS]
)
# What stands behind a method of the Python client: `create_namespaced_job` creates jobs.
VERBS = {"create": "create", "read": "get", "list": "list", "patch": "patch", "delete": "delete"}
RESOURCES = {
    "job": "jobs",
    "job_status": "jobs/status",
    "pod": "pods",
    "pod_log": "pods/log",
    "event": "events",
    "service": "services",
}
REQUEST = re.compile(rf"\b({'|'.join(VERBS)})_namespaced_({'|'.join(RESOURCES)})\b")


@all_objects
@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_fits_the_official_schema(manifest, version):
    if manifest["apiVersion"].startswith(KUEUE):
        pytest.skip("Kueue's schemas are in no package")
    kubernetes_validate.validate(manifest, version, strict=True)


def test_the_schema_is_really_held():
    role = next(one for one in objects_of("Role"))
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**role, "rules": [{"verbs": "get"}]}, VERSIONS[-1], strict=True)


@all_objects
def test_every_object_is_in_the_namespace_or_in_none(manifest):
    whole_cluster = {"Namespace", "ResourceFlavor", "ClusterQueue"}
    assert manifest["metadata"].get("namespace") == (None if manifest["kind"] in whole_cluster else "definemed")


def test_no_manifest_holds_a_secret():
    assert not objects_of("Secret")
    for path in MANIFESTS.glob("*.env.example"):
        assert all(line.endswith("=") for line in path.read_text("utf-8").splitlines())


@pytest.mark.parametrize(("name", "pod"), pod_specs(), ids=[name for name, _ in pod_specs()])
def test_pods_run_without_root_and_without_a_token(name, pod):
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        assert {"readinessProbe", "livenessProbe"} <= set(container) or pod.get("restartPolicy") == "Never"
        assert "memory" in container["resources"]["limits"]
        assert re.fullmatch(r"(docker\.io|REGISTRY)/[\w/-]+:\d+\.\d+(\.\d+)?", container["image"])


def granted() -> set[tuple[str, str]]:
    (role,) = objects_of("Role")
    return {(verb, resource) for rule in role["rules"] for verb in rule["verbs"] for resource in rule["resources"]}


def requested(*files: Path) -> set[tuple[str, str]]:
    """Return what the requests in some source files ask of the API server."""
    text = "\n".join(path.read_text("utf-8") for path in files)
    return {(VERBS[verb], RESOURCES[resource]) for verb, resource in REQUEST.findall(text)}


@pytest.mark.skipif(
    importlib.util.find_spec("definemed_pipeline.compute.kubernetes") is None,
    reason="the Job client is not there to be compared with",
)
def test_the_role_grants_what_the_job_client_and_the_launcher_ask_for_and_nothing_else():
    client = sorted((Path(definemed_pipeline.__file__).parent / "compute" / "kubernetes").glob("*.py"))
    launcher = [Path(dagster_k8s.__file__).parent / name for name in ("client.py", "launcher.py")]
    watched = {("watch", "jobs"), ("watch", "pods")}
    assert granted() == requested(*client) | requested(*launcher) | watched


def test_no_right_goes_beyond_the_namespace_and_the_payloads_have_none():
    assert not objects_of("ClusterRole")
    assert not objects_of("ClusterRoleBinding")
    assert "*" not in {word for pair in granted() for word in pair}
    (binding,) = objects_of("RoleBinding")
    assert [one["name"] for one in binding["subjects"]] == ["definemed"]
    accounts = {one["metadata"]["name"]: one for one in objects_of("ServiceAccount")}
    assert set(accounts) == {"definemed", "definemed-payload"}
    assert accounts["definemed-payload"]["automountServiceAccountToken"] is False


def test_payloads_reach_names_the_store_and_each_other_and_nothing_reaches_them():
    payloads = {"app.kubernetes.io/managed-by": "definemed"}
    policies = {one["metadata"]["name"]: one["spec"] for one in objects_of("NetworkPolicy")}
    policy = policies["payloads"]
    assert policy["podSelector"] == {"matchLabels": payloads}
    assert sorted(policy["policyTypes"]) == ["Egress", "Ingress"]
    assert policy["ingress"] == [{"from": [{"podSelector": {"matchLabels": payloads}}]}]
    each_other, names, store = policy["egress"]
    assert each_other == {"to": [{"podSelector": {"matchLabels": payloads}}]}
    assert {port["port"] for port in names["ports"]} == {53}
    served = {one["metadata"]["name"]: one["spec"] for one in objects_of("Service")}["object-store"]
    assert store["to"] == [{"podSelector": {"matchLabels": served["selector"]}}]
    assert {port["port"] for port in store["ports"]} == {port["port"] for port in served["ports"]}
    outside = policies["payloads-that-download"]["egress"]
    assert [port["port"] for rule in outside for port in rule["ports"]] == [443]
    assert "10.0.0.0/8" in outside[0]["to"][0]["ipBlock"]["except"]


def test_services_find_their_pods():
    sets = {one["metadata"]["name"]: one["spec"] for one in objects_of("StatefulSet")}
    for service in objects_of("Service"):
        own = sets[service["metadata"]["name"]]
        assert service["spec"]["selector"].items() <= own["template"]["metadata"]["labels"].items()
        ports = {port["containerPort"] for container in own["template"]["spec"]["containers"] for port in container["ports"]}
        assert {port["port"] for port in service["spec"]["ports"]} <= ports


def test_the_scratch_of_several_nodes_is_one_volume_for_all():
    (claim,) = objects_of("PersistentVolumeClaim")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]


def test_the_queues_belong_together():
    (flavor,), (cluster_queue,), (queue,) = (objects_of(kind) for kind in ("ResourceFlavor", "ClusterQueue", "LocalQueue"))
    assert queue["spec"]["clusterQueue"] == cluster_queue["metadata"]["name"]
    (group,) = cluster_queue["spec"]["resourceGroups"]
    (quotas,) = group["flavors"]
    assert quotas["name"] == flavor["metadata"]["name"]
    assert [one["name"] for one in quotas["resources"]] == group["coveredResources"]
    assert {"cpu", "memory", "ephemeral-storage", "nvidia.com/gpu"} == set(group["coveredResources"])


def test_the_example_recipe_is_valid_and_names_what_the_manifests_hold():
    settings = pytest.importorskip("definemed_pipeline.compute.kubernetes.settings")
    from definemed_pipeline.recipe import load_recipe

    chosen = load_recipe(str(MANIFESTS / "recipe.yaml")).compute
    assert chosen.backend == "kubernetes"
    assert isinstance(chosen.kubernetes, settings.KubernetesSettings)
    pod = chosen.kubernetes.pod("cpt_checkpoints")
    assert pod.image == "REGISTRY/definemed-trainer:0.1.0"
    assert chosen.kubernetes.pod("classifier_scores").image == "REGISTRY/definemed-user-code:0.1.0"
    assert pod.service_account in {one["metadata"]["name"] for one in objects_of("ServiceAccount")}
    (environment,) = objects_of("ConfigMap")
    assert pod.environment.items() <= environment["data"].items()
    text = (MANIFESTS / "recipe.yaml").read_text("utf-8")
    assert objects_of("LocalQueue")[0]["metadata"]["name"] in text
    assert objects_of("PersistentVolumeClaim")[0]["metadata"]["name"] in text
    uncommented = yaml.safe_load(re.sub(r"(?m)^(\s+)# (?=[a-z_]+: )", r"\1", text))
    assert {"gpus", "nodes", "volumes", "scratch"} <= set(uncommented["compute"]["kubernetes"]["payloads"]["cpt_checkpoints"])
    settings.PodSettings(
        **{
            key: value
            for key, value in uncommented["compute"]["kubernetes"]["payloads"]["cpt_checkpoints"].items()
            if key != "volumes"
        }
    )
