from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from definemed_pipeline.errors import UserError
from definemed_pipeline.training.encoding import DocumentEncoder
from definemed_pipeline.training.packing import IGNORED, Ids, PackedBlocks, pack, pack_corpus
from definemed_pipeline.training.settings import CptCorpusSettings
from definemed_pipeline_tests.conftest import build_artifact
from definemed_pipeline_tests.training.conftest import CORPUS

PADDING = 7
without_deadline = settings(deadline=None, max_examples=50)  # the machine may be busy
document_lengths = st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=5), min_size=1, max_size=6)
sequence_lengths = st.integers(2, 17)


def documents_of(batches: list[list[int]]) -> list[list[tuple[str, Ids]]]:
    """Number the documents; no token comes twice, so that a token in the wrong place is seen."""
    numbers, tokens = iter(range(10**6)), iter(range(10, 10**6))
    return [
        [(f"d{next(numbers)}", np.array([next(tokens) for _ in range(length)], dtype=np.uint32)) for length in batch]
        for batch in batches
    ]


def packed(
    folder: Path, batches: list[list[tuple[str, Ids]]], sequence_length: int, vocabulary_size: int = 10**6
) -> PackedBlocks:
    pack(batches, folder, sequence_length=sequence_length, vocabulary_size=vocabulary_size, padding_id=PADDING)
    return PackedBlocks(folder)


def unpack(folder: Path) -> Iterator[tuple[str, list[int]]]:
    """Put the documents together again from what `segments.parquet` says alone."""
    tokens = np.load(folder / "tokens.npy")
    found: dict[str, list[int]] = {}
    for row in pq.read_table(folder / "segments.parquet").to_pylist():
        assert row["document_start"] == len(found.setdefault(row["id"], []))
        found[row["id"]] += tokens[row["block"], row["start"] : row["start"] + row["tokens"]].tolist()
    yield from found.items()


@without_deadline
@given(batches=document_lengths, sequence_length=sequence_lengths)
def test_unpacking_gives_back_every_document_in_order(tmp_path_factory, batches, sequence_length) -> None:
    folder, documents = tmp_path_factory.mktemp("packed"), documents_of(batches)
    packed(folder, documents, sequence_length)
    assert list(unpack(folder)) == [(name, ids.tolist()) for batch in documents for name, ids in batch]


@without_deadline
@given(batches=document_lengths, sequence_length=sequence_lengths)
def test_no_token_is_lost_and_only_the_last_block_is_padded(tmp_path_factory, batches, sequence_length) -> None:
    blocks = packed(tmp_path_factory.mktemp("packed"), documents_of(batches), sequence_length)
    count, expected = blocks.count, sum(map(sum, batches))
    assert count["tokens"] == count["packed_tokens"] == expected
    assert count["documents"] == sum(map(len, batches))
    assert count["padding"] < sequence_length
    assert blocks.tokens.size == count["blocks"] * sequence_length == expected + count["padding"]
    assert (blocks.tokens.reshape(-1)[expected:] == PADDING).all()


@without_deadline
@given(batches=document_lengths, sequence_length=sequence_lengths)
def test_positions_restart_exactly_where_a_document_or_a_block_starts(tmp_path_factory, batches, sequence_length) -> None:
    blocks = packed(tmp_path_factory.mktemp("packed"), documents_of(batches), sequence_length)
    lengths = [length for batch in batches for length in batch]
    document_starts = {int(start) for start in np.cumsum([0, *lengths])}
    for number in range(len(blocks)):
        positions = blocks[number]["position_ids"]
        starts = {int(place) + number * sequence_length for place in np.flatnonzero(positions == 0)}
        here = range(number * sequence_length, (number + 1) * sequence_length)
        assert starts == {start for start in document_starts if start in here} | {here.start}
        assert set(np.diff(positions)[positions[1:] != 0]) <= {1}


@without_deadline
@given(batches=document_lengths, sequence_length=sequence_lengths)
def test_the_loss_counts_each_token_that_follows_one_of_its_own_document(tmp_path_factory, batches, sequence_length) -> None:
    blocks = packed(tmp_path_factory.mktemp("packed"), documents_of(batches), sequence_length)
    for number in range(len(blocks)):
        block = blocks[number]
        is_padding = np.arange(sequence_length) + number * sequence_length >= blocks.count["tokens"]
        is_counted = (block["position_ids"] > 0) & ~is_padding
        assert (block["labels"] == np.where(is_counted, block["input_ids"], IGNORED)).all()


@without_deadline
@given(batches=document_lengths, sequence_length=sequence_lengths)
def test_blocks_know_their_documents(tmp_path_factory, batches, sequence_length) -> None:
    folder, documents = tmp_path_factory.mktemp("packed"), documents_of(batches)
    blocks = packed(folder, documents, sequence_length)
    owner = {int(token): name for batch in documents for name, ids in batch for token in ids}
    for number in range(len(blocks)):
        assert blocks.documents([number]) == sorted(
            {owner[token] for token in blocks.tokens[number].tolist() if token != PADDING}
        )


def test_batches_make_no_difference(tmp_path) -> None:
    documents = documents_of([[5, 9, 3, 30, 1, 1, 12]])
    (tmp_path / "one").mkdir()
    (tmp_path / "many").mkdir()
    packed(tmp_path / "one", documents, 8)
    packed(tmp_path / "many", [[document] for document in documents[0]], 8)
    for name in ("tokens.npy", "segment_starts.npy", "packing.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "many" / name).read_bytes()


@pytest.mark.parametrize(("vocabulary_size", "dtype"), [(1 << 16, np.uint16), ((1 << 16) + 1, np.uint32)])
def test_tokens_are_mapped_and_not_loaded_in_the_smallest_type_that_holds_the_vocabulary(
    tmp_path, vocabulary_size, dtype
) -> None:
    tokens = packed(tmp_path, documents_of([[5, 9]]), 8, vocabulary_size).tokens
    assert isinstance(tokens, np.memmap)
    assert tokens.dtype == dtype


def test_the_corpus_is_packed_with_the_tokenizer_of_its_base_model(store, base_model, finemed_de) -> None:
    base = base_model()
    manifest = build_artifact(
        store, "cpt_corpus", pack_corpus, CptCorpusSettings(sequence_length=64), partition="micro", inputs=[base, finemed_de]
    )
    encoder = DocumentEncoder(store.folder(base) / "model")
    texts = [encoder.decode(ids) for _, ids in unpack(store.folder(manifest))]
    assert texts == CORPUS[0::2] + CORPUS[1::2]
    assert manifest.metrics["tokens"] == manifest.metrics["packed_tokens"] == sum(len(ids) for ids in encoder.encode(CORPUS))


def test_an_empty_corpus_is_refused_with_the_cure(store, base_model) -> None:
    def write(draft: Any) -> None:
        (draft.folder / "data").mkdir()
        empty = pa.table({"id": pa.array([], pa.string()), "text": pa.array([], pa.string())})
        pq.write_table(empty, draft.folder / "data" / "finemed_de-00000-of-00001.parquet")

    corpus = build_artifact(store, "finemed_de", write, CptCorpusSettings())
    with pytest.raises(UserError, match="no document to train on; lower"):
        build_artifact(store, "cpt_corpus", pack_corpus, CptCorpusSettings(), partition="micro", inputs=[base_model(), corpus])
