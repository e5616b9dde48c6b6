"""What makes training fast on a device: attention, compilation, the loss, and which activations are kept.

The recipe may ask for each (`compute.training`). What it leaves open is chosen for the device that is there, and every choice carries its
reason. None of it changes what is learnt but for rounding.
"""

import importlib.util
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils.import_utils import is_flash_attn_2_available, is_flash_attn_3_available, is_liger_kernel_available

from definemed_pipeline.errors import UserError
from definemed_pipeline.training.fused_loss import Kernel, fuse_loss
from definemed_pipeline.training.settings import Precision, TrainingExecutionSettings

Attention: TypeAlias = Literal["flash_attention_3", "flash_attention_2", "flex_attention", "sdpa", "eager"]
FASTEST_FIRST: tuple[Attention, ...] = ("flash_attention_3", "flash_attention_2", "flex_attention", "sdpa")
PACKAGES = {"flash_attention_3": "flash-attn-3 (built from its repository)", "flash_attention_2": "flash-attn"}
# What selective activation checkpointing keeps, by operator: results of matrix products with weights and of attention. The products
# inside eager attention are batched (bmm) and grow with the square of the length, so they are computed again.
KEPT = {
    "aten::mm",
    "aten::addmm",
    "aten::_scaled_dot_product_flash_attention",
    "aten::_scaled_dot_product_flash_attention_for_cpu",
    "aten::_scaled_dot_product_efficient_attention",
    "aten::_scaled_dot_product_cudnn_attention",
    "flash_attn::_flash_attn_varlen_forward",
    "flash_attn_3::_flash_attn_forward",
    "flash_attn_3::fwd",
    "flex_attention",
}


@dataclass(frozen=True, kw_only=True)
class Device:
    """A device as far as the choice depends on it. `capability` is a CUDA GPU's; on the processor there is none."""

    name: str
    capability: tuple[int, int] | None = None
    packages: frozenset[str] = frozenset()  # of flash_attention_2, flash_attention_3, liger_kernel
    has_compiler: bool = False

    @classmethod
    def found(cls, device: torch.device) -> "Device":
        """Look at the device and at what is installed for it."""
        if device.type != "cuda":
            has_compiler = shutil.which(os.environ.get("CXX", "g++")) is not None
            return cls(name=device.type.upper(), has_compiler=has_compiler)
        checks = {
            "flash_attention_2": is_flash_attn_2_available(),
            "flash_attention_3": is_flash_attn_3_available(),
            "liger_kernel": is_liger_kernel_available(),
        }
        return cls(
            name=torch.cuda.get_device_name(device),
            capability=torch.cuda.get_device_capability(device),
            packages=frozenset(name for name, is_there in checks.items() if is_there),
            has_compiler=importlib.util.find_spec("triton") is not None,
        )


@dataclass(frozen=True, kw_only=True)
class Acceleration:
    """How a model is computed; `reasons` says why for each choice that the recipe left open."""

    attention: Attention
    compile: bool
    fused_loss: Kernel | None
    activation_checkpointing: Literal["full", "selective", "none"]
    reasons: Mapping[str, str] = field(default_factory=dict)

    @property
    def flattened(self) -> bool:
        """Say whether batches are laid end to end (see `batches`)."""
        return self.attention.startswith("flash_attention")

    def explain(self) -> list[str]:
        """Return one line per choice, for the log."""
        choices = {name: value for name, value in asdict(self).items() if name != "reasons"}
        return [f"{name}: {value}{f' ({why})' if (why := self.reasons.get(name)) else ''}" for name, value in choices.items()]

    def apply(self, model: PreTrainedModel) -> None:
        """Make a model compute that way, in place, be it whole or sharded, with an adapter or without.

        Weights and their names stay as they are. Layers are compiled one by one: they share their code, so one is compiled for all, and
        what is compiled lies inside FSDP's hooks and around the layer's checkpointing.
        """
        model.set_attn_implementation(self.attention)
        model.get_input_embeddings().register_forward_hook(_as_autocast)
        if self.flattened:
            os.environ.setdefault("FLASH_ATTENTION_DETERMINISTIC", "1")  # else its gradients differ from run to run
        if self.activation_checkpointing != "none":
            chosen = {"context_fn": _selective} if self.activation_checkpointing == "selective" else {}
            model.activation_checkpointing_enable({"use_reentrant": False, **chosen})
        if self.compile:
            # Flash attention is given a layer's number; taken as a constant, each layer would be compiled anew, and from the ninth on none.
            torch._dynamo.config.allow_unspec_int_on_nn_module = True
            for layer in decoder_layers(model):
                layer.forward = torch.compile(layer.forward)
        if self.fused_loss:
            fuse_loss(model, self.fused_loss)


