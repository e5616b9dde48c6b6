"""The audit's check pools the shards that were scored with the certificate at hand, from their manifests alone."""

import dataclasses
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from definemed_pipeline.artifacts.build import build
from definemed_pipeline.artifacts.manifest import Manifest
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.corpus.classifier.settings import CascadeCertificateSettings
from definemed_pipeline.defs.corpus import classifier_scores
from definemed_pipeline.defs.resources import Lake
from definemed_pipeline.recipe import active_recipe
from definemed_pipeline_tests.conftest import identity_of

SHARDS = ("000_00000", "000_00001", "000_00002")
SHARE = classifier_scores.SECTION.audit_share


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(url=str(tmp_path / "lake"))


def artifact(store: Store, asset: str, section: Any, metrics: dict[str, Any], **identity: Any) -> Manifest:
    def work(draft: Any) -> None:
        draft.write_json("about.json", {"section": str(section)})
        draft.metrics |= metrics

    return build(
        store, identity_of(asset, section, **identity), work, settings=section, recipe=active_recipe().name, run_id="test"
    ).manifest


def certificate(lake: Lake, target: float = 0.95, *, certified: bool = True) -> Manifest:
    metrics = {"target_recall": target, "confidence": 0.95, "certified": certified}
    return artifact(lake.store, "cascade_certificate", CascadeCertificateSettings(target_recall=target), metrics)


def scored(lake: Lake, under: Manifest, partition: str, *, positives: int, misses: int, share: float = SHARE) -> None:
    metrics = {"documents": 10_000, "rejected": 9_000, "audited": 900, "positives": positives, "audit_misses": misses}
    section = dataclasses.replace(classifier_scores.SECTION, audit_share=share)
    artifact(lake.store, "classifier_scores", section, metrics | {"audit_share": share}, inputs=[under], partition=partition)


def audit(lake: Lake, under: Manifest) -> dg.AssetCheckResult:
    return classifier_scores._audit(lake, under)


def test_no_single_shard_refutes_what_all_of_them_together_do(lake: Lake) -> None:
    under = certificate(lake)
    for number, shard in enumerate(SHARDS, 1):
        scored(lake, under, shard, positives=400, misses=6)  # some 60 missed of 460: recall is about 0.87
        found = audit(lake, under)
        assert found.metadata["shards"].value == number
        if number == 1:
            assert found.passed
    assert not found.passed
    assert found.severity == dg.AssetCheckSeverity.ERROR
    assert found.metadata["relative_recall_high"].value < 0.95
    assert 0.75 < found.metadata["relative_recall"].value < 0.9  # type: ignore[operator]


def test_shards_of_another_certificate_or_another_share_do_not_count(lake: Lake) -> None:
    old = certificate(lake, 0.9)
    scored(lake, old, SHARDS[0], positives=400, misses=300)
    new = certificate(lake)
    scored(lake, new, SHARDS[1], positives=400, misses=1)
    scored(lake, new, SHARDS[2], positives=400, misses=300, share=SHARE / 2)
    found = audit(lake, new)
    assert found.passed
    assert found.metadata["shards"].value == 1


def test_where_nothing_is_rejected_there_is_nothing_to_refute(lake: Lake) -> None:
    under = certificate(lake, certified=False)
    scored(lake, under, SHARDS[0], positives=400, misses=0)
    assert audit(lake, under).passed
