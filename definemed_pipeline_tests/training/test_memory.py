"""Memory: what the formulas say is what real tensors take, in training steps of small models on the processor."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from peft import LoraConfig, inject_adapter_in_model
from torch.distributed._tools.fsdp2_mem_tracker import FSDPMemTracker
from torch.distributed._tools.mem_tracker import MemTracker, _MemRefType
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from definemed_pipeline.training.memory import LOSS_BYTES, Layout, layer_activations, memory_per_gpu
from definemed_pipeline.training.model_shape import ModelShape, read_shape, shape_named

ROWS, LENGTH = 2, 64
TINY = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "vocab_size": 101,
}
SMALL = {
    "model_type": "qwen2",
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 6000,
}
ARCHITECTURES = [{"model_type": "qwen2"}, {"model_type": "mistral", "head_dim": 12}]
MODES = {
    "float32": {"precision": "float32"},
    "autocast": {"precision": "bfloat16"},
    "bf16 copies": {"precision": "bfloat16", "processes": 2},  # as FSDP computes
}


def layout_of(**changes: Any) -> Layout:
    plain = {"micro_batch_size": ROWS, "sequence_length": LENGTH, "activation_checkpointing": "none", "fused_loss": False}
    return Layout(**{**plain, **changes})


def build(config: dict[str, Any], layers: int, layout: Layout, attention: str) -> tuple[ModelShape, PreTrainedModel]:
    config = {**config, "num_hidden_layers": layers}
    dtype = torch.bfloat16 if layout.precision == "bfloat16" and not layout.is_autocast else torch.float32
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), attn_implementation=attention, dtype=dtype)
    if layout.activation_checkpointing == "full":
        model.activation_checkpointing_enable({"use_reentrant": False})
    return read_shape(config, origin="tiny"), model.train()


def forward(model: PreTrainedModel, layout: Layout, *, packed: bool = False) -> torch.Tensor:
    """Return the loss of a batch; `packed` rows hold two documents each."""
    ids = torch.randint(0, 100, (layout.micro_batch_size, layout.sequence_length))
    positions = torch.arange(layout.sequence_length)
    if packed:
        positions = positions % (layout.sequence_length // 2)
    with torch.autocast("cpu", torch.bfloat16, enabled=layout.is_autocast):
        loss = model(input_ids=ids, labels=ids, position_ids=positions.expand(ids.shape), use_cache=False).loss
    assert isinstance(loss, torch.Tensor)
    return loss


def saved_bytes(run: Callable[[], Any], model: PreTrainedModel) -> int:
    """Return the bytes that autograd keeps for the backward pass beside the weights; what several operators keep counts once."""
    weights = {one.untyped_storage().data_ptr() for one in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor  # holding on to it keeps its address its own
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        run()
    return sum(one.untyped_storage().nbytes() for address, one in kept.items() if address not in weights)


def saved_by_a_layer(config: dict[str, Any], layout: Layout, attention: str, *, packed: bool) -> float:
    """Return what one layer keeps of a token, its bf16 copies of weights left out: the difference between two layers and one."""
    kept = []
    for layers in (1, 2):
        shape, model = build(config, layers, layout, attention)
        kept.append(saved_bytes(lambda model=model: forward(model, layout, packed=packed), model))
    copies = 2 * shape.layer_matrix_parameters if layout.is_autocast and layout.activation_checkpointing == "none" else 0
    return (kept[1] - kept[0] - copies) / layout.tokens


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("config", [{**TINY, **one} for one in ARCHITECTURES], ids=lambda one: one["model_type"])
@pytest.mark.parametrize(("attention", "packed"), [("linear", False), ("sdpa", True), ("eager", False)])
def test_a_layer_keeps_exactly_what_the_formula_says(mode, config, attention, packed):
    """On the processor sdpa is flash attention where there is no mask, so it stands in for it."""
    layout = layout_of(attention=attention, **MODES[mode])
    implementation = "eager" if attention == "eager" else "sdpa"
    shape = read_shape({**config, "num_hidden_layers": 1}, origin="tiny")
    assert saved_by_a_layer(config, layout, implementation, packed=packed) == layer_activations(shape, layout)


@pytest.mark.parametrize("mode", MODES)
def test_with_full_checkpointing_a_layer_keeps_its_input_only(mode):
    layout = layout_of(activation_checkpointing="full", **MODES[mode])
    saved = saved_by_a_layer({**TINY, "model_type": "qwen2"}, layout, "sdpa", packed=False)
    assert saved == layout.residual_bytes * TINY["hidden_size"]


@pytest.mark.parametrize("mode", MODES)
def test_selective_checkpointing_keeps_a_layers_input_and_what_products_and_attention_gave(mode):
    """Torch keeps these beside autograd's graph, so what is alive after the forward pass is counted, in blocks of 512 bytes."""
    layout = layout_of(activation_checkpointing="selective", **MODES[mode])
    config = {**TINY, "model_type": "mistral", "head_dim": 12}
    alive = []
    for layers in (1, 2):
        shape, model = build(config, layers, layout, "sdpa")
        model.activation_checkpointing_enable({"use_reentrant": False, "context_fn": keep_products})
        tracker = MemTracker()
        tracker.track_external(model)
        with tracker:
            loss = forward(model, layout)
            alive.append(tracker.get_tracker_snapshot("current")[torch.device("cpu")][_MemRefType.ACT])
        del loss
    expected = memory_per_gpu(shape, layout).activations / shape.layers
    assert alive[1] - alive[0] == pytest.approx(expected, rel=0.01)


