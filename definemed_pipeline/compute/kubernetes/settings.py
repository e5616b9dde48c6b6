"""How payloads become Jobs: the recipe's `compute.kubernetes`. Part of no version, as all of `compute`."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from definemed_pipeline.settings import setting, settings

SECRET_WORDS = ("TOKEN", "SECRET", "PASSWORD", "ACCESS_KEY", "API_KEY")


@settings
class VolumeSettings:
    """A volume and where the payload sees it. `source` is the volume as a pod spec has it, without its name."""

    mount_path: str
    source: dict[str, Any]
    read_only: bool = False


@settings
class PodSettings:
    """What one payload's pods ask for. What is left out comes from `defaults`, and what stands nowhere from `BUILT_IN`.

    Quantities are written as Kubernetes writes them ("500m", "16Gi"). `nodes` is how many pods train together, `gpus` how many devices of
    `gpu_resource` each has. `secrets` names Secrets whose keys become environment variables; their values are never seen here. `scratch` is where
    unfinished work lies in the pod: a volume mounted there, or one that vanishes with the pod. `pod_overlay` is laid over the pod spec as a
    strategic merge: mappings key by key, containers, volumes and the like by name, anything else replaced.
    """

    image: str | None = None
    image_pull_policy: str | None = None
    nodes: int | None = setting(default=None, at_least=1)
    gpus: int | None = setting(default=None, at_least=0)
    gpu_resource: str | None = None
    cpu: str | None = None
    memory: str | None = None
    ephemeral_storage: str | None = None
    node_selector: dict[str, str] = setting(factory=dict)
    tolerations: list[dict[str, Any]] = setting(factory=list)
    service_account: str | None = None
    volumes: dict[str, VolumeSettings] = setting(factory=dict)
    secrets: list[str] = setting(factory=list)
    environment: dict[str, str] = setting(factory=dict)
    priority_class: str | None = None
    active_deadline_seconds: int | None = setting(default=None, at_least=1)
    ttl_seconds_after_finished: int | None = setting(default=None, at_least=60)  # or a Job might go before its outcome is read
    backoff_limit: int | None = setting(default=None, at_least=0)
    grace_seconds: int | None = setting(default=None, at_least=0)
    scratch: str | None = None
    pod_overlay: dict[str, Any] = setting(factory=dict)

    def __post_init__(self) -> None:
        for name in self.environment:
            if any(word in name.upper() for word in SECRET_WORDS):
                raise ValueError(
                    f"environment holds {name}; a recipe keeps no secrets: put it into a Secret and name that in `secrets`"
                )

    def over(self, below: "PodSettings") -> "PodSettings":
        """Return these settings laid over others: mappings key by key, anything else as a whole where it is given."""
        merged: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            own, theirs = getattr(self, field.name), getattr(below, field.name)
            if isinstance(own, Mapping):
                merged[field.name] = {**theirs, **own}
            else:
                merged[field.name] = theirs if own in (None, []) else own
        return PodSettings(**merged)


BUILT_IN = PodSettings(
    image_pull_policy="IfNotPresent",
    nodes=1,
    gpus=0,
    gpu_resource="nvidia.com/gpu",
    cpu="1",
    memory="4Gi",
    ttl_seconds_after_finished=3600,
    backoff_limit=3,
    grace_seconds=120,
    scratch="/scratch",
)


@settings
class KubernetesSettings:
    """Recipe section `compute.kubernetes`.

    `context` names one of the kubeconfig's; without it the cluster this process runs in is taken, else the kubeconfig's current one. `queue` is a
    Kueue LocalQueue; Jobs are then created suspended and wait as long as the queue lets them. `payloads` goes by asset.
    """

    namespace: str = "definemed"
    context: str | None = None
    queue: str | None = None
    defaults: PodSettings = setting(factory=PodSettings)
    payloads: dict[str, PodSettings] = setting(factory=dict)

    def pod(self, asset: str) -> PodSettings:
        """Return what an asset's payload asks for. Raise ValueError where it names no image."""
        found = self.payloads.get(asset, PodSettings()).over(self.defaults.over(BUILT_IN))
        if found.image is None:
            raise ValueError(f"compute.kubernetes names no image for {asset}; set defaults.image or payloads.{asset}.image")
        return found
