"""Works and settings for the tests of Jobs."""

from typing import Any

from definemed_pipeline.artifacts.manifest import Identity
from definemed_pipeline.compute.kubernetes.objects import Work
from definemed_pipeline.compute.kubernetes.settings import PodSettings
from definemed_pipeline.payload import Spec

IMAGE = "registry.example.org/definemed-code:1.0.0"


def identity(asset: str = "cpt_checkpoints", partition: str = "demo-qwen2", **settings: Any) -> Identity:
    return Identity(
        asset=asset,
        partition=partition,
        code_version="1",
        settings=settings,
        settings_digest=str(settings),
        inputs=(),
        sources=(),
    )


def work(*identities: Identity, run_id: str = "run", root_run_id: str = "run", lake: str = "s3://lake", **spec: Any) -> Work:
    told = Spec(
        lake=lake,
        scratch="/scratch",
        recipe="test",
        run_id=run_id,
        force=spec.pop("force", False),
        identities=identities or (identity(),),
        **spec,
    )
    return Work(module="definemed_pipeline.training.cpt", spec=told, run_id=run_id, root_run_id=root_run_id)


def pod(**settings: Any) -> PodSettings:
    from definemed_pipeline.compute.kubernetes.settings import BUILT_IN

    return PodSettings(**{"image": IMAGE, **settings}).over(BUILT_IN)
