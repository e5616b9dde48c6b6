import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from definemed_pipeline.corpus.annotation.sampling import Drawn, allocate, apportion, draw
from definemed_pipeline.corpus.annotation.sampling_frames import FRAME_SCHEMA
from definemed_pipeline.corpus.settings import AnnotationSettings, SamplingFrameSettings
from definemed_pipeline.keyed_hash import keyed_hash

BINS = {"none": 0.0, "low": 0.1, "high": 0.5}
FRAME = SamplingFrameSettings(score_bins=BINS)
SHARES = {"none": 0.5, "low": 0.2, "high": 0.3}
NO_GOLD = pl.Series([], dtype=pl.String)


def section(sample: int, hold_out: int = 0, unlabelled: int = 0) -> AnnotationSettings:
    return AnnotationSettings(sample_size=sample, hold_out_size=hold_out, unlabelled_size=unlabelled, sample_shares=SHARES)


def web(size: int, dumps: int = 3, shards: int = 4) -> dict[str, pl.DataFrame]:
    """Return frames of a web in which a tenth of the documents score high."""
    number = pl.int_range(size)
    ids = [f"id{i}" for i in range(size)]
    whole = pl.DataFrame({"id": ids}).with_columns(
        row=number,
        key=keyed_hash(ids, 0),
        text_key=keyed_hash((f"text {i}" for i in ids), 0),
        dump=pl.format("D{}", number % dumps),
        score_bin=pl.when(number % 10 == 0).then(2).when(number % 10 < 3).then(1).otherwise(0).cast(pl.UInt8),
    )
    return {f"s{i}": whole.gather_every(shards, i) for i in range(shards)}


def save(folder: Path, frames: dict[str, pl.DataFrame]) -> dict[str, Path]:
    paths = {}
    for name, frame in frames.items():
        paths[name] = folder / f"{name}.parquet"
        frame.select(pl.col(column).cast(dtype) for column, dtype in FRAME_SCHEMA.items()).sort("key").write_parquet(
            paths[name], row_group_size=7
        )
    return paths


def drawn(
    folder: Path, frames: dict[str, pl.DataFrame], settings: AnnotationSettings, gold: Sequence[str] = (), **how: Any
) -> Drawn:
    return draw(save(folder, frames), pl.Series(gold, dtype=pl.String), settings, FRAME, **how)


def keys(found: Drawn, role: str) -> list[int]:
    return found.documents.filter(role=role)["key"].sort().to_list()


def weights_sum(found: Drawn) -> pl.DataFrame:
    """Return per stratum the sum of the sample's inclusion weights and the population they should reproduce."""
    counts = found.documents.filter(role="sample").group_by("stratum").len()
    return found.strata.join(counts, on="stratum", how="left", maintain_order="left")


def test_the_hold_out_and_the_unlabelled_sample_are_the_smallest_keys_of_the_whole_web(tmp_path: Path) -> None:
    frames = web(400)
    found = drawn(tmp_path, frames, section(60, hold_out=30, unlabelled=50))
    everyone = pl.concat(frames.values())["key"].sort().to_list()
    assert keys(found, "hold_out") == everyone[:30]
    assert keys(found, "unlabelled") == everyone[30:80]
    assert min(keys(found, "sample")) > everyone[79]
    assert found.eligible == 400


def test_no_document_is_in_two_samples_and_all_are_told_by_shard_and_row(tmp_path: Path) -> None:
    frames = web(400)
    found = drawn(tmp_path, frames, section(60, hold_out=30, unlabelled=50)).documents
    assert found["key"].is_unique().all()
    assert found.select("shard", "row").equals(found.select("shard", "row").sort("shard", "row"))
    where = pl.concat(frame.select("key", "row", shard=pl.lit(name)) for name, frame in frames.items())
    assert found.join(where, on=["key", "row", "shard"]).height == found.height == 140


def test_within_a_stratum_the_smallest_keys_are_sampled(tmp_path: Path) -> None:
    frames = web(400)
    found = drawn(tmp_path, frames, section(60))
    for dump in ("D0", "D1", "D2"):
        for position, name in enumerate(FRAME.bin_names):
            members = pl.concat(frames.values()).filter(dump=dump, score_bin=position)["key"].sort().to_list()
            mine = found.documents.filter(stratum=f"{dump}/{name}")["key"].sort().to_list()
            assert mine == members[: len(mine)]


def test_rare_documents_are_seen_more_often_and_weigh_less(tmp_path: Path) -> None:
    found = weights_sum(drawn(tmp_path, web(2000), section(200)))
    per_bin = found.group_by("score_bin").agg(pl.col("population", "len").sum())
    sizes = dict(per_bin.select("score_bin", "len").iter_rows())
    assert sizes == {"none": 100, "low": 40, "high": 60}
    weight = dict(per_bin.select("score_bin", pl.col("population") / pl.col("len")).iter_rows())
    assert weight["high"] < 200 / 60 + 1 < weight["none"]


