"""Checkpoints that a kill cannot spoil: one counts only once it is sealed with the checksums of its files.

The Trainer writes its checkpoint folders in place, so a killed process leaves one that looks whole. It keeps optimiser, schedule and
random state in torch's pickle format and reads them with `weights_only=True`, which runs no code; none of it enters an artifact.
Standard library only.
"""

import json
import shutil
from pathlib import Path

from definemed_pipeline.artifacts.files import written_whole
from definemed_pipeline.artifacts.store import sha256_of

PREFIX = "checkpoint-"
SEAL = "seal.json"


def seal(checkpoint: Path) -> None:
    """Record the checksums of a finished checkpoint, atomically."""
    digests = {
        path.relative_to(checkpoint).as_posix(): sha256_of(path) for path in sorted(checkpoint.rglob("*")) if path.is_file()
    }
    with written_whole(checkpoint / SEAL) as unfinished:
        unfinished.write_text(json.dumps(digests, indent=2), "utf-8")


def newest_intact(folder: Path) -> Path | None:
    """Return the newest checkpoint whose files match its seal, and remove newer ones that do not; None where there is none."""
    found = [path for path in folder.glob(f"{PREFIX}*") if path.name.removeprefix(PREFIX).isdigit()]
    for checkpoint in sorted(found, key=lambda path: int(path.name.removeprefix(PREFIX)), reverse=True):
        if _is_intact(checkpoint):
            return checkpoint
        shutil.rmtree(checkpoint)
    return None


def _is_intact(checkpoint: Path) -> bool:
    try:
        digests = json.loads((checkpoint / SEAL).read_text("utf-8"))
        return all(sha256_of(checkpoint / name) == digest for name, digest in digests.items())
    except (OSError, ValueError):
        return False
