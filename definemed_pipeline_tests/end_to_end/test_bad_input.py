"""What a user can get wrong, through the command line: one or two lines with the cure, no traceback, nothing half-written."""

from pathlib import Path

import polars as pl
import pytest

from definemed_pipeline_tests.end_to_end.conftest import MICRO, Workplace, new_workplace

COLUMNS = {
    "text": pl.String, "id": pl.String, "dump": pl.String, "url": pl.String, "date": pl.String, "file_path": pl.String,
    "language": pl.String, "language_score": pl.Float64, "language_script": pl.String, "minhash_cluster_size": pl.Int64, "top_langs": pl.String,
}  # fmt: skip


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    return new_workplace(tmp_path / "work")


def recipe(workplace: Workplace, text: str) -> str:
    path = workplace.folder / "my.yaml"
    path.write_text(f"extends: {MICRO}\nname: mine\n{text}\n", "utf-8")
    return str(path)


def web(workplace: Workplace, texts: list[str | None], name: str = "000_00000.parquet") -> Path:
    frame = pl.DataFrame(
        {"text": texts, "id": [f"<urn:uuid:{n}>" for n in range(len(texts))]}, schema_overrides={"text": pl.String}
    )
    path = workplace.folder / name
    missing = [pl.lit(None, dtype).alias(column) for column, dtype in COLUMNS.items() if column not in frame.columns]
    frame.with_columns(missing).select(*COLUMNS).write_parquet(path)
    return path


def told(workplace: Workplace, *arguments: str, status: int) -> str:
    """Run a command that must fail with a status, and return what a user reads about it."""
    done = workplace.definemed(*arguments, check=False)
    output = done.stdout + done.stderr
    assert done.returncode == status, output
    assert "Traceback" not in output
    return output


def test_an_unknown_key_is_told_before_anything_runs(workplace):
    output = told(workplace, "run", "--recipe", recipe(workplace, "annotations: {sample_siz: 5}"), status=2)
    assert "annotations.sample_siz is not a known key (found 5); did you mean 'sample_size'?" in output
    assert len(output.strip().splitlines()) == 1
    assert not workplace.lake.exists()


def test_an_impossible_value_is_told_before_anything_runs(workplace):
    output = told(workplace, "run", "--recipe", recipe(workplace, "cpt_checkpoints: {epochs: 0}"), status=2)
    assert "epochs is 0; allowed: at least 1" in output


def test_debug_shows_where_an_error_came_from(workplace):
    path = recipe(workplace, "cpt_checkpoints: {epochs: 0}")
    assert "Traceback" in workplace.definemed("--debug", "run", "--recipe", path, check=False).stderr


def test_a_source_without_files_is_told_before_anything_runs(workplace):
    output = told(workplace, "run", "--recipe", recipe(workplace, "source: {files: [./nowhere/*.parquet]}"), status=2)
    assert "nowhere/*.parquet finds no file; correct the path in the recipe" in output


def test_a_lake_that_cannot_be_written_is_told_before_anything_runs(workplace):
    (workplace.folder / "file").write_text("")
    output = told(workplace, "run", "--recipe", str(MICRO), "--lake", str(workplace.folder / "file" / "lake"), status=2)
    assert "cannot be written" in output
    assert "DEFINEMED_LAKE" in output


def test_a_truncated_shard_and_one_that_lacks_a_column_are_told_with_the_cure(workplace):
    truncated = web(workplace, ["Ein Text über das Wetter von morgen."] * 50)
    truncated.write_bytes(truncated.read_bytes()[:-100])
    lacking = web(workplace, ["Ein Text."], "000_00001.parquet")
    pl.read_parquet(lacking).drop("text").write_parquet(lacking)
    source = f"source: {{files: [{truncated}, {lacking}]}}"
    output = told(workplace, "run", "--recipe", recipe(workplace, source), "--select", "fineweb2_shards", status=1)
    assert "cannot be read as parquet" in output
    assert "fetch it again" in output
    assert "column text is missing" in output
    assert not list(workplace.lake.glob("fineweb2_shards/*/latest-*.json"))


@pytest.mark.parametrize("texts", [[], [None, "", "   "]], ids=["zero rows", "null and empty texts"])
def test_a_shard_without_any_text_stops_the_run_with_a_failed_check(workplace, texts):
    path = web(workplace, texts)
    output = told(
        workplace, "run", "--recipe", recipe(workplace, f"source: {{files: [{path}]}}"), "--select", "fineweb2_shards", status=1
    )
    assert "check has_documents failed: documents_with_text 0" in output


def test_null_and_empty_texts_among_others_are_counted_and_scored_zero(copy_of_finished):
    profiles = [manifest.metrics for (asset, _), manifest in copy_of_finished.artifacts().items() if asset == "fineweb2_shards"]
    assert sum(one["null_texts"] + one["empty_texts"] for one in profiles) > 0
    for (asset, partition), manifest in copy_of_finished.artifacts().items():
        if asset == "classifier_scores":
            scores = pl.read_parquet(copy_of_finished.lake / asset / partition / manifest.version / "scores.parquet")
            empty = scores.filter(decided_by="empty")
            assert empty["medical_probability"].sum() == 0
            assert not empty["is_medical"].any()


def test_missing_partitions_are_named_before_a_gathering_asset_runs_with_holes(workplace):
    workplace.definemed("run", "--recipe", str(MICRO), "--select", "fineweb2_shards", "--partition", "000_00001")
    output = told(workplace, "run", "--recipe", str(MICRO), "--select", "annotations", status=1)
    assert "fineweb2_shards: 1 of 2 partitions are missing (000_00000): materialize them first" in output


def test_an_unknown_asset_is_told_with_the_known_ones(workplace):
    assert "--select 'corpus_de' matches no asset" in told(
        workplace, "run", "--recipe", str(MICRO), "--select", "corpus_de", status=2
    )


def test_an_artifact_that_is_not_there_has_no_lineage(workplace):
    output = told(workplace, "lineage", "show", "model_cards/demo-qwen2", "--recipe", str(MICRO), status=2)
    assert "model_cards[demo-qwen2] is not in the lake" in output
    assert "materialize it first" in output


def test_a_recipe_is_checked_and_described(workplace):
    done = workplace.definemed("recipe", "check", str(MICRO))
    assert "valid" in done.stdout
    assert "2 shards: 000_00000, 000_00001" in done.stdout
    assert "demo-qwen2 (pretrain)" in done.stdout


def test_an_annotator_below_its_floor_stops_the_run_before_a_classifier_learns_from_it(workplace):
    output = told(
        workplace,
        "run",
        "--recipe",
        recipe(workplace, "checks: {annotator_f1: 1.0}"),
        "--select",
        "*medical_classifier",
        status=1,
    )
    assert "check annotator_f1 failed: floor 1.0, found 0.9" in output
    assert list(workplace.lake.glob("annotations/_/latest-mine.json"))
    assert not workplace.lake.joinpath("medical_classifier").exists()
