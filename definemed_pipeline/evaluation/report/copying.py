"""A copy of the page for people, outside the lake, and whether it is of the latest results."""

import shutil
from pathlib import Path

from definemed_pipeline.artifacts.manifest import UNPARTITIONED, Manifest
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.errors import UserError
from definemed_pipeline.evaluation.report.page import PAGE

COPY = "definemed-report.html"


def copy_page(store: Store, report: Manifest, to: Path | None) -> Path | str:
    """Copy the page to a file, or into a folder as `definemed-report.html`, and return where it is; without a place, where the lake has it.

    Raise UserError where the place cannot be written.
    """
    if to is None:
        return f"{store.uri(report)}/{PAGE}"
    place = to / COPY if to.is_dir() else to
    try:
        shutil.copyfile(store.folder(report) / PAGE, place)
    except OSError as error:
        raise UserError(
            f"the page cannot be written to {place}: {error.strerror}; name a file in a folder that exists"
        ) from error
    return place.resolve()


def older_than(store: Store, recipe: str, report: Manifest) -> list[str]:
    """Return the artifacts the page tells of that have changed since."""
    latest = ((one, store.latest(recipe, one.asset, one.partition)) for one in report.identity.inputs)
    return [
        one.asset if one.partition == UNPARTITIONED else f"{one.asset}[{one.partition}]"
        for one, now in latest
        if now is not None and now.digest != one.digest
    ]
