import json
import random
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from definemed_pipeline.artifacts.manifest import Manifest
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.corpus.agreement import agreement
from definemed_pipeline.corpus.annotations import annotate, annotator_sources, draw
from definemed_pipeline.corpus.chat_settings import ChatAnnotator
from definemed_pipeline.corpus.lexicon import lexicon_location, read_lexicon
from definemed_pipeline.corpus.settings import AnnotationSettings
from definemed_pipeline.corpus.shards import FINEWEB2_SCHEMA
from definemed_pipeline.errors import UserError
from definemed_pipeline_tests.chat.endpoint import Reply, completion, running_endpoint
from definemed_pipeline_tests.conftest import REAL_TEXT, build_artifact
from definemed_pipeline_tests.corpus.shard_files import contents, documents, register, write_shard

MEDICAL = "Diagnose Pneumonie: Fieber und Husten, Therapie mit Antibiotika, Befund im Röntgen"
OTHER = "Die Brücke über den Fluss wurde am Sonntag feierlich eröffnet"


def web(size: int) -> pl.DataFrame:
    frame = documents([f"{MEDICAL if number % 5 == 0 else OTHER} {number}" for number in range(size)])
    return frame.with_columns(shard=pl.lit("s"), row=pl.int_range(size))


def annotated(store: Store, shards: list[Manifest], gold: str | None = None, **section: object) -> Manifest:
    sources = {"lexicon": lexicon_location("de_medical")} | ({"gold": gold} if gold else {})
    return build_artifact(store, "annotations", annotate, AnnotationSettings(**section), inputs=shards, sources=sources)  # type: ignore[arg-type]


def gold_file(folder: Path, labels: dict[str, bool | None]) -> str:
    path = folder / "gold.parquet"
    schema = {"id": pl.String, "is_medical": pl.Boolean}
    pl.DataFrame(list(labels.items()), schema=schema, orient="row").write_parquet(path)
    return str(path)


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 7), st.randoms(use_true_random=False))
def test_the_sample_does_not_depend_on_the_order_or_cut_of_the_documents(size: int, cut: int, chance: random.Random) -> None:
    whole = web(60)
    gold = whole["id"].head(5)
    order = list(range(60))
    chance.shuffle(order)
    expected = draw([whole], gold, size, seed=3)
    assert draw(whole[order].iter_slices(cut), gold, size, seed=3).equals(expected)
    assert expected["id"].is_sorted()
    assert expected["role"].value_counts().sort("role").rows() == [("gold", 5), ("sample", min(size, 55))]


def test_another_seed_draws_another_sample() -> None:
    samples = [set(draw([web(200)], pl.Series([], dtype=pl.String), 20, seed)["id"]) for seed in (0, 1)]
    assert len(samples[0] & samples[1]) < 10


def test_a_larger_sample_holds_the_smaller_one() -> None:
    small, large = (set(draw([web(200)], pl.Series([], dtype=pl.String), size, 0)["id"]) for size in (20, 50))
    assert small < large


def test_documents_without_text_and_copies_of_gold_are_not_sampled_and_an_id_is_drawn_once() -> None:
    frame = documents([None, " ", "gold text", "gold text", "free text", "free text"], ids=["a", "b", "g", "copy", "e", "e"])
    drawn = draw([frame.with_columns(shard=pl.lit("s"), row=pl.int_range(6))], pl.Series(["g"]), 10, 0)
    assert drawn.select("id", "role").rows() == [("e", "sample"), ("g", "gold")]


def test_annotations_carry_the_documents_their_role_and_both_labels(store: Store, tmp_path: Path) -> None:
    shards = register(
        store,
        *(
            write_shard(
                tmp_path, name, documents([MEDICAL, OTHER, None, f"{OTHER} {name}"], ids=[f"{name}{i}" for i in range(4)])
            )
            for name in "xy"
        ),
    )
    gold = gold_file(tmp_path, {"x0": True, "x1": True, "y0": None, "elsewhere": False})
    manifest = annotated(store, shards, gold, sample_size=10)
    table = pl.read_parquet(store.folder(manifest) / "annotations.parquet")
    assert table.columns == [*FINEWEB2_SCHEMA, "role", "annotator_score", "is_medical", "gold_is_medical"]
    # y1 repeats the text of x1, a gold document, so it is not sampled
    assert table.select("id", "role", "is_medical", "gold_is_medical").rows() == [
        ("x0", "gold", True, True),
        ("x1", "gold", False, True),
        ("x3", "sample", False, None),
        ("y0", "gold", True, None),
        ("y3", "sample", False, None),
    ]


