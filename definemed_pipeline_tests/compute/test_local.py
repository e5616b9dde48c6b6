from pathlib import Path

import dagster as dg
import pytest

from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.compute.local import LocalCompute
from definemed_pipeline.corpus.sources.settings import ParquetSource
from definemed_pipeline.payload import Spec
from definemed_pipeline_tests.conftest import RECIPE, identity_of


@pytest.mark.slow
def test_a_payload_that_crashes_says_how_and_its_log_says_at_what(store: Store) -> None:
    identities = tuple(identity_of("thing", ParquetSource(files=("x",)), partition=name) for name in ("first", "second", "third"))
    spec = Spec(lake=store.url, scratch=str(store.scratch), recipe=RECIPE, run_id="test", force=False, identities=identities)
    failures: list[dg.Failure] = []

    @dg.asset
    def thing(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        try:
            LocalCompute(threads=1).run(context, "definemed_pipeline_tests.compute.crashing", spec)
        except dg.Failure as failure:
            failures.append(failure)
        return dg.MaterializeResult()

    assert dg.materialize([thing]).success
    (failure,) = failures
    assert failure.description is not None
    assert "crashing crashed (SIGSEGV); its output, which names what it was building: " in failure.description
    assert failure.allow_retries  # as often as the asset's retry policy says
    tail = Path(failure.description.rpartition(": ")[2]).read_text()
    assert "building thing[second]" in tail
    assert "crashing.py" in tail  # where it happened
    assert "third" not in tail
    assert [(store.latest(RECIPE, "thing", one.partition) is not None) for one in identities] == [True, False, False]
    assert not list(Path(store.root).glob("thing/second/*"))
