"""What is sent to Kubernetes: valid by the official schemas, named by the work, and as the recipe says."""

import kubernetes_validate
import pytest
from hypothesis import given
from hypothesis import strategies as st

from definemed_pipeline.compute.kubernetes.objects import LONGEST_NAME, Object, as_label, job_object, overlaid, service_object
from definemed_pipeline.compute.kubernetes.settings import VolumeSettings
from definemed_pipeline_tests.compute.kubernetes.works import identity, pod, work

VERSIONS = ["1.31", "1.37"]
EVERYTHING = {
    "nodes": 2,
    "gpus": 8,
    "gpu_resource": "amd.com/gpu",
    "cpu": "16",
    "memory": "200Gi",
    "ephemeral_storage": "100Gi",
    "node_selector": {"gpu": "h200"},
    "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "service_account": "payloads",
    "volumes": {"scratch": VolumeSettings(mount_path="/scratch", source={"persistentVolumeClaim": {"claimName": "scratch"}})},
    "secrets": ["object-store"],
    "environment": {"AWS_ENDPOINT_URL": "http://minio:9000"},
    "priority_class": "training",
    "active_deadline_seconds": 86400,
    "ttl_seconds_after_finished": 60,
    "backoff_limit": 5,
    "grace_seconds": 300,
    "pod_overlay": {
        "hostIPC": True,
        "containers": [{"name": "payload", "resources": {"limits": {"rdma/hca": "1"}}}, {"name": "side", "image": "side:1"}],
    },
}


def job(settings: dict | None = None, **keywords) -> Object:
    arguments = {"queue": None, "environment": {"OMP_NUM_THREADS": "1"}, "owners": [], **keywords}
    return job_object(work(), 1, pod(**(settings or {})), **arguments)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("settings", [{}, EVERYTHING], ids=["least", "everything"])
def test_the_job_is_valid_by_the_official_schema(version, settings):
    kubernetes_validate.validate(job(settings, queue="gpus"), version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_service_is_valid_and_goes_with_its_job(version):
    made = job(EVERYTHING)
    made["metadata"]["uid"] = "the-uid"
    service = service_object(made)
    kubernetes_validate.validate(service, version, strict=True)
    assert service["metadata"]["ownerReferences"][0]["uid"] == "the-uid"
    assert service["metadata"]["name"] == made["spec"]["template"]["spec"]["subdomain"]


def test_everything_of_the_recipe_is_in_the_job():
    made = job(EVERYTHING)
    spec = made["spec"]["template"]["spec"]
    payload, side = spec["containers"]
    assert payload["resources"]["limits"] == {
        "memory": "200Gi",
        "ephemeral-storage": "100Gi",
        "amd.com/gpu": "8",
        "rdma/hca": "1",
    }
    assert payload["resources"]["requests"]["cpu"] == "16"
    assert payload["envFrom"] == [{"secretRef": {"name": "object-store"}}]
    assert {"name": "AWS_ENDPOINT_URL", "value": "http://minio:9000"} in payload["env"]
    assert payload["volumeMounts"] == [{"name": "scratch", "mountPath": "/scratch", "readOnly": False}]
    assert spec["volumes"] == [{"name": "scratch", "persistentVolumeClaim": {"claimName": "scratch"}}]
    assert side["name"] == "side"
    assert spec["hostIPC"]
    assert (made["spec"]["completionMode"], made["spec"]["completions"]) == ("Indexed", 2)
    assert made["spec"]["activeDeadlineSeconds"] == 86400


def test_without_a_scratch_volume_there_is_one_that_vanishes_with_the_pod():
    spec = job()["spec"]["template"]["spec"]
    assert spec["volumes"] == [{"name": "scratch", "emptyDir": {}}]
    assert "activeDeadlineSeconds" not in job()["spec"]


def test_a_job_with_a_queue_waits_for_the_queue():
    made = job(queue="gpus")
    assert made["spec"]["suspend"]
    assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    assert not job()["spec"]["suspend"]


def test_a_pod_gets_no_token_of_the_cluster_and_no_rights_on_its_node():
    spec = job()["spec"]["template"]["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["containers"][0]["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def test_the_same_work_has_the_same_name_whoever_asks():
    assert work(run_id="one").job_name(1) == work(run_id="two", root_run_id="two").job_name(1)
    assert work().job_name(1) != work().job_name(2)


@pytest.mark.parametrize(
    "other",
    [
        work(identity(partition="demo-mistral")),
        work(identity(epochs=3)),
        work(identity(asset="base_models")),
        work(identity(), identity(partition="demo-mistral")),
        work(lake="s3://another"),
        work(force=True),
    ],
    ids=["partition", "version", "asset", "more partitions", "lake", "force"],
)
def test_other_work_has_another_name(other):
    assert other.job_name(1) != work().job_name(1)


def test_a_forced_build_is_the_work_of_its_run_and_its_retries():
    assert work(force=True, run_id="retry").job_name(1) == work(force=True).job_name(1)
    assert work(force=True, root_run_id="another").job_name(1) != work(force=True).job_name(1)


@given(st.text(), st.integers(1, 10**6))
def test_names_and_labels_are_what_kubernetes_allows(text, attempt):
    name = work(identity(asset="an_asset_with_a_name_that_is_much_too_long_for_kubernetes")).job_name(attempt)
    assert len(name) <= LONGEST_NAME
    kubernetes_validate.validate(job_object(work(), attempt, pod(), queue=None, environment={}, owners=[]), "1.37", strict=True)
    label = as_label(text)
    assert 0 < len(label) <= 63
    assert label[0].isalnum()
    assert label[-1].isalnum()


NAMED = st.lists(
    st.fixed_dictionaries({"name": st.sampled_from("abc"), "v": st.integers()}), max_size=3, unique_by=lambda d: d["name"]
)
OBJECTS = st.dictionaries(st.sampled_from("xyz"), st.integers() | NAMED | st.dictionaries(st.sampled_from("pq"), st.integers()))


@given(OBJECTS, OBJECTS)
def test_an_overlay_wins_wherever_it_speaks_and_changes_nothing_else(below, overlay):
    laid = overlaid(below, overlay)
    assert overlaid(laid, overlay) == laid
    assert overlaid(below, {}) == below
    assert overlaid({}, overlay) == overlay
    for key in below.keys() - overlay.keys():
        assert laid[key] == below[key]
    for key, value in overlay.items():
        if isinstance(value, int):
            assert laid[key] == value


def test_the_identity_of_the_work_can_be_read_from_its_labels():
    labels = job()["metadata"]["labels"]
    assert labels["definemed.io/asset"] == "cpt_checkpoints"
    assert labels["definemed.io/partition"] == "demo-qwen2"
    assert labels["definemed.io/version"] == identity().version
    assert labels["definemed.io/run-id"] == "run"
