"""The packed corpus: what is trained on, held out and replayed, the same bytes whatever happens on the way."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from definemed_pipeline.artifacts.build import Draft, build
from definemed_pipeline.artifacts.manifest import Identity, Manifest
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.errors import UserError
from definemed_pipeline.payload import BAD_INPUT, Spec
from definemed_pipeline.training import documents
from definemed_pipeline.training.blocks import PackedBlocks
from definemed_pipeline.training.cpt_corpus import pack_corpus
from definemed_pipeline.training.encoding import DocumentEncoder
from definemed_pipeline.training.settings import CptCorpusSettings, GeneralDocumentsSettings
from definemed_pipeline.training.tokenizer import train_tokenizer
from definemed_pipeline_tests.conftest import RECIPE, build_artifact, identity_of
from definemed_pipeline_tests.corpus.sources.hub_server import FOLDER, REPOSITORY, running_hub
from definemed_pipeline_tests.training.conftest import CORPUS
from definemed_pipeline_tests.training.packed_sets import unpack

GENERAL = [f"Am {day}. Mai gehen alle in Ulm an den Fluss und sehen den Booten zu." for day in range(1, 32)]
Texts = Sequence[str]
Pack = Callable[..., tuple[Manifest, Path]]


@pytest.fixture
def base(store: Store) -> Manifest:
    """A base model as far as packing needs one: its tokenizer and the size of its vocabulary."""

    def write(draft: Draft[Any]) -> None:
        folder = draft.folder / "model"
        train_tokenizer(CORPUS + GENERAL, "mistral", vocabulary_size=330, model_max_length=64).save_pretrained(folder)
        (folder / "config.json").write_text(json.dumps({"vocab_size": 340}))

    return build_artifact(store, "base_models", write, CptCorpusSettings(), partition="micro")


@pytest.fixture
def corpus(store: Store) -> Callable[..., Manifest]:
    """Build a corpus from the texts of its files; document n of file f is called `<f-n>`."""

    def make(*files: Texts) -> Manifest:
        def write(draft: Draft[Any]) -> None:
            (draft.folder / "data").mkdir()
            for number, texts in enumerate(files):
                ids = [f"<{number}-{row}>" for row in range(len(texts))]
                table = pa.table({"id": pa.array(ids, pa.string()), "text": pa.array(texts, pa.string())})
                name = f"finemed_de-{number:05}-of-{len(files):05}.parquet"
                pq.write_table(table, draft.folder / "data" / name, row_group_size=100)

        return build_artifact(store, "finemed_de", write, CptCorpusSettings(), force=True)

    return make


def identity(base: Manifest, corpus: Manifest, section: CptCorpusSettings) -> Identity:
    return identity_of("cpt_corpus", section, partition="micro", inputs=[base, corpus], sources=section.sources())


@pytest.fixture
def pack(store: Store, base: Manifest) -> Pack:
    """Pack a corpus; return the artifact and its folder."""

    def build_and_open(
        corpus: Manifest, section: CptCorpusSettings, report: Callable[[str], None] = print, *, force: bool = False
    ) -> tuple[Manifest, Path]:
        wanted = identity(base, corpus, section)
        how = {"settings": section, "recipe": RECIPE, "run_id": "test", "force": force, "report": report}
        manifest = build(store, wanted, pack_corpus, **how).manifest
        return manifest, store.folder(manifest)

    return build_and_open


def section_of(files: Iterable[Path | str] = (), *, replay_share: float = 0.0, **changes: Any) -> CptCorpusSettings:
    named = [str(file) for file in files]
    general = GeneralDocumentsSettings(files=named, replay_share=replay_share) if named else None
    return CptCorpusSettings(**{"sequence_length": 64, "held_out_share": 0.2, "general": general, **changes})


def write_lines(path: Path, texts: Texts) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")
    return path


def write_parquet(path: Path, texts: Texts, ids: Texts) -> Path:
    pq.write_table(pa.table({"id": ids, "text": texts}), path)
    return path


def ids_in(folder: Path) -> list[str]:
    return [name for name, _ in unpack(folder)]


def tokens_in(folder: Path, role: str) -> int:
    return sum(row["tokens"] for row in pq.read_table(folder / "segments.parquet").to_pylist() if row["role"] == role)


def test_the_corpus_is_packed_with_the_tokenizer_of_its_base_model(store, base, corpus, pack) -> None:
    manifest, folder = pack(corpus(CORPUS[0::2], CORPUS[1::2]), section_of(held_out_share=0.0))
    encoder = DocumentEncoder(store.folder(base) / "model")
    assert [encoder.decode(ids) for _, ids in unpack(folder / "train")] == CORPUS[0::2] + CORPUS[1::2]
    metrics = manifest.metrics
    assert metrics["tokens"] == metrics["packed_tokens"] == sum(len(ids) for ids in encoder.encode(CORPUS))
    assert metrics["packing_efficiency"] == pytest.approx(metrics["tokens"] / (metrics["blocks"] * 64), abs=1e-6)
    assert len(PackedBlocks(folder / "held_out" / "corpus")) == 0
    assert not (folder / "held_out" / "general").exists()


def test_what_is_held_out_is_never_trained_on_and_every_document_is_somewhere(corpus, pack) -> None:
    manifest, folder = pack(corpus(CORPUS[:20], CORPUS[20:]), section_of())
    trained_on, held_out = (ids_in(folder / name) for name in ("train", "held_out/corpus"))
    assert sorted(trained_on + held_out) == sorted([f"<0-{n}>" for n in range(20)] + [f"<1-{n}>" for n in range(10)])
    assert held_out
    assert manifest.metrics["train_documents"] == len(trained_on)
    assert manifest.metrics["held_out_corpus_documents"] == len(held_out)
    assert manifest.metrics["held_out_corpus_tokens"] == tokens_in(folder / "held_out" / "corpus", "held_out_corpus")


def test_one_document_is_held_out_however_small_the_share(corpus, pack) -> None:
    manifest, _ = pack(corpus(CORPUS), section_of(held_out_share=1e-9))
    assert manifest.metrics["held_out_corpus_documents"] == 1


def test_general_documents_are_held_out_as_many_tokens_as_of_the_corpus_and_replayed_by_share(corpus, pack, tmp_path) -> None:
    section = section_of([write_lines(tmp_path / "general.jsonl", GENERAL * 4)], replay_share=0.25)
    manifest, folder = pack(corpus(CORPUS[:20], CORPUS[20:]), section)
    metrics, name = manifest.metrics, "general/0000/general.jsonl"
    general = ids_in(folder / "held_out" / "general")
    replayed = [one for one in ids_in(folder / "train") if one.startswith(name)]
    assert general + replayed == [f"{name}:{line}" for line in range(1, len(general) + len(replayed) + 1)]
    longest = 64
    assert 0 <= metrics["held_out_general_tokens"] - metrics["held_out_corpus_tokens"] < longest
    assert metrics["replay_tokens"] == tokens_in(folder / "train", "replay")
    assert metrics["train_tokens"] == tokens_in(folder / "train", "train")
    wanted = metrics["train_tokens"] / 3
    assert 0 <= metrics["replay_tokens"] - wanted < longest
    assert metrics["replay_share"] == pytest.approx(0.25, abs=longest / metrics["train_tokens"])
    assert metrics["general_lacking_tokens"] == 0
    assert metrics["tokens"] == metrics["packed_tokens"]


def test_a_general_document_that_the_corpus_holds_is_neither_held_out_nor_replayed(corpus, pack, tmp_path) -> None:
    ids = ["<0-3>", "a", "<0-7>", "b", "a", *(f"<0-{n}>" for n in range(30)), *(f"g{n}" for n in range(20))]
    general = write_parquet(tmp_path / "general.parquet", [GENERAL[0]] * len(ids), ids)
    manifest, folder = pack(corpus(CORPUS), section_of([general], replay_share=0.3, held_out_share=1e-9))
    held_out, trained_on = ids_in(folder / "held_out" / "general"), ids_in(folder / "train")
    assert held_out in (["a"], ["a", "b"])
    assert not set(held_out + ids_in(folder / "held_out" / "corpus")) & set(trained_on)
    assert sum(one.startswith("<0-") for one in trained_on) == 29
    assert manifest.metrics["general_passed_over"] == 33


def test_files_that_hold_too_little_are_taken_whole_and_it_is_said(corpus, pack, tmp_path) -> None:
    files = [write_lines(tmp_path / "a.jsonl", GENERAL[:20]), write_lines(tmp_path / "b.jsonl", GENERAL[20:22])]
    said: list[str] = []
    manifest, _ = pack(corpus(CORPUS), section_of(files, replay_share=0.8), said.append)
    metrics = manifest.metrics
    assert metrics["held_out_general_documents"] + metrics["replay_documents"] == 22
    assert 0 < metrics["replay_share"] < 0.8
    lacking = metrics["general_lacking_tokens"]
    assert metrics["replay_tokens"] + lacking == pytest.approx(4 * metrics["train_tokens"], abs=1)
    assert [line for line in said if "hold too little" in line and f"{lacking:,} tokens are lacking" in line]


def test_no_more_files_are_read_than_are_needed(corpus, pack, tmp_path) -> None:
    unreadable = tmp_path / "b.jsonl"
    unreadable.write_text("no document\n")
    manifest, _ = pack(corpus(CORPUS), section_of([write_lines(tmp_path / "a.jsonl", GENERAL), unreadable]))
    assert manifest.metrics["held_out_general_documents"]


def test_an_empty_corpus_is_refused_with_the_cure(corpus, pack) -> None:
    with pytest.raises(UserError, match="no document to train on; lower"):
        pack(corpus([]), section_of())


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "hold no document outside the corpus; name others"),
        ('{"texte": "x"}\n', 'line 1: not a JSON object with a "text"; correct or remove the line'),
    ],
    ids=["empty", "no text"],
)
def test_a_general_file_that_cannot_be_used_is_refused_in_a_line(corpus, pack, tmp_path, content, told) -> None:
    (tmp_path / "general.jsonl").write_text(content)
    with pytest.raises(UserError, match=told) as caught:
        pack(corpus(CORPUS), section_of([tmp_path / "general.jsonl"]))
    assert len(str(caught.value).splitlines()) == 1


def test_a_tokenizer_that_knows_more_than_its_model_is_refused(store, base, corpus, pack) -> None:
    (store.folder(base) / "model" / "config.json").write_text(json.dumps({"vocab_size": 300}))
    with pytest.raises(UserError, match="largest id is 329, and the model knows 300 tokens"):
        pack(corpus(CORPUS), section_of())


def test_the_sizes_of_batches_and_the_number_of_threads_change_no_byte(corpus, pack, tmp_path, monkeypatch) -> None:
    section = section_of([write_lines(tmp_path / "general.jsonl", GENERAL)], replay_share=0.2)
    built = corpus(CORPUS[:20], CORPUS[20:])
    usual, _ = pack(built, section)
    for size, number, threads in ((100, 2, "true"), (10_000, 7, "false")):
        monkeypatch.setattr(documents, "BYTES_PER_CORE", size)
        monkeypatch.setattr(documents, "DOCUMENTS_PER_CORE", number)
        monkeypatch.setenv("TOKENIZERS_PARALLELISM", threads)
        again, _ = pack(built, section, force=True)
        assert again.files == usual.files
    assert {name: again.metrics[name] for name in usual.metrics if name not in ("seconds", "tokens_per_s")} == {
        name: value for name, value in usual.metrics.items() if name not in ("seconds", "tokens_per_s")
    }


def truncate_tokens(part: Path) -> None:
    os.truncate(part / "train" / "tokens.bin", 10)


def name_another_file(part: Path) -> None:
    (part / "input.json").write_text('{"name": "another.parquet", "passed_over": 0}')


def empty_the_record(part: Path) -> None:
    (part / "input.json").write_text("")


def take_a_set_out(part: Path) -> None:
    shutil.rmtree(part / "held_out_corpus")


@pytest.mark.parametrize("damage", [truncate_tokens, name_another_file, empty_the_record, take_a_set_out])
def test_what_an_earlier_try_left_and_does_not_fit_is_made_again(store, corpus, pack, tmp_path, damage) -> None:
    section = section_of([write_lines(tmp_path / "general.jsonl", GENERAL)], replay_share=0.2)
    built = corpus(CORPUS[:10], CORPUS[10:20], CORPUS[20:])
    undisturbed, folder = pack(built, section)
    shutil.rmtree(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("definemed_pipeline.training.cpt_corpus._metrics", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            pack(built, section)
    parts = store.scratch / "work" / "cpt_corpus" / "micro" / undisturbed.version / "checkpoints" / "parts"
    assert sorted(path.name for path in parts.iterdir()) == ["00000", "00001", "00002", "00003"]
    damage(parts / "00001")
    said: list[str] = []
    again, _ = pack(built, section, said.append)
    assert again.files == undisturbed.files
    assert (
        "what an earlier try left of finemed_de-00001-of-00003.parquet does not fit; packing it and all that follows again"
        in said
    )


class Payload:
    """The payload's process on one artifact, started as often as it takes."""

    def __init__(self, store: Store, wanted: Identity, folder: Path) -> None:
        self.store, self.identity = store, wanted
        self.parts = store.scratch / "work" / wanted.asset / wanted.partition / wanted.version / "checkpoints" / "parts"
        self.command = [sys.executable, "-m", "definemed_pipeline.training.cpt_corpus", "--spec", str(folder / "spec.json")]
        spec = Spec(lake=store.url, scratch=str(store.scratch), recipe=RECIPE, run_id="test", force=False, identities=(wanted,))
        (folder / "spec.json").write_text(json.dumps(spec.to_json()))

    def run_and_kill_in_input(self, number: int) -> None:
        process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not any(self.parts.glob(f"{number:05}*")):
            assert process.poll() is None, "the payload ended before it could be killed"
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert self.manifest() is None

    def run_to_the_end(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command, capture_output=True, text=True, check=False)

    def manifest(self) -> Manifest | None:
        return self.store.manifest(self.identity.asset, self.identity.partition, self.identity.version)


