import numpy as np
import pytest
from hypothesis import given

from definemed_pipeline.training.blocks import IGNORED
from definemed_pipeline_tests.training.packed_sets import (
    PADDING,
    document_lengths,
    documents_of,
    fifty_examples,
    packed,
    sequence_lengths,
)


@fifty_examples
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


@fifty_examples
@given(batches=document_lengths, sequence_length=sequence_lengths)
def test_the_loss_counts_each_token_that_follows_one_of_its_own_document(tmp_path_factory, batches, sequence_length) -> None:
    blocks = packed(tmp_path_factory.mktemp("packed"), documents_of(batches), sequence_length)
    for number in range(len(blocks)):
        block = blocks[number]
        is_padding = np.arange(sequence_length) + number * sequence_length >= blocks.count["tokens"]
        is_counted = (block["position_ids"] > 0) & ~is_padding
        assert (block["labels"] == np.where(is_counted, block["input_ids"], IGNORED)).all()


@fifty_examples
@given(batches=document_lengths, sequence_length=sequence_lengths)
def test_blocks_know_their_documents(tmp_path_factory, batches, sequence_length) -> None:
    folder, documents = tmp_path_factory.mktemp("packed"), documents_of(batches)
    blocks = packed(folder, documents, sequence_length)
    owner = {int(token): name for batch in documents for name, ids in batch for token in ids}
    for number in range(len(blocks)):
        assert blocks.documents([number]) == sorted(
            {owner[token] for token in blocks.tokens[number].tolist() if token != PADDING}
        )


@pytest.mark.parametrize(("vocabulary_size", "dtype"), [(1 << 16, np.uint16), ((1 << 16) + 1, np.uint32)])
def test_tokens_are_mapped_and_not_loaded_in_the_smallest_type_that_holds_the_vocabulary(
    tmp_path, vocabulary_size, dtype
) -> None:
    tokens = packed(tmp_path, documents_of([[5, 9]]), 8, vocabulary_size).tokens
    assert isinstance(tokens, np.memmap)
    assert tokens.dtype == dtype


@fifty_examples
@given(batches=document_lengths, sequence_length=sequence_lengths)
def test_the_mean_attended_length_is_that_of_the_tokens_one_by_one(tmp_path_factory, batches, sequence_length) -> None:
    blocks = packed(tmp_path_factory.mktemp("packed"), documents_of(batches), sequence_length)
    attended = np.concatenate([blocks[number]["position_ids"] + 1 for number in range(len(blocks))])[: blocks.count["tokens"]]
    assert blocks.mean_attended_length == pytest.approx(attended.mean(), rel=1e-12)
