import math

import pytest
import torch
from safetensors.torch import save_file

from definemed_pipeline.merging import tensors
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
    folders = (weights(stage, **{name: tensor}) for stage, tensor in (("base", base), ("cpt", cpt), ("merged", merged)))
    return next(compare_tensors(*folders))


def test_angle_and_change_are_those_of_the_whole_tensor(weights) -> None:
    row = compared(
        weights,
        torch.tensor([[1.0, 0.0], [0.0, 0.0]]),
        torch.tensor([[1.0, 1.0], [0.0, 0.0]]),
        torch.tensor([[1.0, 0.5], [0, 0]]),
    )
    assert row["cosine"] == pytest.approx(math.sqrt(0.5))
    assert row["relative_change"] == pytest.approx(1.0)
    assert row["angle_degrees"] == pytest.approx(45)
    assert row["merged_change"] == pytest.approx(0.5)
    assert row["merged_cosine_to_base"] == pytest.approx(1 / math.sqrt(1.25))
    assert row["merged_cosine_to_cpt"] == pytest.approx(1.5 / math.sqrt(2.5))
    assert (row["layer"], row["module"], row["parameters"], row["is_finite"]) == (3, "mlp", 4, True)
    assert row["is_nearly_parallel"] is False


@pytest.mark.parametrize("angle", [1e-5, 1e-3, 0.1, 1.5, 3.1])
def test_an_angle_is_told_however_small_it_is(weights, angle) -> None:
    """A cosine in single precision tells no angle below a hundredth of a degree."""
    across = torch.zeros(1000)
    across[:2] = torch.tensor([math.cos(angle), math.sin(angle)])
    along = torch.zeros(1000)
    along[0] = 3
    assert compared(weights, along, across, along)["angle_degrees"] == pytest.approx(math.degrees(angle), rel=1e-3)


def test_a_tensor_is_read_in_pieces_and_none_is_lost(weights, monkeypatch) -> None:
    """Memory stays bounded however large an embedding is."""
    tensor = torch.arange(7 * 5, dtype=torch.float32).reshape(7, 5)
    monkeypatch.setattr(tensors, "PIECE", 10)
    pieces = list(weights("base", embed=tensor, scalar=torch.tensor(3.0)).pieces("embed"))
    assert [len(piece) for piece in pieces] == [10, 10, 10, 5]
    assert torch.cat(pieces).equal(tensor.flatten())


def test_nearly_parallel_tensors_are_marked_as_nearly_parallel(weights) -> None:
    angle = math.acos(LINEAR_ABOVE) * 0.99
    row = compared(weights, torch.tensor([1.0, 0.0]), torch.tensor([math.cos(angle), math.sin(angle)]), torch.ones(2))
    assert row["is_nearly_parallel"] is True


def test_opposite_tensors_are_marked_as_nearly_parallel(weights) -> None:
    assert compared(weights, torch.ones(2), -torch.ones(2), torch.ones(2))["is_nearly_parallel"] is True


def test_a_tensor_of_zeros_has_no_angle_and_no_share_of_change(weights) -> None:
    row = compared(weights, torch.zeros(3), torch.ones(3), torch.zeros(3))
    assert (row["angle_degrees"], row["relative_change"], row["merged_change"]) == (90.0, 1.0, 0.0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_no_numbers_are_marked(weights, value) -> None:
    assert compared(weights, torch.ones(2), torch.ones(2), torch.tensor([1.0, value]))["is_finite"] is False


def test_tensors_outside_the_layers_have_no_layer_and_all_are_sorted_by_name(weights) -> None:
    stored = {
        "model__norm__weight": torch.ones(2),
        "model__embed_tokens__weight": torch.ones(2),
        "lm_head__weight": torch.ones(2),
    }
    rows = list(compare_tensors(*(weights(stage, **stored) for stage in ("base", "cpt", "merged"))))
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
