import copy
import dataclasses
from functools import partial

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, Qwen2Config

from definemed_pipeline.errors import UserError
from definemed_pipeline.training.acceleration import Acceleration, Device, choose_acceleration
from definemed_pipeline.training.batches import collate
from definemed_pipeline.training.lora import attach_adapter
from definemed_pipeline.training.settings import LoraSettings, TrainingExecutionSettings
from definemed_pipeline_tests.training.flash_attention import attend_by_definition

PROCESSOR = Device(name="CPU", has_compiler=True)
AMPERE = Device(name="NVIDIA A100", capability=(8, 0), has_compiler=True)
HOPPER = partial(Device, name="NVIDIA H100", capability=(9, 0), has_compiler=True)
EVERYTHING = frozenset({"flash_attention_2", "flash_attention_3", "liger_kernel"})
PLAIN = Acceleration(attention="sdpa", compile=False, fused_loss=None, activation_checkpointing="none")
LAYERS = 10  # more than the eight versions of a function that are compiled


def chosen(device: Device, *, precision="bfloat16", **asked) -> Acceleration:
    return choose_acceleration(TrainingExecutionSettings(**asked), device, precision=precision)


# What is chosen


def test_a_processor_computes_plainly() -> None:
    acceleration = chosen(PROCESSOR)
    assert (acceleration.attention, acceleration.compile, acceleration.fused_loss) == ("sdpa", False, None)


@pytest.mark.parametrize(
    ("device", "precision", "attention"),
    [
        (HOPPER(packages=EVERYTHING), "bfloat16", "flash_attention_3"),
        (HOPPER(packages=frozenset({"flash_attention_2"})), "bfloat16", "flash_attention_2"),
        (HOPPER(), "bfloat16", "flex_attention"),
        (HOPPER(packages=EVERYTHING), "float32", "flex_attention"),
        (HOPPER(has_compiler=False), "bfloat16", "sdpa"),
        (AMPERE, "bfloat16", "flex_attention"),
        (Device(name="Tesla T4", capability=(7, 5), packages=EVERYTHING, has_compiler=True), "bfloat16", "flex_attention"),
        (Device(name="NVIDIA B200", capability=(10, 0), packages=EVERYTHING, has_compiler=True), "bfloat16", "flash_attention_2"),
    ],
    ids=lambda value: value.name if isinstance(value, Device) else value,
)
def test_a_gpu_gets_the_fastest_attention_that_runs_there(device, precision, attention) -> None:
    assert chosen(device, precision=precision).attention == attention


def test_a_gpu_compiles_and_fuses_the_loss_with_liger_where_it_is_installed() -> None:
    acceleration = chosen(HOPPER(packages=EVERYTHING))
    assert (acceleration.compile, acceleration.fused_loss) == (True, "liger_kernel")
    assert chosen(HOPPER()).fused_loss == "chunked"
    assert not chosen(HOPPER(has_compiler=False)).compile


def test_what_the_recipe_asks_for_is_taken() -> None:
    asked = {"attention": "eager", "compile": True, "fused_loss": True, "activation_checkpointing": "selective"}
    acceleration = chosen(PROCESSOR, **asked)
    assert acceleration == Acceleration(**{**asked, "fused_loss": "chunked"})
    asked = {"attention": "sdpa", "compile": False, "fused_loss": False, "activation_checkpointing": "none"}
    assert chosen(HOPPER(packages=EVERYTHING), **asked) == PLAIN


