"""The weights of a merge, written by mergekit tensor by tensor. Everything of mergekit's that we use is here.

mergekit's planner and executor are called rather than its `run_merge`, which tells no progress and writes local paths beside the weights. Memory holds the tensors that one merged tensor is made of, and one file of the result.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from mergekit.architecture import get_architecture_info
from mergekit.config import MergeConfiguration
from mergekit.graph import Executor
from mergekit.io.tasks import LoaderCache
from mergekit.options import MergeOptions
from mergekit.plan import MergePlanner

from definemed_pipeline.errors import UserError, one_line
from definemed_pipeline.merging.configuration import merge_configuration
from definemed_pipeline.merging.settings import BASE, MergedModelsSettings
from definemed_pipeline.model_folder import weight_shapes

SECONDS_BETWEEN_REPORTS = 5.0
MOST_BYTES_PER_FILE = 5_000_000_000


def merge_weights(
    chosen: MergedModelsSettings, folders: Mapping[str, Path], target: Path, *, report: Callable[[str], None]
) -> None:
    """Merge the weights of the models in `folders` into safetensors files in `target`.

    Raise UserError where the models do not fit each other or the method.
    """
    for name in chosen.models[1:]:
        refuse_other_shapes(name, weight_shapes(folders[name]), weight_shapes(folders[BASE]))
    references = {name: _reference(folder) for name, folder in folders.items()}
    configuration = MergeConfiguration.model_validate(merge_configuration(chosen, references))
    options = MergeOptions(trust_remote_code=False, out_shard_size=MOST_BYTES_PER_FILE)
    torch.manual_seed(chosen.seed)  # for the methods that draw which changes to keep
    loaders = LoaderCache()
    loaders.setup(options)
    base_config = configuration.models[0].model.config(trust_remote_code=False)
    planner = MergePlanner(configuration, get_architecture_info(configuration, options), options, base_config)
    try:
        executor = Executor(planner.plan_to_disk(out_path=str(target)), math_device="cpu", storage_device="cpu")
        _execute(executor, report)
    except ValueError as error:
        raise UserError(f"mergekit cannot merge by {chosen.method}: {one_line(error)}") from error
    finally:
        loaders.flush_all()


def refuse_other_shapes(name: str, found: Mapping[str, list[int]], expected: Mapping[str, list[int]]) -> None:
    """Raise UserError where a model lacks a tensor of the base, or has it in another shape."""
    different = sorted(tensor for tensor, shape in expected.items() if found.get(tensor) != shape)
    if different:
        first = different[0]
        raise UserError(
            f"{name} does not fit its base: {len(different)} tensors differ, {first} is {found.get(first, 'missing')} where the base has "
            f"{expected[first]}; merge models of one architecture and vocabulary"
        )


def _execute(executor: Executor, report: Callable[[str], None]) -> None:
    count, reported = len(executor.targets) - 1, time.monotonic()  # the last target closes the files
    for done, _ in enumerate(executor.run(quiet=True), start=1):
        if time.monotonic() - reported > SECONDS_BETWEEN_REPORTS:
            reported = time.monotonic()
            report(f"{min(done, count)} of {count} tensors merged")


def _reference(folder: Path) -> dict[str, Any]:
    """Name a local folder to mergekit; in a plain string it would read `@` as a revision and `+` as an adapter."""
    return {"model": {"path": str(folder)}}
