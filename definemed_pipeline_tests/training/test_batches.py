from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, Qwen2Config

from definemed_pipeline.training.batches import collate
from definemed_pipeline.training.blocks import IGNORED

LENGTH = 12


@st.composite
def blocks(draw: st.DrawFn) -> list[dict]:
    """Blocks as `PackedBlocks` gives them, cut into segments anywhere; a segment's first label is left out."""
    items = []
    for number in range(draw(st.integers(1, 4))):
        starts = sorted({0, *draw(st.lists(st.integers(1, LENGTH - 1), max_size=4))})
        segment = np.searchsorted(starts, np.arange(LENGTH), side="right") - 1
        input_ids = np.array(draw(st.lists(st.integers(0, 19), min_size=LENGTH, max_size=LENGTH)))
        labels = np.where(np.isin(np.arange(LENGTH), starts), IGNORED, input_ids)
        position_ids = np.arange(LENGTH) - np.take(starts, segment)
        items.append({"input_ids": input_ids, "labels": labels, "position_ids": position_ids, "block": 10 + number})
    return items


@given(items=blocks(), flattened=st.booleans())
def test_both_layouts_hold_the_same_tokens_in_the_same_order(items, flattened) -> None:
    batch = collate(items, flattened=flattened)
    for name in ("input_ids", "labels", "position_ids"):
        assert batch[name].shape == ((1, len(items) * LENGTH) if flattened else (len(items), LENGTH))
        assert batch[name].dtype == torch.int64
        assert batch[name].flatten().tolist() == [value for item in items for value in item[name].tolist()]
    assert batch["blocks"] == [item["block"] for item in items]


@given(items=blocks())
def test_nothing_beside_the_positions_speaks_about_attention_in_rows(items) -> None:
    assert set(collate(items, flattened=False)) == {"input_ids", "labels", "position_ids", "blocks"}


@given(items=blocks())
def test_flattened_batches_carry_the_bounds_of_their_segments(items) -> None:
    batch = collate(items, flattened=True)
    bounds = batch["cu_seq_lens_q"].tolist()
    assert (bounds[0], bounds[-1]) == (0, len(items) * LENGTH)
    positions = torch.cat([torch.arange(end - start) for start, end in pairwise(bounds)])
    assert positions.tolist() == batch["position_ids"][0].tolist()
    assert max(np.diff(bounds)) <= batch["max_length_q"] == LENGTH
    assert batch["cu_seq_lens_k"].tolist() == bounds
    assert batch["max_length_k"] == LENGTH
    assert batch["cu_seq_lens_q"].dtype == torch.int32


@given(items=blocks())
def test_no_token_is_predicted_from_another_segment(items) -> None:
    """The loss shifts labels by one: what stands first in a row or a segment is predicted by none."""
    for flattened in (False, True):
        batch = collate(items, flattened=flattened)
        following = batch["labels"][:, 1:]
        is_first = batch["position_ids"][:, 1:] == 0
        assert (following[is_first] == IGNORED).all()
        assert int((following != IGNORED).sum()) == sum(int((item["labels"] != IGNORED).sum()) for item in items)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    shape = {"vocab_size": 20, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    return AutoModelForCausalLM.from_config(Qwen2Config(**shape, num_attention_heads=2, num_key_value_heads=1))


@given(items=blocks())
def test_both_layouts_have_the_same_loss(model, items) -> None:
    def loss(flattened: bool) -> float:
        batch = collate(items, flattened=flattened)
        del batch["blocks"]
        with torch.no_grad():
            return float(model(**batch, use_cache=False, num_items_in_batch=1).loss)

    assert loss(True) == pytest.approx(loss(False), rel=1e-5)
