"""The demo world of the default seed, built once for all tests of this folder."""

import pytest

from definemed_pipeline.demo.world import World, world


@pytest.fixture(scope="session")
def demo() -> World:
    return world()
