"""How well a model predicts texts it was not trained on."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.fsdp import FSDPModule

from definemed_pipeline.training import group
from definemed_pipeline.training.batches import Batch
from definemed_pipeline.training.blocks import IGNORED, PackedBlocks

Collate = Callable[[Sequence[Batch]], Batch]


def perplexity(model: Any, blocks: PackedBlocks, *, at_most: int, collate: Collate) -> float:
    """Return the perplexity per predicted token over the first blocks of a set, `at_most` of them.

    In a training of several processes each takes its share of the blocks, and all of them call this together.
    """
    return math.exp(mean_loss(model, blocks, range(min(at_most, len(blocks))), collate=collate))


def mean_loss(model: Any, blocks: PackedBlocks, choice: Sequence[int], *, collate: Collate) -> float:
    """Return the mean negative log-likelihood per predicted token, in nats, over some blocks."""
    processes = group.size()
    rounds = -(-len(choice) // processes)
    total = torch.zeros(2, dtype=torch.float64)
    was_training = model.training
    model.eval()
    with torch.no_grad():
        for number in range(rounds):
            index = number * processes + group.rank()
            counts = index < len(choice)  # a process without a block of its own goes along, as the others wait for it
            loss, tokens = _sum_of_losses(model, blocks, choice[index if counts else 0], collate)
            if counts:
                total += torch.tensor([loss, tokens], dtype=torch.float64)
    model.train(was_training)
    _reshard(model)
    if processes > 1:
        total = total.to(model.device)
        dist.all_reduce(total)
    return float(total[0] / total[1])


def _sum_of_losses(model: Any, blocks: PackedBlocks, block: int, collate: Collate) -> tuple[float, int]:
    batch = collate([blocks[block]])
    del batch["blocks"]
    tokens = int(np.sum(batch["labels"].numpy() != IGNORED))
    batch = {name: value.to(model.device) if isinstance(value, torch.Tensor) else value for name, value in batch.items()}
    return float(model(**batch, use_cache=False).loss) * tokens, tokens


def _reshard(model: Any) -> None:
    """Give up the parts of other processes that a forward pass leaves gathered: until then these weights are not the optimiser's."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
