"""The whole graph through the command line: complete, reused, rebuilt to the same bytes, killed anywhere, shared by two."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import dagster as dg
import lxml.html
import pytest

from definemed_pipeline.artifacts.store import Store, describe_files
from definemed_pipeline.evaluation.report.verify import contradictions
from definemed_pipeline_tests.end_to_end.conftest import PATIENCE_SECONDS, Workplace, new_workplace

ASSETS = [
    "source_files",
    "fineweb2_shards",
    "sampling_frames",
    "annotations",
    "medical_classifier",
    "cascade_certificate",
    "base_models",
    "classifier_scores",
    "medical_documents",
    "benchmark_leaks",
    "finemed_de",
    "cpt_corpus",
    "cpt_checkpoints",
    "merge_sweep",
    "merged_models",
    "benchmark_scores",
    "responses",
    "failure_modes",
    "win_rates",
    "model_cards",
    "report",
]
# Built in the command's own processes, or never tried again; and one payload, to see it end with those who started it.
WHOLE_COMMAND = {
    "annotations",
    "benchmark_leaks",
    "finemed_de",
    "cpt_checkpoints",
    "failure_modes",
    "win_rates",
    "model_cards",
    "report",
}
PAYLOADS = tuple(f"definemed_pipeline.{room}.".encode() for room in ("corpus", "training", "merging", "evaluation"))


def test_every_asset_and_partition_is_in_the_lake(finished):
    shards, models = ["000_00000", "000_00001"], ["demo-mistral", "demo-qwen2"]
    partitions = dict.fromkeys(
        ("fineweb2_shards", "sampling_frames", "classifier_scores", "medical_documents", "benchmark_leaks"), shards
    )
    partitions |= {
        "source_files": ["_"],
        "annotations": ["_"],
        "medical_classifier": ["_"],
        "cascade_certificate": ["_"],
        "finemed_de": ["_"],
        "win_rates": ["_"],
        "failure_modes": ["_"],
        "report": ["_"],
    }
    expected = {(asset, partition) for asset in ASSETS for partition in partitions.get(asset, models)}
    assert set(finished.artifacts()) == expected


def steps(workplace: Workplace) -> set[tuple[str, str]]:
    """Return what is told in a line of its own: an asset and its partition; the shards of a run share a line."""
    return {(asset, "" if partition.startswith("000_") else partition) for asset, partition in workplace.artifacts()}


def test_two_commands_at_once_build_every_artifact_once(finished):
    outputs = [path.read_text("utf-8") for path in sorted(finished.folder.glob("said by *"))]
    assert len(outputs) == 2
    built = [line.split("✓ ")[1].split("  ")[0] for output in outputs for line in output.splitlines() if "built," in line]
    listed = {("source_files", "_")}  # before the runs, by the one that comes first
    assert len(set(built)) == len(steps(finished) - listed)
    artifacts = {key for key in finished.artifacts() if key not in listed}
    assert times_built(finished) == dict.fromkeys(artifacts, 1)  # of the two shards of a step each command may have built one


def times_built(workplace: Workplace) -> dict[tuple[str, str], int]:
    """Count from Dagster's events how often each artifact was built, not reused."""
    built: Counter[tuple[str, str]] = Counter()
    with dg.DagsterInstance.from_config(str(workplace.folder / ".dagster")) as instance:
        for asset in set(ASSETS) - {"source_files"}:
            for record in instance.fetch_materializations(dg.AssetKey(asset), limit=1000).records:
                materialization = record.asset_materialization
                built[asset, materialization.partition or "_"] += not materialization.metadata["reused"].value
    return dict(built)


def test_every_manifest_tells_the_truth_about_its_files(finished):
    store = Store(str(finished.lake))
    for manifest in finished.artifacts().values():
        folder = Path(store.uri(manifest))
        found = tuple(file for file in describe_files(folder) if file.path != "manifest.json")
        assert found == manifest.files


def test_no_file_holds_a_path_of_this_machine_or_a_pickle(finished):
    here = str(finished.folder).encode()
    store = Store(str(finished.lake))
    for manifest in finished.artifacts().values():
        for file in manifest.files:
            content = (Path(store.uri(manifest)) / file.path).read_bytes()
            assert here not in content, (manifest.asset, file.path)
            assert not file.path.endswith((".bin", ".pt", ".pkl", ".pickle")), (manifest.asset, file.path)


def test_every_number_of_the_report_is_found_again_in_the_lake(finished, tmp_path):
    finished.definemed("report", str(tmp_path), "--recipe", finished.recipe)
    page = (tmp_path / "definemed-report.html").read_text("utf-8")
    store, artifacts = Store(str(finished.lake)), finished.artifacts()
    assert contradictions(page, store, artifacts["report", "_"]) == []
    assert compared_by_hand(page, artifacts, finished.lake) > 200


def compared_by_hand(page, artifacts, lake):
    """Compare the numbers that are read from JSON as they stand, without the package's own reading; return how many."""
    tree = lxml.html.document_fromstring(page)
    files = {row.get("id"): row for row in tree.xpath("//tr[@data-asset]")}
    compared = 0
    for element in tree.xpath("//*[@data-formula='x1']"):
        row = files[f"file-{element.get('data-from')}"]
        asset, partition, version, file = (row.get(f"data-{name}") for name in ("asset", "partition", "version", "file"))
        assert artifacts[asset, partition].version == version
        if file.endswith(".json"):
            value = json.loads((lake / asset / partition / version / file).read_text("utf-8"))
            for step in element.get("data-at").split("/")[1:]:
                value = value[int(step)] if isinstance(value, list) else value[step]
            assert float(element.get("value")) == value
            compared += 1
    return compared


