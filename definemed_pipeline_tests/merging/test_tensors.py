import math

import pytest
import torch
from safetensors.torch import save_file

from definemed_pipeline.merging.tensors import LINEAR_ABOVE, Weights, compare_tensors


@pytest.fixture
def weights(tmp_path):
    def write(name: str, **tensors: torch.Tensor) -> Weights:
        (tmp_path / name).mkdir()
        for number, (key, tensor) in enumerate(tensors.items(), start=1):  # one file each, as large models have them
            path = tmp_path / name / f"model-{number:05}-of-{len(tensors):05}.safetensors"
            save_file({key.replace("__", "."): tensor.contiguous()}, path)
        return Weights(tmp_path / name)

    return write


def compared(weights, base: torch.Tensor, cpt: torch.Tensor, merged: torch.Tensor):
    name = "model__layers__3__mlp__up_proj__weight"
    return compare_tensors(weights("base", **{name: base}), weights("cpt", **{name: cpt}), weights("merged", **{name: merged}))[0]


def test_angle_and_change_are_those_of_the_whole_tensor(weights) -> None:
    row = compared(
        weights,
        torch.tensor([[1.0, 0.0], [0.0, 0.0]]),
        torch.tensor([[1.0, 1.0], [0.0, 0.0]]),
        torch.tensor([[1.0, 0.5], [0, 0]]),
    )
    assert row["cosine"] == pytest.approx(math.sqrt(0.5))
    assert row["relative_change"] == pytest.approx(1.0)
    assert row["merged_change"] == pytest.approx(0.5)
    assert (row["layer"], row["module"], row["parameters"], row["is_finite"]) == (3, "mlp", 4, True)
    assert row["is_linear_fallback"] is False


def test_nearly_parallel_tensors_are_marked_as_merged_linearly(weights) -> None:
    angle = math.acos(LINEAR_ABOVE) * 0.99
    row = compared(weights, torch.tensor([1.0, 0.0]), torch.tensor([math.cos(angle), math.sin(angle)]), torch.ones(2))
    assert row["is_linear_fallback"] is True


def test_opposite_tensors_are_marked_as_merged_linearly(weights) -> None:
    assert compared(weights, torch.ones(2), -torch.ones(2), torch.ones(2))["is_linear_fallback"] is True


def test_a_tensor_of_zeros_has_no_angle_and_no_share_of_change(weights) -> None:
    row = compared(weights, torch.zeros(3), torch.ones(3), torch.zeros(3))
    assert (row["cosine"], row["relative_change"], row["merged_change"]) == (0.0, 1.0, 0.0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_no_numbers_are_marked(weights, value) -> None:
    assert compared(weights, torch.ones(2), torch.ones(2), torch.tensor([1.0, value]))["is_finite"] is False


def test_tensors_outside_the_layers_have_no_layer_and_all_are_sorted_by_name(weights) -> None:
    tensors = {
        "model__norm__weight": torch.ones(2),
        "model__embed_tokens__weight": torch.ones(2),
        "lm_head__weight": torch.ones(2),
    }
    rows = compare_tensors(weights("base", **tensors), weights("cpt", **tensors), weights("merged", **tensors))
    assert [(row["tensor"], row["layer"], row["module"]) for row in rows] == [
        ("lm_head.weight", None, "lm_head"),
        ("model.embed_tokens.weight", None, "embed_tokens"),
        ("model.norm.weight", None, "norm"),
    ]


def test_half_precision_is_compared_in_single(weights) -> None:
    one = torch.linspace(0.1, 1, 1000)
    row = compared(weights, one.bfloat16(), one.bfloat16(), one.bfloat16())
    assert row["cosine"] == pytest.approx(1, abs=1e-6)
    assert row["relative_change"] == 0
