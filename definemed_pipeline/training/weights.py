"""The weights of a training's result, as a model folder that loads like its base."""

import shutil
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from definemed_pipeline import model_folder
from definemed_pipeline.training import group

SHARD_SIZE = "5GB"  # as save_pretrained does


def write_weights(model: PreTrainedModel, base: Path, folder: Path) -> None:
    """Write the whole model in the base's own dtype, as safetensors in bounded shards; all that is not weights is the base's, byte by byte.

    Of a model that several processes share, all of them call this and the first writes.
    """
    dtype = getattr(torch, model_folder.stored_dtype(model_folder.read_json(base / "config.json")))
    weights = {}
    for name, weight in model.named_parameters():  # tied weights once, as they are stored
        held: Any = weight.detach()
        whole = held.full_tensor() if isinstance(held, DTensor) else held
        if group.leads():
            weights[name] = whole.to("cpu", dtype).contiguous()
    if not group.leads():
        return
    tied = set(model.state_dict()) - set(weights)
    assert set(weights) | tied == set(model_folder.weight_shapes(base)) | tied, (
        "the trained model has other weights than its base"
    )
    folder.mkdir(parents=True, exist_ok=True)
    save_torch_state_dict(weights, folder, max_shard_size=SHARD_SIZE)
    shutil.copyfile(base / "config.json", folder / "config.json")
    model_folder.copy_companions(base, folder)
