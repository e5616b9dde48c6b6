from collections.abc import Iterator

import pytest

from definemed_pipeline_tests.chat.endpoint import Endpoint, running_endpoint


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with running_endpoint() as running:
        yield running