@settings(deadline=None, max_examples=40)
@given(
    size=st.integers(0, 120), dumps=st.integers(1, 9), sample=st.integers(3, 150), held=st.tuples(*[st.integers(0, 40)] * 2),
    gold=st.integers(0, 12),
)  # fmt: skip
def test_the_weights_reproduce_the_population_of_every_stratum(
    tmp_path_factory: pytest.TempPathFactory, *, size: int, dumps: int, sample: int, held: tuple[int, int], gold: int
) -> None:
    """For webs, dumps and samples of any size: strata smaller than their allotment, samples larger than the web, many small dumps."""
    folder = tmp_path_factory.mktemp("web")
    frames = web(size, dumps)
    found = drawn(folder, frames, section(sample, *held), [f"id{i * 7}" for i in range(gold)])
    sums = weights_sum(found)
    everyone = size - len(keys(found, "gold"))
    rest = everyone - len(keys(found, "hold_out")) - len(keys(found, "unlabelled"))
    assert found.eligible == everyone
    assert len(keys(found, "sample")) == min(sample, rest)
    assert sums["population"].sum() == rest
    assert sums["len"].null_count() == 0  # every stratum is sampled, so no document is left unrepresented
    sampled_keys, random_keys = keys(found, "sample"), keys(found, "hold_out") + keys(found, "unlabelled")
    whole = pl.concat(frames.values()).filter(~pl.col("key").is_in(random_keys + keys(found, "gold")))
    for stratum, population in sums.select("stratum", "population").iter_rows():
        dump, name = stratum.split("/")
        members = whole.filter(score_bin=FRAME.bin_names.index(name)).filter((pl.col("dump") == dump) | (dump == "*"))
        assert members.height == population
    assert set(sampled_keys) <= set(whole["key"])


@pytest.mark.parametrize("rows_at_once", [1, 17, 10_000])
def test_the_samples_do_not_depend_on_how_the_web_is_cut_and_read(tmp_path: Path, rows_at_once: int) -> None:
    whole = drawn(tmp_path, web(300, shards=1), section(50, 20, 30), ["id5"])
    parts = drawn(tmp_path, web(300, shards=5), section(50, 20, 30), ["id5"], rows_at_once=rows_at_once)
    columns = ["key", "role", "stratum"]
    assert parts.documents.select(columns).sort("key").equals(whole.documents.select(columns).sort("key"))
    assert parts.strata.equals(whole.strata)


def test_a_larger_web_of_new_shards_keeps_what_still_has_the_smallest_keys(tmp_path: Path) -> None:
    frames = web(300)
    before = keys(drawn(tmp_path, {name: frames[name] for name in ("s0", "s1", "s2")}, section(30, 40)), "hold_out")
    after = keys(drawn(tmp_path, frames, section(30, 40)), "hold_out")
    assert len(set(before) & set(after)) > 20


def test_an_id_in_several_shards_is_drawn_and_counted_once_from_the_first(tmp_path: Path) -> None:
    frames = web(60, shards=2)
    twice = {**frames, "t": frames["s1"].with_columns(row=pl.col("row") + 1000)}
    found = drawn(tmp_path, twice, section(60, 5, 5))
    assert found.eligible == 60
    assert found.documents.height == 60
    assert set(found.documents["shard"]) == {"s0", "s1"}


def test_gold_documents_and_copies_of_their_texts_are_in_no_sample_and_no_population(tmp_path: Path) -> None:
    frames = web(100, shards=2)
    copied = frames["s0"]["text_key"][3]
    frames["s1"] = frames["s1"].with_columns(text_key=pl.when(pl.int_range(50) < 4).then(pl.lit(copied)).otherwise("text_key"))
    gold = frames["s0"]["id"][3]
    found = drawn(tmp_path, frames, section(100, 10, 10), [gold, "elsewhere"])
    assert keys(found, "gold") == [frames["s0"]["key"][3]]
    assert found.eligible == 95
    assert found.documents.height == 96
    assert not set(frames["s1"]["key"][:4]) & set(found.documents["key"])
    assert found.strata["population"].sum() == 75


def test_gold_in_two_shards_is_one_gold_document(tmp_path: Path) -> None:
    frames = web(40, shards=1)
    found = drawn(tmp_path, {"a": frames["s0"], "b": frames["s0"]}, section(10), ["id3"])
    assert found.documents.filter(role="gold").select("shard", "row").rows() == [("a", 3)]


def test_a_web_that_is_all_gold_or_held_out_leaves_no_stratum(tmp_path: Path) -> None:
    assert drawn(tmp_path, web(20), section(5, hold_out=15, unlabelled=15)).strata.is_empty()
    assert drawn(tmp_path, web(3), section(5), ["id0", "id1", "id2"]).strata.is_empty()