def test_the_annotator_is_measured_on_decided_gold_documents(store: Store, tmp_path: Path) -> None:
    (shard,) = register(store, write_shard(tmp_path, "s", web(50).select(*FINEWEB2_SCHEMA)))
    ids = web(50)["id"]
    gold = gold_file(
        tmp_path, {ids[0]: True, ids[5]: True, ids[10]: False, ids[1]: True, ids[2]: False, ids[3]: None, "none": True}
    )
    manifest = annotated(store, [shard], gold, sample_size=20)
    wanted = {"sample_documents": 20, "gold_documents": 6, "gold_undecided": 1, "gold_not_in_shards": 1}
    assert wanted.items() <= manifest.metrics.items()
    assert (manifest.metrics["precision"], manifest.metrics["recall"]) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    written = json.loads((store.folder(manifest) / "agreement.json").read_text())
    assert written["kappa"] == manifest.metrics["kappa"]


def test_without_gold_labels_nothing_is_claimed_about_the_annotator(store: Store, tmp_path: Path) -> None:
    (shard,) = register(store, write_shard(tmp_path, "s", web(50).select(*FINEWEB2_SCHEMA)))
    manifest = annotated(store, [shard], sample_size=10)
    assert "precision" not in manifest.metrics
    assert 0 <= manifest.metrics["prevalence_low"] <= manifest.metrics["prevalence"] <= manifest.metrics["prevalence_high"] <= 1


def test_two_runs_write_the_same_bytes(tmp_path: Path) -> None:
    file = write_shard(tmp_path, "s", web(50).select(*FINEWEB2_SCHEMA))
    stores = [Store(str(tmp_path / name)) for name in "ab"]
    first, second = (contents(store.folder(annotated(store, register(store, file), sample_size=10))) for store in stores)
    assert first == second


def test_shards_without_a_text_to_sample_are_refused(store: Store, tmp_path: Path) -> None:
    shards = register(store, write_shard(tmp_path, "s", documents([None, " "])))
    with pytest.raises(UserError, match="no document is left to sample"):
        annotated(store, shards, sample_size=10)


@pytest.mark.real_text
def test_the_lexicon_finds_medicine_in_real_text(record_property: Callable[[str, object], None]) -> None:
    web = (
        pl.read_parquet(REAL_TEXT / "0*.parquet")
        .join(pl.read_parquet(REAL_TEXT / "labels.parquet"), on="id")
        .drop_nulls("is_medical")
    )
    scores = read_lexicon(lexicon_location("de_medical")).score(web["text"])
    figures = agreement(web["is_medical"], scores >= AnnotationSettings().annotator.threshold)
    record_property("annotator", figures)
    assert figures["precision"] is not None
    assert figures["precision"] >= 0.90
    assert figures["recall"] is not None
    assert figures["recall"] >= 0.80


def test_a_chat_model_annotates_and_what_it_leaves_open_is_left_out(store: Store, tmp_path: Path) -> None:
    """The chat annotator inside the asset's work function, against a real server; documents without a verdict train nothing."""
    frame = documents([f"{word} {number}" for number in range(4) for word in ("Therapie", "Spiel", "Weder noch")])
    shards = register(store, write_shard(tmp_path, "000_00000.parquet", frame))

    def reply(question: str) -> Reply:
        return completion("ja" if "Therapie" in question else "nein" if "Spiel" in question else "Das kommt darauf an.")

    with running_endpoint(reply) as endpoint:
        annotator = ChatAnnotator(endpoint=endpoint.settings())
        section = AnnotationSettings(annotator=annotator, sample_size=12)
        manifest = build_artifact(store, "annotations", annotate, section, inputs=shards, sources=annotator_sources(annotator))
    table = pl.read_parquet(store.folder(manifest) / "annotations.parquet")
    assert table["is_medical"].to_list().count(True) == table["is_medical"].to_list().count(False) == 4
    assert manifest.metrics["without_verdict"] == 4
    assert manifest.metrics["requests"] == 12
