"""Lakes to test against: a folder and a bucket."""

from pathlib import Path

import pytest

from definemed_pipeline.artifacts.store import Store


@pytest.fixture(params=["folder", "s3"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return Store(str(tmp_path / "lake"))
    return Store(request.getfixturevalue("bucket"), scratch=tmp_path / "scratch")