def test_the_hold_out_is_a_random_sample_of_the_web(tmp_path: Path) -> None:
    """Over 40 seeds the share of high scores in the hold-out is that of the web: 10 % within 4 standard errors."""
    shares = []
    for seed in range(40):
        frames = {name: frame.with_columns(key=keyed_hash(frame["id"], seed)) for name, frame in web(500).items()}
        found = drawn(tmp_path, frames, section(10, hold_out=50)).documents.filter(role="hold_out")
        shares.append(found["stratum"].str.ends_with("/high").mean())
    assert abs(pl.Series(shares).mean() - 0.1) < 4 * (0.1 * 0.9 / (40 * 50)) ** 0.5


@st.composite
def apportionments(draw: st.DrawFn) -> dict[str, Any]:
    count = draw(st.integers(1, 8))
    at_most = draw(st.lists(st.integers(1, 10_000), min_size=count, max_size=count))
    at_least = [draw(st.integers(0, min(3, most))) for most in at_most]
    weights = draw(st.lists(st.floats(1e-6, 1e6), min_size=count, max_size=count))
    return {
        "total": draw(st.integers(sum(at_least), sum(at_most))),
        "weights": weights,
        "at_least": at_least,
        "at_most": at_most,
    }


@given(apportionments())
def test_a_total_is_divided_within_its_bounds_and_in_the_order_of_the_weights(case: dict[str, Any]) -> None:
    parts = apportion(case["total"], **{name: case[name] for name in ("weights", "at_least", "at_most")})
    assert sum(parts) == case["total"]
    assert all(low <= part <= high for low, part, high in zip(case["at_least"], parts, case["at_most"], strict=True))
    for i, j in ((i, j) for i in range(len(parts)) for j in range(len(parts))):
        heavier = case["weights"][i] > case["weights"][j] * (1 + 1e-6)
        if heavier and parts[i] < case["at_most"][i] and parts[j] > case["at_least"][j]:
            assert parts[i] >= parts[j] - 1


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=12), st.integers(0, 500))
def test_without_bounds_in_reach_no_part_is_further_than_one_from_its_quota(weights: list[int], total: int) -> None:
    parts = apportion(total, weights=weights, at_least=[0] * len(weights), at_most=[total] * len(weights))
    for weight, part in zip(weights, parts, strict=True):
        assert abs(part - total * weight / sum(weights)) < 1


def test_the_largest_remainders_get_what_is_left_and_equal_ones_go_by_position() -> None:
    free = {"at_least": [0, 0, 0], "at_most": [9, 9, 9]}
    assert apportion(10, weights=[4.6, 4.3, 1.1], **free) == [5, 4, 1]
    assert apportion(4, weights=[1, 1, 1], **free) == [2, 1, 1]
    assert apportion(10, weights=[1, 1, 8], at_least=[0, 0, 0], at_most=[9, 9, 4]) == [3, 3, 4]


def cells(**documents: int) -> pl.DataFrame:
    """Return cells by `dump_bin`."""
    rows = [(name[:-1], int(name[-1]), count) for name, count in documents.items()]
    return pl.DataFrame(rows, schema={"dump": pl.String, "score_bin": pl.UInt8, "documents": pl.Int64}, orient="row")


def test_a_bin_smaller_than_its_share_is_taken_whole_and_the_others_get_the_rest() -> None:
    found = allocate(cells(A0=1000, A1=1000, A2=5), [0.4, 0.2, 0.4], 105)
    assert dict(found.select("score_bin", "sampled").iter_rows()) == {0: 67, 1: 33, 2: 5}


def test_dumps_are_served_in_proportion_to_their_size_and_none_is_left_out() -> None:
    found = allocate(cells(A0=700, B0=299, C0=1), [1.0], 100)
    assert dict(found.select("dump", "sampled").iter_rows()) == {"A": 69, "B": 30, "C": 1}


def test_a_bin_with_fewer_documents_than_dumps_is_one_stratum() -> None:
    found = allocate(cells(A0=100, B0=100, C0=100, A1=9), [0.01, 0.99], 11)
    assert found.filter(score_bin=0).select("stratum_dump", "population", "sampled").unique().rows() == [("*", 300, 2)]
    assert found.filter(score_bin=1).select("stratum_dump", "population", "sampled").rows() == [("A", 9, 9)]


def test_the_sample_is_drawn_alike_in_any_order_of_the_cells() -> None:
    whole = cells(A0=31, B0=17, C0=17, A1=5, B1=2, A2=3)
    order = list(range(whole.height))
    random.Random(0).shuffle(order)
    assert allocate(whole[order], [0.5, 0.2, 0.3], 20).equals(allocate(whole, [0.5, 0.2, 0.3], 20))


@pytest.mark.parametrize("shares", [{"none": 0.5, "low": 0.6}, {"none": 1.0, "low": 0.0}, {}])
def test_shares_that_do_not_sum_to_one_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="sample_shares is"):
        AnnotationSettings(sample_shares=shares)


def test_a_sample_smaller_than_the_number_of_score_bins_is_refused() -> None:
    with pytest.raises(ValueError, match="sample_size is 3; allowed: at least one document for each of 4 score bins"):
        AnnotationSettings(sample_size=3)
