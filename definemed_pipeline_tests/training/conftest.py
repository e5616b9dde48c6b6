"""A micro world for training: a few hundred short texts, chats and corpus documents, and settings that train in about a second."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.artifacts.manifest import Manifest
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.training.settings import CptCheckpointsSettings, CptCorpusSettings, PretrainBaseModelSettings
from definemed_pipeline_tests.conftest import build_artifact

ORGANS = ("Lunge", "Leber", "Niere", "Haut", "Schilddrüse", "Milz")
SIGNS = ("Husten", "Fieber", "Müdigkeit", "Ausschlag", "Durst")
PLACES = ("Hamburg", "Köln", "Dresden", "Ulm")
CORPUS = [
    f"Eine Krankheit der {organ} zeigt sich oft durch {sign}. Die {organ} heilt mit Ruhe."
    for organ, sign in itertools.product(ORGANS, SIGNS)
]


@pytest.fixture
def pretraining_files(tmp_path: Path) -> dict[str, str]:
    texts = [
        f"In {place} scheint am {day}. Mai die Sonne, und alle gehen an den Fluss." for place in PLACES for day in range(1, 16)
    ]
    chats = [
        [{"role": "user", "content": f"Wo liegt {place}?"}, {"role": "assistant", "content": f"{place} liegt in Deutschland."}]
        for place in PLACES
    ] * 5
    paths = {"texts": tmp_path / "general.jsonl", "chats": tmp_path / "chat.jsonl"}
    paths["texts"].write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")
    paths["chats"].write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in chats), "utf-8")
    return {name: str(path) for name, path in paths.items()}


@pytest.fixture
def micro(pretraining_files: dict[str, str]) -> Callable[..., PretrainBaseModelSettings]:
    """Return settings of a micro model; keywords replace single values."""

    def settings_of(**changes: Any) -> PretrainBaseModelSettings:
        defaults = {
            "kind": "pretrain",
            "architecture": "qwen2",
            "vocabulary_size": 320,
            "hidden_size": 16,
            "intermediate_size": 32,
            "layers": 2,
            "heads": 2,
            "kv_heads": 1,
            "sequence_length": 64,
            "steps": 12,
            "batch_size": 2,
            "warmup_steps": 2,
            "checkpoint_every": 4,
            **pretraining_files,
        }
        return PretrainBaseModelSettings(**{**defaults, **changes})

    return settings_of


@pytest.fixture
def base_model(store: Store, micro: Callable[..., PretrainBaseModelSettings]) -> Callable[..., Manifest]:
    """Build a micro base model through the real payload's work function."""

    def build(partition: str = "micro", *, force: bool = False, **changes: Any) -> Manifest:
        from definemed_pipeline.training.pretrain import pretrain

        section = micro(**changes)
        sources = section.sources()
        return build_artifact(store, "base_models", pretrain, section, force=force, partition=partition, sources=sources)

    return build


@pytest.fixture
def finemed_de(store: Store) -> Manifest:
    """A corpus of two files, as `corpus.assemble` lays it out."""

    def write(draft: Draft[Any]) -> None:
        (draft.folder / "data").mkdir()
        for number in range(2):
            texts = CORPUS[number::2]
            table = pa.table({"id": [f"<urn:{number}-{row:02}>" for row in range(len(texts))], "text": texts})
            pq.write_table(table, draft.folder / "data" / f"finemed_de-0000{number}-of-00002.parquet")

    return build_artifact(store, "finemed_de", write, CptCorpusSettings())


@pytest.fixture
def cpt_settings() -> CptCheckpointsSettings:
    return CptCheckpointsSettings(
        epochs=2,
        learning_rate=1e-2,
        warmup_steps=2,
        global_batch_size=2,
        precision="float32",
        evaluate_every=4,
    )
