"""Hold the arithmetic of `definemed plan` against torch and transformers, without a GPU: at real sizes, with tensors that have no values.

    python benchmarks/plan.py --json OUT
    python benchmarks/plan.py --json OUT --models qwen2.5-0.5b --lake LAKE --recipe demo

Under FakeTensorMode the real code of a training step runs on tensors that are shapes only: every operator is there, and nothing is computed. On it

- `parameters` counts the weights of the model that transformers makes of the config;
- `flops` counts the products of a forward and backward pass by torch's FlopCounterMode, with eager attention, which multiplies with all tokens of a
  row, so the formula is asked for the whole length;
- `peak_gib` is the most that is alive in the second micro-batch of a step, when gradients and moments are there, by torch's MemTracker: one process
  with float32 weights under autocast, and one of eight under FSDP2 as transformers shards a model (bf16 copies, float32 reduction), where the
  messages between them are faked and the memory for them is not. One block at a time, sdpa, the loss not fused.

With `--lake` it also holds the steps and trained tokens of that lake's trainings against the plan of their recipe.
"""

import argparse
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from processes import commit
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.fsdp2_mem_tracker import FSDPMemTracker
from torch.distributed._tools.mem_tracker import MemTracker
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, PreTrainedModel

from definemed_pipeline.artifacts.provenance import current_provenance
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.recipe import load_recipe
from definemed_pipeline.training.flops import training_flops_per_token
from definemed_pipeline.training.memory import Layout, memory_per_gpu
from definemed_pipeline.training.model_shape import config_named, packaged_names, shape_named
from definemed_pipeline.training.planning import GIB, schedule

PROCESSES = 8
Figures = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, help="where the figures go")
    parser.add_argument("--models", nargs="*", default=packaged_names(), help="packaged models (default: all)")
    parser.add_argument("--sequence-length", type=int, default=4096, help="default: 4096")
    parser.add_argument("--lake", help="a lake whose trainings are held against the plan of --recipe")
    parser.add_argument("--recipe", default="demo", help="default: demo")
    arguments = parser.parse_args()
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=PROCESSES)
    figures: Figures = {
        "models": {name: figures_of(name, arguments.sequence_length) for name in arguments.models},
        "sequence_length": arguments.sequence_length,
        "commit": commit(),
        "load": os.getloadavg()[0],
        "versions": {name: current_provenance("benchmark").environment[name] for name in ("python", "torch", "transformers")},
    }
    if arguments.lake:
        figures["trainings"] = trainings_of(Store(arguments.lake), arguments.recipe)
    dist.destroy_process_group()
    arguments.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    print(json.dumps(figures, indent=2))


def figures_of(name: str, length: int) -> Figures:
    """Return formula and measurement of one model."""
    shape = shape_named(name)
    with model_of(name, "eager") as model:
        parameters = sum(one.numel() for one in model.parameters())
        with FlopCounterMode(display=False) as counter:
            backward(model, length)
    flops = training_flops_per_token(shape, attended_length=length) * length
    found: Figures = {
        "parameters": compared(shape.parameters, parameters),
        "flops": compared(flops, counter.get_total_flops()),
    }
    for processes in (1, PROCESSES):
        for checkpointing in ("none", "full"):
            layout = Layout(
                micro_batch_size=1,
                sequence_length=length,
                processes=processes,
                activation_checkpointing=checkpointing,  # type: ignore[arg-type]
                attention="sdpa",
                fused_loss=False,
            )
            measured = peak_bytes(name, layout)
            key = f"peak_gib, {processes} processes, activation checkpointing {checkpointing}"
            found[key] = compared(round(memory_per_gpu(shape, layout).total / GIB, 2), round(measured / GIB, 2))
    return found


@contextmanager
def model_of(name: str, attention: str) -> Iterator[PreTrainedModel]:
    """Make a packaged model of float32 weights that have no values; what happens to it in the context has none either."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield AutoModelForCausalLM.from_config(config_named(name), attn_implementation=attention, dtype=torch.float32).train()


def backward(model: PreTrainedModel, length: int, *, autocast: bool = False) -> None:
    """Run a block of one document forward and backward."""
    ids = torch.randint(0, 100, (1, length))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = model(input_ids=ids, labels=ids, position_ids=torch.arange(length)[None], use_cache=False).loss
    loss.backward()


def peak_bytes(name: str, layout: Layout) -> int:
    """Return the peak of a step's second micro-batch."""
    mesh = init_device_mesh("cpu", (PROCESSES,))
    with model_of(name, "sdpa") as model:
        if layout.activation_checkpointing == "full":
            model.activation_checkpointing_enable({"use_reentrant": False})
        if layout.processes > 1:
            shard(model, mesh)
        optimiser = torch.optim.AdamW(model.parameters(), foreach=False)
        tracker = FSDPMemTracker(model, optimiser) if layout.processes > 1 else MemTracker()
        if layout.processes == 1:
            tracker.track_external(model, optimiser)
        with tracker:
            backward(model, layout.sequence_length, autocast=layout.is_autocast)
            optimiser.step()
            tracker.reset_mod_stats()
            backward(model, layout.sequence_length, autocast=layout.is_autocast)
        return int(tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"])


def shard(model: PreTrainedModel, mesh: DeviceMesh) -> None:
    """Shard a model with FSDP2 in the groups that transformers makes: embedding, each layer, last norm and head."""
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    inner: nn.Module = model.model
    tail = [inner.norm, model.lm_head]
    if model.config.tie_word_embeddings:
        tail.append(inner.embed_tokens)
    else:
        fully_shard(inner.embed_tokens, mesh=mesh, mp_policy=policy)
    for layer in inner.layers:
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(tail, mesh=mesh, mp_policy=policy, reshard_after_forward=False)
    fully_shard(model, mesh=mesh, mp_policy=policy)


def trainings_of(store: Store, recipe_name: str) -> Figures:
    """Return the planned and the real steps and tokens of the recipe's trainings in a lake."""
    recipe, found = load_recipe(recipe_name), {}
    for name in recipe.base_models:
        trained = store.require(recipe.name, "cpt_checkpoints", name).metrics
        planned = schedule(trained["blocks"], recipe.cpt_checkpoints, sequence_length=recipe.cpt_corpus.sequence_length)
        found[name] = {
            "steps": compared(planned.steps, trained["steps"]),
            "trained_tokens": compared(planned.trained_tokens, trained["trained_tokens"]),
        }
    return found


def compared(formula: float, measured: float) -> Figures:
    """Return both, and by how much the formula is above."""
    return {"formula": formula, "measured": measured, "difference": f"{formula / measured - 1:+.2%}"}


if __name__ == "__main__":
    main()
