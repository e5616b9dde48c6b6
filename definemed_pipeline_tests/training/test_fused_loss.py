import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional
from transformers import AutoModelForCausalLM, Qwen2Config
from transformers.utils import is_liger_kernel_available

from definemed_pipeline.training import fused_loss
from definemed_pipeline.training.blocks import IGNORED
from definemed_pipeline.training.fused_loss import KERNELS, fuse_loss

VOCABULARY = 40


@pytest.fixture
def model():
    torch.manual_seed(0)
    shape = {"vocab_size": VOCABULARY, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    return AutoModelForCausalLM.from_config(Qwen2Config(**shape, num_attention_heads=2, num_key_value_heads=1)).train()


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    ids = torch.randint(0, VOCABULARY, (2, 10), generator=torch.Generator().manual_seed(1))
    labels = ids.clone()
    labels[0, 3:6] = IGNORED
    return {"input_ids": ids, "labels": labels}


def check_against_whole_logits(kernel: str, *, tokens: int, ignored: int, dtype: torch.dtype, tolerance: float) -> None:
    """Compare sum and gradients with those of the whole logits in float64."""
    generator = torch.Generator().manual_seed(tokens)
    hidden, weight = (torch.randn(rows, 16, generator=generator).to(dtype).requires_grad_() for rows in (tokens, VOCABULARY))
    labels = torch.randint(0, VOCABULARY, (tokens,), generator=generator)
    labels[:ignored] = IGNORED
    logits = hidden.double() @ weight.double().T
    expected = functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
    found = KERNELS[kernel](hidden, weight, labels)
    assert found.dtype == torch.float32
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=min(tolerance, 1e-3))
    gradients = (torch.autograd.grad(loss, (hidden, weight)) for loss in (found, expected))
    for one, other in zip(*gradients, strict=True):
        assert (one.double() - other.double()).norm() <= tolerance * other.double().norm()


@given(tokens=st.integers(1, 40), share_ignored=st.floats(0, 1), rows=st.integers(1, 50))
def test_any_number_of_rows_at_a_time_gives_the_loss_of_whole_logits(tokens, share_ignored, rows) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fused_loss, "FUSED_ROWS", rows)
        ignored = int(share_ignored * tokens)
        check_against_whole_logits("chunked", tokens=tokens, ignored=ignored, dtype=torch.float32, tolerance=1e-5)


def test_states_in_half_precision_give_a_loss_in_full_precision() -> None:
    check_against_whole_logits("chunked", tokens=2000, ignored=100, dtype=torch.bfloat16, tolerance=1e-2)


@pytest.mark.parametrize("counted", [None, torch.tensor(40)], ids=["a batch alone", "accumulated batches"])
def test_the_loss_is_the_models_own_and_so_are_the_gradients(model, batch, counted) -> None:
    def loss_and_gradients() -> tuple[float, list[torch.Tensor]]:
        model.zero_grad()
        loss = model(**batch, use_cache=False, num_items_in_batch=counted).loss
        loss.backward()
        return float(loss.detach()), [weight.grad.clone() for weight in model.parameters()]

    expected, expected_gradients = loss_and_gradients()
    fuse_loss(model, "chunked")
    found, gradients = loss_and_gradients()
    assert found == pytest.approx(expected, rel=1e-6)
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(gradients, expected_gradients, strict=True))


def test_whole_logits_are_never_computed_in_training(model, batch) -> None:
    fuse_loss(model, "chunked")
    assert model(**batch, use_cache=False).logits.shape[-1] == model.config.hidden_size


def test_a_model_that_is_evaluated_gives_logits_and_its_own_loss(model, batch) -> None:
    with torch.no_grad():
        expected = model.eval()(**batch, use_cache=False)
        fuse_loss(model, "chunked")
        found = model(**batch, use_cache=False)
    assert torch.equal(found.logits, expected.logits)
    assert torch.equal(found.loss, expected.loss)


@pytest.mark.slow
@pytest.mark.skipif(not is_liger_kernel_available(), reason="needs liger-kernel")
def test_ligers_kernels_give_the_loss_of_whole_logits() -> None:
    """Without a GPU the kernels run in triton's interpreter, which has to be asked for before triton is loaded."""
    checks = "; ".join(
        f"check('liger_kernel', tokens=50, ignored=7, dtype=torch.{dtype}, tolerance={tolerance})"
        for dtype, tolerance in (("float32", 1e-5), ("bfloat16", 1e-2))
    )
    code = f"import torch; from {__name__} import check_against_whole_logits as check; {checks}"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "TRITON_INTERPRET": "1"})
