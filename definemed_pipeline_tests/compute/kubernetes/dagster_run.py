"""A Dagster run of one asset whose payload is a Job, in this process or, as `python -m … CONFIG`, in a run worker of its own."""

import json
import sys
from pathlib import Path
from typing import Any

import dagster as dg

from definemed_pipeline.compute.kubernetes.client import KubernetesCompute
from definemed_pipeline.compute.kubernetes.settings import KubernetesSettings, PodSettings, VolumeSettings
from definemed_pipeline.defs.materialization import RETRIES, build_in_payload, result
from definemed_pipeline.defs.resources import Lake
from definemed_pipeline_tests.compute.kubernetes.steps import MODULE, Steps
from definemed_pipeline_tests.compute.kubernetes.works import IMAGE


def run(instance: dg.DagsterInstance, config: dict[str, Any]) -> dg.ExecuteInProcessResult:
    """Materialize `thing` as the configuration says (see `World` in conftest.py)."""
    section = Steps(**config["steps"])
    pod = {"image": IMAGE, **config["pod"]}
    pod["volumes"] = {name: VolumeSettings(**volume) for name, volume in pod["volumes"].items()}
    settings = KubernetesSettings(namespace="definemed", queue=config.get("queue"), defaults=PodSettings(**pod))

    @dg.asset(code_version="1-00000000", retry_policy=RETRIES if config.get("retries") else None)
    def thing(
        context: dg.AssetExecutionContext, lake: Lake, compute: dg.ResourceParam[KubernetesCompute]
    ) -> dg.MaterializeResult:
        return result(context, lake, build_in_payload(context, lake, compute, MODULE, section=section, inputs=[]))

    resources = {"lake": Lake(url=config["lake"]), "compute": KubernetesCompute(settings=settings, threads=1)}
    job = dg.Definitions(assets=[thing], resources=resources).resolve_implicit_job_def_def_for_assets([dg.AssetKey("thing")])
    assert job is not None
    return job.execute_in_process(instance=instance, run_id=config["run_id"], tags=config.get("tags", {}), raise_on_error=False)


if __name__ == "__main__":
    config = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    with dg.DagsterInstance.get() as instance:
        sys.exit(0 if run(instance, config).success else 1)
