"""One continual pre-training as its processes pass it on: what each of them is told, and what the first one tells. Light to import.

The payload (`cpt.py`) knows artifacts and starts the processes (`processes.py`); what each of them does is `train_model.py`.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from definemed_pipeline.training.settings import CptCheckpointsSettings, TrainingExecutionSettings


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """What a training process is told.

    `name` is the base model's. Paths are of the process' own machine; `mirror` is where a remote lake keeps checkpoints.
    """

    name: str
    base: Path
    corpus: Path
    output: Path
    checkpoints: Path
    mirror: str | None
    settings: CptCheckpointsSettings
    execution: TrainingExecutionSettings

    @property
    def stop_file(self) -> Path:
        """The file by whose being there the training is asked to stop."""
        return self.checkpoints / "stop"

    def to_json(self) -> str:
        """Return the job as text that another process reads."""
        return json.dumps(dataclasses.asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> "TrainingJob":
        """Read a job back."""
        plain: dict[str, Any] = json.loads(text)
        folders = {name: Path(plain[name]) for name in ("base", "corpus", "output", "checkpoints")}
        execution = TrainingExecutionSettings(**plain["execution"])
        return cls(**{**plain, **folders, "settings": CptCheckpointsSettings.parse(plain["settings"]), "execution": execution})


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a training tells beside the files it wrote: figures for the manifest, and the speed of every step."""

    metrics: dict[str, Any]
    speed: list[dict[str, Any]]
