"""Which of the processes of a training this one is; a training of a single process needs no group of torch's."""

import torch.distributed as dist


def rank() -> int:
    """Return this process' number, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def size() -> int:
    """Return how many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def leads() -> bool:
    """Say whether this is the process that writes and tells."""
    return rank() == 0
