"""Where payloads run. Never part of an artifact's version: the same work gives the same bytes wherever it runs."""

from typing import Literal

from definemed_pipeline.compute.kubernetes.settings import KubernetesSettings
from definemed_pipeline.settings import setting, settings
from definemed_pipeline.training.settings import TrainingExecutionSettings


@settings
class ComputeSettings:
    """Recipe section `compute`.

    `threads` is what each payload may use; one thread gives the same bytes on every machine of a kind, whatever its number of
    cores. Tokenising a corpus, whose bytes do not depend on it, takes every core. `concurrency` is how many runs `definemed run` keeps going at once. `shards_per_run` is how many shards one
    run, and with it one process, takes. `training` is how continual pre-training uses its devices.
    """

    backend: Literal["local", "kubernetes"] = "local"
    threads: int = setting(1, at_least=1)
    concurrency: int = setting(2, at_least=1)
    shards_per_run: int = setting(16, at_least=1)
    training: TrainingExecutionSettings = setting(factory=TrainingExecutionSettings)
    kubernetes: KubernetesSettings = setting(factory=KubernetesSettings)