@pytest.fixture
def payload_of(store: Store, base: Manifest, tmp_path: Path) -> Callable[[Manifest, CptCorpusSettings], Payload]:
    return lambda corpus, section: Payload(store, identity(base, corpus, section), tmp_path)


@pytest.mark.slow
def test_killed_three_times_it_goes_on_after_the_last_finished_file_and_ends_with_the_same_bytes(
    corpus, pack, payload_of, tmp_path
) -> None:
    texts = [f"{text} Fall {number}." for number in range(60) for text in CORPUS]
    general = [write_lines(tmp_path / f"{name}.jsonl", [f"{text} {name}" for text in GENERAL] * 30) for name in "ab"]
    section, built = section_of(general, replay_share=0.3), corpus(*(texts[start::4] for start in range(4)))
    payload = payload_of(built, section)
    payload.run_and_kill_in_input(1)
    payload.run_and_kill_in_input(3)
    payload.run_and_kill_in_input(4)
    done, resumed = payload.run_to_the_end(), payload.manifest()
    assert done.returncode == 0, done.stderr
    assert re.search(r"going on after [45] files that an earlier try finished", done.stdout)
    undisturbed, _ = pack(built, section, force=True)
    assert resumed is not None
    assert undisturbed.files == resumed.files


@pytest.mark.slow
def test_a_bad_general_file_ends_the_payload_with_the_status_that_is_never_retried(corpus, payload_of, tmp_path) -> None:
    (tmp_path / "general.jsonl").write_text("no document\n")
    done = payload_of(corpus(CORPUS), section_of([tmp_path / "general.jsonl"])).run_to_the_end()
    assert done.returncode == BAD_INPUT
    assert "line 1: not a JSON object" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_payload_tokenises_with_every_core_it_may_use_whatever_compute_says() -> None:
    """Counted are the threads that the first batch starts."""
    code = (
        "import os, sys; from definemed_pipeline.training.cpt_corpus import use_all_cores; use_all_cores()\n"
        "from tokenizers import Tokenizer, models, pre_tokenizers\n"
        "tokenizer = Tokenizer(models.WordLevel({'x': 0}, unk_token='x'))\n"
        "before = len(os.listdir('/proc/self/task')); tokenizer.encode_batch_fast(['x'] * 1000)\n"
        "print(len(os.listdir('/proc/self/task')) - before, len(os.sched_getaffinity(0)))\n"
    )
    limited = {**os.environ, "RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run([sys.executable, "-c", code], env=limited, capture_output=True, text=True, check=True)
    started, cores = done.stdout.split()
    assert started == cores


@pytest.mark.slow
def test_general_documents_of_the_hub_are_listed_identified_and_read_at_a_commit(tmp_path) -> None:
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.table({"id": ["a", "b"], "text": GENERAL[:2]}), buffer)
    code = (
        "import sys; from definemed_pipeline.artifacts.sources import identify\n"
        "from definemed_pipeline.training.documents import read_documents\n"
        "from definemed_pipeline.training.settings import GeneralDocumentsSettings\n"
        "for name, location in GeneralDocumentsSettings(files=[sys.argv[1]]).sources().items():\n"
        "    source = identify(name, location)\n"
        "    print(name, source.location, source.digest, next(read_documents(location, name)).ids)\n"
    )
    with running_hub() as hub:
        commit = hub.commit({"000_00000.parquet": buffer.getvalue().to_pybytes(), "000_00001.parquet": b"another"})
        folder = f"hf://datasets/{REPOSITORY}@{commit}/{FOLDER}"
        environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
        command = [sys.executable, "-c", code, f"{folder}/000_*0.parquet"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    name, location, digest, ids = done.stdout.strip().split(" ", 3)
    assert (name, location, ids) == ("general/0000/000_00000.parquet", f"{folder}/000_00000.parquet", "['a', 'b']")
    assert digest.startswith("blob_id:")