def decoder_layers(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the repeated blocks of a model."""
    return (module for module in model.modules() if isinstance(module, GradientCheckpointingLayer))


def choose_acceleration(execution: TrainingExecutionSettings, device: Device, *, precision: Precision) -> Acceleration:
    """Choose for a device what the recipe leaves open. Raise UserError where what it asks for does not run there."""
    attention, why_attention = _attention(execution, device, precision)
    compiled, why_compiled = _compile(execution, device)
    fused, why_fused = _fused_loss(execution, device)
    reasons = {"attention": why_attention, "compile": why_compiled, "fused_loss": why_fused}
    return Acceleration(
        attention=attention,
        compile=compiled,
        fused_loss=fused,
        activation_checkpointing=execution.activation_checkpointing,
        reasons={name: why for name, why in reasons.items() if why},
    )


def _attention(execution: TrainingExecutionSettings, device: Device, precision: Precision) -> tuple[Attention, str]:
    if execution.attention:
        if obstacle := _obstacle(execution.attention, device, precision):
            raise UserError(f"compute.training.attention is {execution.attention}, but {obstacle}; or leave it out")
        return execution.attention, ""
    passed_over: list[str] = []
    for attention in FASTEST_FIRST:
        obstacle = _obstacle(attention, device, precision)
        if not obstacle:
            break
        passed_over.append(f"not {attention}: {obstacle}")
    return attention, "; ".join(["the fastest that runs here", *passed_over])


def _obstacle(attention: Attention, device: Device, precision: Precision) -> str | None:
    """Say what keeps an attention from training on a device, with the cure."""
    if attention == "flex_attention":
        return _flex_obstacle(device)
    return _flash_obstacle(attention, device, precision) if attention in PACKAGES else None


def _flex_obstacle(device: Device) -> str | None:
    if device.capability is None:
        return "it has no backward pass without a GPU; take sdpa"
    return None if device.has_compiler else "it needs triton; install triton"


def _flash_obstacle(attention: Attention, device: Device, precision: Precision) -> str | None:
    if device.capability is None:
        return "it needs a CUDA GPU; take sdpa"
    if precision == "float32":
        return "it computes in half precision only; set cpt_checkpoints.precision to bfloat16"
    if device.capability < (8, 0) or (attention == "flash_attention_3" and device.capability >= (10, 0)):
        capability = ".".join(map(str, device.capability))
        return f"it is not written for {device.name} (compute capability {capability}); take flex_attention"
    return None if attention in device.packages else f"its package is not installed; install {PACKAGES[attention]}"


def _compile(execution: TrainingExecutionSettings, device: Device) -> tuple[bool, str]:
    compiler = "a C++ compiler" if device.capability is None else "triton"
    if execution.compile and not device.has_compiler:
        raise UserError(f"compute.training.compile is true, but {compiler} is missing; install it, or leave compile out")
    if execution.compile is not None:
        return execution.compile, ""
    if device.capability is None:
        return False, "without a GPU compiling takes longer than it saves"
    return device.has_compiler, "fuses what lies between the matrix products" if device.has_compiler else f"{compiler} is missing"


def _fused_loss(execution: TrainingExecutionSettings, device: Device) -> tuple[Kernel | None, str]:
    has_liger = "liger_kernel" in device.packages
    kernel: Kernel = "liger_kernel" if has_liger else "chunked"
    if execution.fused_loss is not None:
        return (kernel if execution.fused_loss else None), ""
    if device.capability is None:
        return None, "without a GPU it saves no time"
    return kernel, "never holds the logits of a whole batch" + ("" if has_liger else "; not liger_kernel: it is not installed")


def _as_autocast(module: nn.Module, inputs: Any, embedded: Tensor) -> Tensor:
    """Hand the layers what autocast computes in.

    It casts no embeddings, so that all that flows between the layers would stay float32: twice the memory, and queries and keys of another
    type than values, for which transformers warns and leaves the compiled code. FSDP's mixed precision computes as this does.
    """
    device = embedded.device.type
    return embedded.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else embedded


def _selective() -> Any:
    return create_selective_checkpoint_contexts(_keep_products)


def _keep_products(context: Any, operator: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    name = operator.name().split(".")[0]
    return CheckpointPolicy.MUST_SAVE if name in KEPT else CheckpointPolicy.PREFER_RECOMPUTE
