from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given

from definemed_pipeline.training import packing
from definemed_pipeline.training.packing import BlockFormat, Part, PartWriter, join
from definemed_pipeline_tests.training.packed_sets import (
    PADDING,
    document_lengths,
    documents_of,
    fifty_examples,
    packed,
    sequence_lengths,
    unpack,
)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@fifty_examples
@given(batches=document_lengths, sequence_length=sequence_lengths)
def test_unpacking_gives_back_every_document_in_order(tmp_path_factory, batches, sequence_length) -> None:
    folder, documents = tmp_path_factory.mktemp("packed"), documents_of(batches)
    packed(folder, documents, sequence_length)
    assert list(unpack(folder)) == [(name, ids.tolist()) for batch in documents for name, ids in batch]


@fifty_examples
@given(batches=document_lengths, sequence_length=sequence_lengths)
def test_no_token_is_lost_and_only_the_last_block_is_padded(tmp_path_factory, batches, sequence_length) -> None:
    blocks = packed(tmp_path_factory.mktemp("packed"), documents_of(batches), sequence_length)
    count, expected = blocks.count, sum(map(sum, batches))
    assert count["tokens"] == count["packed_tokens"] == expected
    assert count["documents"] == sum(map(len, batches))
    assert count["padding"] < sequence_length
    assert blocks.tokens.size == count["blocks"] * sequence_length == expected + count["padding"]
    assert (blocks.tokens.reshape(-1)[expected:] == PADDING).all()


@fifty_examples
@given(batches=document_lengths, sequence_length=sequence_lengths)
def test_a_split_document_is_one_that_stands_in_two_blocks_or_more(tmp_path_factory, batches, sequence_length) -> None:
    folder = tmp_path_factory.mktemp("packed")
    count = packed(folder, documents_of(batches), sequence_length).count
    segments = pq.read_table(folder / "segments.parquet").to_pylist()
    blocks_of: dict[str, set[int]] = {}
    for row in segments:
        blocks_of.setdefault(row["id"], set()).add(row["block"])
    assert count["split_documents"] == sum(len(blocks) > 1 for blocks in blocks_of.values())
    assert count["segments"] == len(segments) == sum(map(len, blocks_of.values()))


@fifty_examples
@given(batches=document_lengths, sequence_length=sequence_lengths)
def test_batches_and_parts_make_no_difference(tmp_path_factory, batches, sequence_length) -> None:
    folder, documents = tmp_path_factory.mktemp("packed"), documents_of(batches)
    whole = [document for batch in documents for document in batch]
    (folder / "whole").mkdir()
    (folder / "batches").mkdir()
    packed(folder / "whole", [whole], sequence_length)
    packed(folder / "batches", documents, sequence_length)
    block_format = BlockFormat(sequence_length=sequence_length, vocabulary_size=10**6, padding_id=PADDING)
    parts: list[Part] = []
    for number, batch in enumerate(documents):
        offset = sum(part.tokens for part in parts)
        with PartWriter(folder / f"part {number}", block_format, role="train", offset=offset) as writer:
            writer.append(batch)
        parts.append(Part.read(folder / f"part {number}", block_format))
    join(parts, folder / "parts", block_format)
    assert contents(folder / "whole") == contents(folder / "batches") == contents(folder / "parts")


def test_row_groups_and_pages_of_segments_do_not_depend_on_batches(tmp_path, monkeypatch) -> None:
    """With so many rows, and ids as long as those of web pages, a row group has several pages: parquet ends one where a piece ends."""
    monkeypatch.setattr(packing, "SEGMENTS_PER_GROUP", 30_000)
    documents = [(f"{name:>50}", ids) for name, ids in documents_of([[1] * 50_000])[0]]
    for size in (100, 777, 50_000):
        (tmp_path / str(size)).mkdir()
        packed(tmp_path / str(size), [documents[start : start + size] for start in range(0, 50_000, size)], 4)
    assert contents(tmp_path / "100") == contents(tmp_path / "777") == contents(tmp_path / "50000")
    metadata = pq.read_metadata(tmp_path / "100" / "segments.parquet")
    assert [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)] == [30_000, 20_000]


@pytest.mark.parametrize("file", ["tokens.bin", "segment_starts.bin", "segments.arrow", "part.json"])
@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_a_part_that_is_not_whole_is_no_part(tmp_path, file: str, damage: str) -> None:
    block_format = BlockFormat(sequence_length=8, vocabulary_size=10**6, padding_id=PADDING)
    with PartWriter(tmp_path, block_format, role="train", offset=0) as writer:
        for batch in documents_of([[5, 9], [30]]):
            writer.append(batch)
    assert Part.read(tmp_path, block_format) == writer.part
    content = (tmp_path / file).read_bytes()
    if damage == "gone":
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=str(tmp_path)):
        Part.read(tmp_path, block_format)


def test_a_set_without_a_document_has_no_block(tmp_path) -> None:
    blocks = packed(tmp_path, [], 8)
    assert (len(blocks), blocks.sequence_length, blocks.count["tokens"], blocks.count["padding"]) == (0, 8, 0, 0)
    assert blocks.documents([]) == []
    assert blocks.mean_attended_length == 0
    assert np.load(tmp_path / "segment_starts.npy").shape == (0,)
