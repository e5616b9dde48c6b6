"""What code and which libraries are running: recorded in each manifest, never part of a version."""

import functools
import importlib.metadata
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from definemed_pipeline.artifacts.manifest import Provenance
from definemed_pipeline.settings import digest_of


def current_provenance(run_id: str) -> Provenance:
    """Return the provenance of an artifact that is finished now, in this process."""
    packages = environment()
    return Provenance(
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        run_id=run_id,
        code_commit=code_commit(),
        environment_digest=digest_of(packages),
        environment=packages,
    )


@functools.cache
def environment() -> dict[str, str]:
    """Return Python's version, the machine and every installed distribution with its version."""
    described = (distribution.metadata for distribution in importlib.metadata.distributions())  # parsed anew at every access
    installed = {metadata["Name"].lower(): metadata["Version"] for metadata in described if metadata["Name"]}
    return {"python": platform.python_version(), "machine": platform.machine(), **dict(sorted(installed.items()))}


@functools.cache
def code_commit() -> str:
    """Return the commit of the running code (`DEFINEMED_COMMIT` in images), marked where files were changed since."""
    if commit := os.environ.get("DEFINEMED_COMMIT"):
        return commit
    package = Path(__file__).resolve().parents[1]
    commit = _git("rev-parse", "HEAD", cwd=package)
    if not commit:
        return "unknown"
    return f"{commit}+changes" if _git("status", "--porcelain", "--", ".", cwd=package) else commit


def _git(*arguments: str, cwd: Path) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=cwd, capture_output=True, text=True, check=False)
    except OSError:  # no git on this machine
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
