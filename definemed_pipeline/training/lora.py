"""Low-rank adapters (Hu et al. 2021, arXiv 2106.09685) beside frozen weights: attached, saved on their own, merged into the weights.

By peft, injected into the model in place: it stays the class that FSDP, compilation and the Trainer know. Works alike on a model that is
sharded by FSDP, where the adapters are whole on every process and the Trainer averages their gradients.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import torch
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model
from peft.tuners.lora import Linear as AdaptedLinear
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

from definemed_pipeline.training.settings import LoraSettings

NAME = "default"
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


def attach_adapter(model: PreTrainedModel, chosen: LoraSettings, *, seed: int) -> None:
    """Freeze a model and put a trainable adapter beside each linear layer of its decoder; not beside embeddings and output layer.

    The adapters are float32 whatever the weights are, equal on every process for one seed, and change nothing before they are trained.
    """
    linear = [name for name, module in model.get_decoder().named_modules() if isinstance(module, nn.Linear)]
    config = LoraConfig(
        r=chosen.rank,
        lora_alpha=float(chosen.alpha),  # type: ignore[arg-type]  # a whole number by custom only
        lora_dropout=chosen.dropout,
        target_modules=sorted({name.rsplit(".", 1)[-1] for name in linear}),
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, model, NAME)
    for parameter in _adapter(model).values():
        parameter.data = parameter.data.float()


def save_adapter(model: PreTrainedModel, folder: Path, *, base: str) -> None:
    """Save the adapter alone, as peft loads it; `base` is what its config names as the model it belongs to.

    Equal adapters give equal bytes: peft would write the names of the adapted layers in an order that changes from run to run.
    """
    state = get_peft_model_state_dict(model, _adapter(model), adapter_name=NAME)
    tensors = {f"base_model.model.{name}": tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    config = cast(LoraConfig, model.peft_config[NAME]).to_dict() | {"base_model_name_or_path": base, "inference_mode": True}
    config = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
    folder.mkdir(parents=True, exist_ok=True)
    config_file, weights_file = (folder / name for name in ADAPTER_FILES)
    config_file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")
    save_file(tensors, weights_file, metadata={"format": "pt"})


@torch.no_grad()
def merge_adapter(model: PreTrainedModel) -> None:
    """Add the adapters to the weights and take them out of the model, which then has the names and dtypes of its base.

    The sum is taken in float32 and rounded once. On a sharded model each process adds its own part, without communication.
    """
    for name, layer in list(_adapted(model)):
        base, added = layer.get_base_layer(), layer.get_delta_weight(NAME)
        assert isinstance(base, nn.Linear)  # nothing else is adapted
        if isinstance(base.weight, DTensor):
            added = distribute_tensor(added, base.weight.device_mesh, base.weight.placements, src_data_rank=None)
        base.weight.copy_(base.weight.float() + added)
        model.set_submodule(name, base)
    del model.peft_config


def _adapted(model: nn.Module) -> Iterator[tuple[str, AdaptedLinear]]:
    return ((name, module) for name, module in model.named_modules() if isinstance(module, AdaptedLinear))


def _adapter(model: nn.Module) -> dict[str, Tensor]:
    """Return the adapter's weights only; the frozen ones, which may be sharded, are left alone."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
