"""Lineage is read from manifests alone and says where it ends."""

import shutil
from pathlib import Path

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.artifacts.lineage import lineage_of
from definemed_pipeline.settings import settings
from definemed_pipeline_tests.conftest import build_artifact


@settings
class Nothing:
    pass


def write_name(draft: Draft[Nothing]) -> None:
    (draft.folder / "name").write_text(draft.identity.asset + draft.identity.partition)


def test_the_tree_names_every_artifact_and_source_behind_an_artifact(store, tmp_path):
    (tmp_path / "web.parquet").write_text("web")
    shards = [
        build_artifact(store, "shards", write_name, Nothing(), partition=p, sources={"web": str(tmp_path / "web.parquet")})
        for p in ("a", "b")
    ]
    labels = build_artifact(store, "labels", write_name, Nothing(), inputs=shards)
    corpus = build_artifact(store, "corpus", write_name, Nothing(), inputs=[*shards, labels])
    tree = lineage_of(store, corpus)
    assert [one.name for one in tree.inputs] == ["shards[a]", "shards[b]", "labels"]
    assert {node.name for node in tree.walk()} == {"corpus", "labels", "shards[a]", "shards[b]"}
    assert [source.name for source in tree.inputs[0].sources] == ["web"]


def test_an_input_that_has_left_the_lake_is_shown_as_gone(store):
    first = build_artifact(store, "first", write_name, Nothing())
    second = build_artifact(store, "second", write_name, Nothing(), inputs=[first])
    shutil.rmtree(Path(store.uri(first)))
    (gone,) = lineage_of(store, second).inputs
    assert gone.manifest is None
    assert gone.version == first.version
