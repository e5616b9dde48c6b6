"""The refresh: new and changed files only, the corpus once, a model never, and a word where there is nothing to do."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import dagster as dg
import pytest

from definemed_pipeline.artifacts.build import build
from definemed_pipeline.artifacts.manifest import Manifest
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.corpus.sources.listing import files_of, refresh_listing
from definemed_pipeline.corpus.sources.settings import ParquetSource
from definemed_pipeline.definitions import build_definitions
from definemed_pipeline.defs.jobs import MODELS
from definemed_pipeline.defs.partitions import neighbours
from definemed_pipeline.defs.resources import Lake
from definemed_pipeline.defs.schedules import weekly_refresh
from definemed_pipeline.defs.sensors import CORPUS, PER_SHARD, corpus_refresh
from definemed_pipeline.recipe import active_recipe
from definemed_pipeline_tests.conftest import identity_of
from definemed_pipeline_tests.corpus.shard_files import documents, write_shard

SECTION = active_recipe().classifier_scores  # any section will do for artifacts that stand for others


class World:
    """A folder of files, a lake and a Dagster instance; `tick` is what the daemon does every minute."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Store(str(folder / "lake"))
        self.instance = dg.DagsterInstance.ephemeral()
        self.cursor: str | None = None
        for asset in ("medical_classifier", "cascade_certificate"):
            self.publish(asset)

    def write(self, *shards: str, text: str = "Der Arzt hilft.") -> None:
        for shard in shards:
            write_shard(self.folder / "web", shard, documents([f"{text} {shard}"]))

    def list(self) -> Manifest:
        source = ParquetSource(files=(str(self.folder / "web" / "*.parquet"),))
        return refresh_listing(self.store, active_recipe().name, source, run_id="test")

    def publish(self, asset: str, partition: str = "_", *, inputs: Iterable[Manifest] = (), text: str = "") -> Manifest:
        """Publish an artifact as a run of the asset would."""
        identity = identity_of(asset, SECTION, partition=partition, inputs=inputs)
        return self._build(identity, text)

    def _build(self, identity, text: str) -> Manifest:
        def work(draft) -> None:
            (draft.folder / "content.txt").write_text(text)

        return build(self.store, identity, work, settings=SECTION, recipe=active_recipe().name, run_id="test").manifest

    def follow(self, *shards: str) -> None:
        """Do what the requested runs of some shards would."""
        files = files_of(self.store, self.list())
        for shard in shards:
            source = files[shard].identify(self.store.scratch)
            identity = identity_of(PER_SHARD[0], SECTION, partition=shard)
            identity = dataclasses.replace(identity, sources=(source,))
            made = self._build(identity, source.digest)
            for asset in PER_SHARD[1:]:
                made = self.publish(asset, shard, inputs=[made], text=f"{asset} {made.digest}")

    def assemble(self) -> None:
        """Do what the requested run of FineMed-de would."""
        shards = files_of(self.store, self.list())
        latest = [self.store.latest(active_recipe().name, PER_SHARD[-1], shard) for shard in shards]
        self.publish(CORPUS, inputs=[one for one in latest if one], text=str([one and one.digest for one in latest]))

    def tick(self) -> dg.SensorResult:
        """Evaluate the sensor once, keep its cursor and register the partitions it asks for."""
        context = dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, definitions=build_definitions(), sensor_name=corpus_refresh.name
        )
        found = corpus_refresh(context, lake=Lake(url=self.store.url))
        if isinstance(found, dg.SkipReason):
            return dg.SensorResult(skip_reason=found)
        self.cursor = found.cursor or self.cursor
        for request in found.dynamic_partitions_requests or []:
            self.instance.add_dynamic_partitions(request.partitions_def_name, list(request.partition_keys))
        return found

    def finish(self, *shards: str) -> None:
        """Bring the corpus up to the latest listing, as the requested runs would."""
        self.list()
        self.tick()
        self.follow(*shards)
        self.tick()
        self.assemble()
        self.tick()


def ranges(found: dg.SensorResult) -> list[tuple[str, str]]:
    return [
        (request.tags["dagster/asset_partition_range_start"], request.tags["dagster/asset_partition_range_end"])
        for request in found.run_requests or []
    ]


def said(found: dg.SensorResult) -> str:
    assert not found.run_requests
    reason = found.skip_reason
    return reason.skip_message if isinstance(reason, dg.SkipReason) else str(reason)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_source_that_was_never_listed_is_told(world):
    assert "never listed" in said(world.tick())