@pytest.mark.parametrize(
    ("device", "asked", "precision", "message"),
    [
        (PROCESSOR, {"attention": "flash_attention_2"}, "bfloat16", "flash_attention_2, but it needs a CUDA GPU; take sdpa"),
        (PROCESSOR, {"attention": "flex_attention"}, "bfloat16", "no backward pass without a GPU; take sdpa"),
        (HOPPER(), {"attention": "flash_attention_2"}, "bfloat16", "not installed; install flash-attn"),
        (
            HOPPER(packages=EVERYTHING),
            {"attention": "flash_attention_2"},
            "float32",
            "half precision only; set cpt_checkpoints.precision",
        ),
        (
            Device(name="Tesla T4", capability=(7, 5), packages=EVERYTHING),
            {"attention": "flash_attention_2"},
            "bfloat16",
            r"is not written for Tesla T4 \(compute capability 7.5\); take flex_attention",
        ),
        (HOPPER(has_compiler=False), {"attention": "flex_attention"}, "bfloat16", "it needs triton; install triton"),
        (HOPPER(has_compiler=False), {"compile": True}, "bfloat16", "compile is true, but triton is missing"),
        (Device(name="CPU"), {"compile": True}, "float32", r"compile is true, but a C\+\+ compiler is missing"),
    ],
    ids=lambda value: value.name if isinstance(value, Device) else "",
)
def test_what_the_recipe_asks_for_and_the_device_lacks_is_said_with_the_cure(device, asked, precision, message) -> None:
    with pytest.raises(UserError, match=message):
        chosen(device, precision=precision, **asked)


def test_each_choice_is_told_with_its_reason() -> None:
    attention, compiled, fused_loss, checkpointing = chosen(HOPPER(), compile=False).explain()
    assert attention.startswith(
        "attention: flex_attention (the fastest that runs here; not flash_attention_3: its package is not"
    )
    assert compiled == "compile: False"
    assert fused_loss.startswith("fused_loss: chunked (never holds the logits of a whole batch; not liger_kernel")
    assert checkpointing == "activation_checkpointing: full"


def test_only_flash_attention_wants_blocks_end_to_end() -> None:
    assert chosen(HOPPER(packages=EVERYTHING)).flattened
    assert not chosen(HOPPER()).flattened
    assert not chosen(PROCESSOR).flattened


def test_the_processor_of_this_machine_is_found() -> None:
    device = Device.found(torch.device("cpu"))
    assert (device.name, device.capability) == ("CPU", None)
    assert chosen(device, precision="float32").attention == "sdpa"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_the_gpu_of_this_machine_is_found() -> None:
    device = Device.found(torch.device("cuda"))
    assert device.capability == torch.cuda.get_device_capability()
    chosen(device)


# What it does to a model


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=False,
    )
    return AutoModelForCausalLM.from_config(config).train()


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    """Two rows of 24 tokens in segments of seven."""
    ids = torch.randint(0, 64, (2, 24), generator=torch.Generator().manual_seed(1))
    position_ids = (torch.arange(24) % 7).repeat(2, 1)
    return {"input_ids": ids, "position_ids": position_ids, "labels": ids.masked_fill(position_ids == 0, -100)}


def losses(model, batch, *, autocast: bool = False) -> list[float]:
    """Return the loss of three steps of AdamW."""
    optimiser = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=1e-2)
    found = []
    for _ in range(3):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = model(**batch, use_cache=False).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        found.append(float(loss.detach()))
    return found


WAYS = {
    "eager attention": {"attention": "eager"},
    "full checkpointing": {"activation_checkpointing": "full"},
    "selective checkpointing": {"activation_checkpointing": "selective"},
    "fused loss": {"fused_loss": "chunked"},
    "compiled, everything": {"compile": True, "activation_checkpointing": "selective", "fused_loss": "chunked"},
}


def accelerated(model, **way):
    dataclasses.replace(PLAIN, **way).apply(model)
    return model


@pytest.mark.parametrize(
    ("way", "with_adapter"),
    [
        *(
            pytest.param(way, with_adapter, id=f"{'lora' if with_adapter else 'full'}-{name}")
            for name, way in WAYS.items()
            for with_adapter in (False, True)
            if "compile" not in way
        ),
        pytest.param(WAYS["compiled, everything"], False, id="full-compiled, everything", marks=pytest.mark.slow),
    ],
)
def test_training_is_the_same_but_for_rounding(model, batch, way, with_adapter) -> None:
    if with_adapter:
        attach_adapter(model, LoraSettings(rank=4, alpha=8), seed=1)
    start = {name: weight.clone() for name, weight in model.state_dict().items()}
    expected = losses(model, batch)
    model.load_state_dict(start)
    assert losses(accelerated(model, **way), batch) == pytest.approx(expected, rel=1e-5)
    assert expected[-1] < expected[0]