def keep_products() -> Any:
    kept = {
        torch.ops.aten.mm.default,
        torch.ops.aten.addmm.default,
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
    }
    return create_selective_checkpoint_contexts(
        lambda _, operator, *__, **___: CheckpointPolicy.MUST_SAVE if operator in kept else CheckpointPolicy.PREFER_RECOMPUTE
    )


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_weights_gradients_and_moments_take_sixteen_bytes_a_parameter(tied):
    layout = layout_of(precision="float32")
    shape, model = build({**TINY, "model_type": "qwen2", "tie_word_embeddings": tied}, 2, layout, "sdpa")
    optimiser = torch.optim.AdamW(model.parameters())
    forward(model, layout).backward()
    optimiser.step()
    expected = memory_per_gpu(shape, layout)
    assert expected.weights == sum(one.nbytes for one in model.parameters())
    assert expected.gradients == sum(one.grad.nbytes for one in model.parameters())
    moments = [state[name] for state in optimiser.state.values() for name in ("exp_avg", "exp_avg_sq")]
    assert expected.moments == sum(one.nbytes for one in moments)
    assert expected.weights + expected.gradients + expected.moments == 16 * shape.parameters


def test_adapters_leave_gradients_and_moments_to_themselves():
    layout = layout_of(precision="bfloat16", adapter_rank=4)
    shape, model = build({**TINY, "model_type": "qwen2"}, 2, layout, "sdpa")
    names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    inject_adapter_in_model(LoraConfig(r=4, target_modules=names), model)
    trained = [one for one in model.parameters() if one.requires_grad]
    for one in trained:
        one.data = one.data.float()
    expected = memory_per_gpu(shape, layout)
    assert expected.weights == sum(one.nbytes for one in model.parameters())
    assert expected.gradients == sum(one.nbytes for one in trained)
    assert expected.moments == 2 * expected.gradients


@pytest.mark.parametrize("mode", ["float32", "autocast"])
@pytest.mark.parametrize("checkpointing", ["none", "full"])
def test_the_peak_of_a_real_step_is_met_within_five_per_cent(mode, checkpointing):
    """The second batch of an accumulated step: gradients and moments are there already. Every tensor is counted, by torch's own tracker."""
    layout = Layout(
        micro_batch_size=2,
        sequence_length=128,
        activation_checkpointing=checkpointing,
        fused_loss=False,
        **MODES[mode],
    )
    shape, model = build(SMALL, 3, layout, "sdpa")
    optimiser = torch.optim.AdamW(model.parameters(), foreach=False)
    forward(model, layout).backward()
    optimiser.step()
    tracker = MemTracker()
    tracker.track_external(model, optimiser, *(one.grad for one in model.parameters()))
    with tracker:
        forward(model, layout).backward()
    measured = tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"]
    assert memory_per_gpu(shape, layout).total == pytest.approx(measured, rel=0.05)


@pytest.fixture
def four_processes() -> Iterator[DeviceMesh]:
    """This process as the first of four, the messages between which are faked: they arrive at once and say nothing."""
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=4)
    yield init_device_mesh("cpu", (4,))
    dist.destroy_process_group()


@pytest.mark.parametrize("checkpointing", ["none", "full"])
def test_the_peak_of_a_sharded_step_is_met_within_five_per_cent(four_processes, checkpointing):
    """FSDP2 in the groups that transformers makes: embedding, each layer, and the last norm with the head, which stay gathered."""
    layout = Layout(
        micro_batch_size=2,
        sequence_length=256,
        processes=4,
        activation_checkpointing=checkpointing,
        fused_loss=False,
    )
    shape, model = build(SMALL, 4, dataclasses.replace(layout, processes=1), "sdpa")
    policy = {"mesh": four_processes, "mp_policy": MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)}
    for part in (model.model.embed_tokens, *model.model.layers):
        fully_shard(part, **policy)
    fully_shard([model.model.norm, model.lm_head], reshard_after_forward=False, **policy)
    fully_shard(model, **policy)
    optimiser = torch.optim.AdamW(model.parameters(), foreach=False)
    tracker = FSDPMemTracker(model, optimiser)
    with tracker:
        forward(model, layout).backward()
        optimiser.step()
        tracker.reset_mod_stats()
        forward(model, layout).backward()
    measured = tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"]
    assert memory_per_gpu(shape, layout).total == pytest.approx(measured, rel=0.05)


def test_sharding_divides_what_is_kept_and_not_what_is_computed():
    shape = shape_named("qwen2.5-7b")
    two, eight = (memory_per_gpu(shape, Layout(micro_batch_size=1, sequence_length=4096, processes=n)) for n in (2, 8))
    for part in ("weights", "gradients", "moments"):
        assert getattr(two, part) == 4 * getattr(eight, part)
    for part in ("compute_copies", "activations", "working_memory"):
        assert getattr(two, part) == getattr(eight, part)


def test_selective_checkpointing_lies_between_the_others():
    shape = shape_named("mistral-7b")
    kept = [
        memory_per_gpu(shape, Layout(micro_batch_size=1, sequence_length=4096, activation_checkpointing=kind)).activations
        for kind in ("full", "selective", "none")
    ]
    assert kept == sorted(kept)


def test_the_fused_loss_does_not_grow_with_the_batch():
    shape = shape_named("qwen2.5-7b")
    one, four = (memory_per_gpu(shape, Layout(micro_batch_size=n, sequence_length=4096)).working_memory for n in (1, 4))
    assert one == four
    whole = [Layout(micro_batch_size=n, sequence_length=4096, processes=2, fused_loss=False) for n in (1, 4)]
    one, four = (memory_per_gpu(shape, layout).working_memory for layout in whole)
    assert four == 4 * one == LOSS_BYTES * shape.vocabulary_size * whole[1].tokens