def test_without_a_classifier_nothing_is_requested(tmp_path):
    world = World.__new__(World)
    world.folder, world.store = tmp_path, Store(str(tmp_path / "lake"))
    world.instance, world.cursor = dg.DagsterInstance.ephemeral(), None
    world.write("a")
    world.list()
    assert "medical_classifier is not in the lake: run the job corpus once" in said(world.tick())


def test_new_files_become_partitions_and_share_a_run(world):
    world.write("a", "b")
    world.list()
    assert ranges(world.tick()) == [("a", "b")]
    assert set(world.instance.get_dynamic_partitions("fineweb2_shard")) == {"a", "b"}


def test_what_was_requested_is_not_requested_again_even_if_its_run_failed(world):
    world.write("a", "b")
    world.list()
    world.tick()
    world.follow("a")
    assert "1 shards are under way, or their runs failed (see Runs): b" in said(world.tick())


def test_the_corpus_is_built_once_after_the_last_shard(world):
    world.write("a", "b")
    world.list()
    world.tick()
    world.follow("a", "b")
    requests = world.tick().run_requests
    assert [request.job_name for request in requests] == ["assemble_corpus"]
    assert "FineMed-de is under way" in said(world.tick())
    world.assemble()
    assert "no news: FineMed-de is built from all 2 files" in said(world.tick())
    assert "no news" in said(world.tick())


def test_a_listing_without_news_does_nothing_and_says_so(world):
    world.write("a", "b")
    world.finish("a", "b")
    world.list()
    assert "no news: FineMed-de is built from all 2 files of the latest listing" in said(world.tick())


def test_only_the_new_file_is_requested(world):
    world.write("a", "b")
    world.finish("a", "b")
    world.write("c")
    world.list()
    assert ranges(world.tick()) == [("c", "c")]


def test_only_the_changed_file_is_requested_and_followed_through(world):
    world.write("a", "b")
    world.finish("a", "b")
    world.write("b", text="Die Ärztin hilft.")
    world.list()
    assert ranges(world.tick()) == [("b", "b")]
    world.follow("b")
    assert [request.job_name for request in world.tick().run_requests] == ["assemble_corpus"]


def test_a_changed_file_whose_documents_are_the_same_leaves_the_corpus_as_it_is(world):
    world.write("a", "b")
    world.finish("a", "b")
    world.write("b", text="Die Ärztin hilft.")
    world.list()
    world.tick()
    files = files_of(world.store, world.list())
    same = world.store.latest(active_recipe().name, PER_SHARD[0], "b")
    identity = identity_of(PER_SHARD[0], SECTION, partition="b")
    identity = dataclasses.replace(identity, sources=(files["b"].identify(world.store.scratch),))
    assert world._build(identity, (Path(world.store.uri(same)) / "content.txt").read_text()).digest == same.digest
    assert "no news" in said(world.tick())


def test_a_shard_whose_run_stopped_half_way_is_due_with_the_next_listing(world):
    world.write("a", "b")
    world.finish("a", "b")
    pointer = next((world.folder / "lake" / PER_SHARD[-1] / "a").glob("latest-*.json"))
    pointer.unlink()
    world.write("c")
    world.list()
    assert ranges(world.tick()) == [("a", "a"), ("c", "c")]


def test_a_file_that_was_taken_away_leaves_the_corpus(world):
    world.write("a", "b")
    world.finish("a", "b")
    (world.folder / "web" / "b.parquet").unlink()
    world.list()
    assert [request.job_name for request in world.tick().run_requests] == ["assemble_corpus"]


def test_no_job_of_the_refresh_starts_a_model(world):
    definitions = build_definitions()
    models = MODELS.resolve(definitions.resolve_asset_graph())
    for target in [*corpus_refresh.targets, weekly_refresh]:
        job = definitions.resolve_job_def(target.job_name)
        assert not set(job.asset_layer.executable_asset_keys) & models


def test_the_schedule_asks_for_a_listing_once_a_week():
    context = dg.build_schedule_context(instance=dg.DagsterInstance.ephemeral())
    tick = weekly_refresh.evaluate_tick(context)
    assert weekly_refresh.job_name == "list_source"
    assert weekly_refresh.cron_schedule == active_recipe().refresh.cron == "0 3 * * 1"
    assert len(tick.run_requests) == 1


def test_a_run_never_reaches_over_a_shard_it_is_not_to_take():
    assert neighbours(["a", "c", "d"], ["a", "b", "c", "d"], 16) == [("a",), ("c", "d")]
    assert neighbours(["a", "b", "c"], ["a", "b", "c"], 2) == [("a", "b"), ("c",)]
    assert neighbours([], ["a"], 2) == []