@pytest.mark.parametrize(
    "way", [{"activation_checkpointing": "selective"}, {"fused_loss": "chunked"}], ids=lambda way: next(iter(way))
)
def test_training_in_half_precision_is_the_same_but_for_rounding(model, batch, way) -> None:
    expected = losses(accelerated(copy.deepcopy(model)), batch, autocast=True)
    assert losses(accelerated(model, **way), batch, autocast=True) == pytest.approx(expected, rel=1e-3)


def products_of_a_step(model, batch) -> int:
    """Count the multiplications and additions in matrix products of a forward and a backward pass."""
    with FlopCounterMode(display=False) as counter:
        model(**batch, use_cache=False).loss.backward()
    return counter.get_total_flops()


def saved_bytes(model, batch) -> int:
    """Return how much a forward pass keeps for the backward pass, apart from weights."""
    kept: dict[int, int] = {}
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(**batch, use_cache=False).loss
    loss.backward()
    return sum(kept.values())


def test_selective_checkpointing_computes_no_matrix_product_twice(model, batch) -> None:
    plain = products_of_a_step(model, batch)
    assert products_of_a_step(accelerated(model, activation_checkpointing="selective"), batch) == plain
    assert products_of_a_step(accelerated(model, activation_checkpointing="full"), batch) > 1.2 * plain


def test_checkpointing_keeps_less_for_the_backward_pass(model, batch) -> None:
    plain = saved_bytes(model, batch)
    assert saved_bytes(accelerated(model, activation_checkpointing="full"), batch) < plain / 2


@pytest.fixture
def graphs():
    """Return what counts the graphs that have been compiled since."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    return lambda: torch._dynamo.utils.counters["stats"]["unique_graphs"]


@pytest.mark.slow
def test_layers_are_compiled_once_for_all(model, batch, graphs) -> None:
    losses(accelerated(model, compile=True), batch)
    assert graphs() == 1


@pytest.mark.slow
def test_layers_that_call_flash_attention_are_compiled_for_any_layer_and_any_number_of_documents(
    model, graphs, monkeypatch
) -> None:
    """For a layer, for any layer, for any number of segments: three graphs, and none of them left by transformers' warnings."""
    accelerated(model, compile=True, activation_checkpointing="full")
    attend_by_definition(model, monkeypatch)
    for lengths in ([24], [7, 9, 8], [1, 2, 3, 4, 14], [12, 12]):
        position_ids = torch.cat([torch.arange(length) for length in lengths]).numpy()
        item = {"input_ids": position_ids, "labels": position_ids, "position_ids": position_ids, "block": 0}
        batch = collate([item], flattened=True)
        del batch["blocks"]
        with torch.autocast("cpu", torch.bfloat16):
            model(**batch, use_cache=False).loss.backward()
    assert graphs() == 3
    assert not torch._dynamo.utils.counters["graph_break"]


def test_under_autocast_layers_hand_on_half_precision(model, batch) -> None:
    found = []
    accelerated(model).model.layers[-1].register_forward_hook(lambda layer, inputs, output: found.append(output.dtype))
    model(**batch, use_cache=False)
    with torch.autocast("cpu", torch.bfloat16):
        model(**batch, use_cache=False)
    assert found == [torch.float32, torch.bfloat16]


def test_a_models_config_and_the_names_of_its_weights_stay_as_they_are(model) -> None:
    config, names = model.config.to_json_string(), list(model.state_dict())
    accelerated(model, **WAYS["compiled, everything"])
    assert model.config.to_json_string() == config
    assert list(model.state_dict()) == names