def test_a_changed_setting_rebuilds_what_depends_on_it_and_nothing_else(copy_of_finished, tmp_path):
    before = copy_of_finished.artifacts()
    recipe = tmp_path / "changed.yaml"
    recipe.write_text(f"extends: {copy_of_finished.recipe}\nname: micro\nwin_rates: {{opponent_stage: cpt}}\n")
    done = copy_of_finished.definemed("run", "--recipe", str(recipe))
    built = {line.split("✓ ")[1].split("[")[0].split(" ")[0] for line in done.stdout.splitlines() if "built," in line}
    assert built == {"win_rates", "model_cards", "report"}
    reused = {line.split("= ")[1].split("[")[0].split(" ")[0] for line in done.stdout.splitlines() if "reused," in line}
    assert reused == set(ASSETS) - built
    assert before["win_rates", "_"].version != copy_of_finished.artifacts()["win_rates", "_"].version


def test_one_partition_is_rebuilt_by_force_to_the_same_bytes(copy_of_finished):
    before = copy_of_finished.artifacts()
    arguments = ["--select", "model_cards", "--partition", "demo-mistral", "--force"]
    done = copy_of_finished.definemed("run", "--recipe", copy_of_finished.recipe, *arguments)
    assert done.stdout.count("built,") == 1
    after = copy_of_finished.artifacts()
    key = ("model_cards", "demo-mistral")
    assert after[key].digest == before[key].digest
    assert after[key].provenance.run_id != before[key].provenance.run_id


def test_lineage_is_told_from_manifests_alone(copy_of_finished):
    shutil.rmtree(copy_of_finished.folder / ".dagster")
    done = copy_of_finished.definemed("lineage", "show", "model_cards/demo-qwen2", "--recipe", copy_of_finished.recipe)
    for asset in ("merged_models[demo-qwen2]", "finemed_de", "classifier_scores[000_00001]", "fineweb2_shards[000_00000]"):
        assert asset in done.stdout
    assert "demo://web/000_00000.parquet" in done.stdout


@pytest.mark.timeout(1800)
def test_killed_once_in_every_stage_and_in_another_place_the_graph_ends_with_the_same_bytes(finished, tmp_path):
    workplace = new_workplace(tmp_path / "a folder elsewhere")
    for other in finished.lake.glob("*/demo-mistral"):  # every stage once is enough
        shutil.copytree(other, workplace.lake / other.relative_to(finished.lake))
    spared = set(ASSETS) - {"source_files"}  # that one is made in milliseconds, before the runs
    while run_and_kill(workplace, spared, expected=set(finished.artifacts())):
        pass
    assert not spared
    assert workplace.digests() == finished.digests()
    assert not [path for path in (workplace.lake / ".scratch" / "work").glob("*/*/*") if path.is_dir()]


def run_and_kill(workplace: Workplace, spared: set[str], *, expected: set[tuple[str, str]]) -> bool:
    """Start what is left of the graph, and send SIGKILL while an artifact of an asset that was spared until now is being built.

    A payload dies alone, and Dagster tries its step again; with the assets of WHOLE_COMMAND every process dies. Return whether that
    happened, False where the command came to its end.
    """
    left = {asset for asset, _ in expected - set(workplace.artifacts())}
    started = time.time()
    process = workplace.start("run", "--recipe", workplace.recipe, *(f"--select={asset}" for asset in sorted(left)))
    deadline = time.monotonic() + PATIENCE_SECONDS
    try:
        while process.poll() is None:
            assert time.monotonic() < deadline
            for asset in [
                asset for asset in assets_at_work(workplace) & spared if is_being_built(workplace, asset, since=started)
            ]:
                if asset in WHOLE_COMMAND:
                    spared.remove(asset)
                    return True
                if payloads := payloads_of(workplace):
                    spared.remove(asset)
                    for payload in payloads:
                        os.kill(payload, signal.SIGKILL)
            time.sleep(0.003)
    finally:
        ended = process.poll()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        said, _ = process.communicate()
    assert ended == 0, said
    return False


def payloads_of(workplace: Workplace) -> list[int]:
    """Return the payloads at work in a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            command = path.read_bytes().replace(b"\0", b" ").split()  # one that was forked has them in one string
            if (
                command[1:2] == [b"-m"]
                and command[2].startswith(PAYLOADS)
                and path.with_name("cwd").resolve() == workplace.folder
            ):
                found.append(int(path.parent.name))
    return found


def assets_at_work(workplace: Workplace) -> set[str]:
    with contextlib.suppress(FileNotFoundError):
        return set(os.listdir(workplace.lake / ".scratch" / "work"))
    return set()


def is_being_built(workplace: Workplace, asset: str, since: float) -> bool:
    """Tell whether a draft of an asset was begun; what an earlier kill left does not count."""
    drafts = (workplace.lake / ".scratch" / "work" / asset).glob("*/*/files")
    return any(mtime(path) > since for path in drafts)


def mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # published or begun anew in between
        return 0.0


def test_the_definitions_are_valid(finished):
    environment = {**finished.environment, "DEFINEMED_RECIPE": "demo"}
    command = [sys.executable, "-m", "dagster", "definitions", "validate", "-m", "definemed_pipeline.definitions"]
    done = subprocess.run(command, cwd=finished.folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    warnings = [line for line in (done.stdout + done.stderr).splitlines() if "Warning" in line]
    assert [line for line in warnings if "SupersessionWarning" not in line] == []  # `dagster definitions` itself is superseded
