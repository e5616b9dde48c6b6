"""Checkpoints of a training: all it needs to go on, in files that a kill cannot spoil and that load without running code.

    checkpoint-<step>/
        tensors/shard-…safetensors      weights and AdamW moments, each process its own part; read back by any number of processes
        random/<process>.safetensors    the state of a process' random generators
        trainer_state.json, schedule.json    the Trainer's step and log, and the state of the learning rate's schedule
        seal.json                       the checksums of all these, written last: without it there is no checkpoint

The Trainer cannot do this: it writes optimiser and random states as pickles, in place, and does not save a model that was sharded as it was
loaded. torch.distributed.checkpoint does the sharding, in its safetensors format. A save copies the tensors and returns; writing,
checksums and the upload to a remote lake go on beside the training.
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from definemed_pipeline.artifacts.files import written_whole
from definemed_pipeline.artifacts.mirror import Mirror
from definemed_pipeline.artifacts.store import sha256_of
from definemed_pipeline.training import group

SEAL = "seal.json"
TENSORS = "tensors"
RANDOM = "random"
Tensors = Mapping[str, torch.Tensor]


class Checkpoints:
    """The checkpoints of one training in a local folder, and in a remote lake where `mirror` is its URL.

    In a training of several processes each has an object of its own, and all of them call `newest`, `save` and `finish` together.
    `best` is the step of a checkpoint that is kept beside the `kept` newest.
    """

    def __init__(self, folder: Path, *, mirror: str | None, kept: int, report: Callable[[str], None]) -> None:
        self.folder = folder
        self.mirror = Mirror(mirror, marker=SEAL) if mirror else None
        self.kept = kept
        self.best: int | None = None
        self.report = report
        self.rank = group.rank()
        self.leads_node = int(os.environ.get("LOCAL_RANK", "0")) == 0
        # A group of its own: what is written beside the training must not mix with the training's messages.
        self.group = dist.new_group(backend="gloo") if dist.is_initialized() else None
        self.writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")
        self.writing: Future[None] | None = None

    def newest(self) -> Path | None:
        """Return the newest intact checkpoint; remove newer ones that are not, and say so. None where there is none."""
        step = self._newest_step() if self.rank == 0 else None
        if self.group is not None:
            told = [step]
            dist.broadcast_object_list(told, src=0, group=self.group)
            step = told[0]
        if step is None:
            return None
        checkpoint = self.place(step)
        if self.leads_node and self.rank and self.mirror and fault_of(checkpoint):  # the first has looked already
            self._fetch(checkpoint)
        self._wait_for_all()
        return checkpoint

    def save(self, step: int, tensors: Tensors, states: Mapping[str, Any]) -> None:
        """Copy what belongs to the checkpoint of a step and write it beside the training; each of `states` is JSON in a file of its name."""
        self.finish()
        copied = {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
        self.writing = self.writer.submit(self._write, self.place(step), copied, _random_states(), dict(states))

    def finish(self) -> None:
        """Wait until the last save is sealed; raise what kept it from being."""
        if self.writing is not None:
            self.writing.result()
            self.writing = None

    def load(self, checkpoint: Path, tensors: Tensors) -> None:
        """Read a checkpoint's tensors into `tensors`, in place."""
        reader = HuggingFaceStorageReader(str(checkpoint / TENSORS))
        load(
            {name: tensor.detach() for name, tensor in tensors.items()},
            storage_reader=reader,
            process_group=self.group,
            no_dist=self.group is None,
        )

    def load_random_states(self, checkpoint: Path) -> None:
        """Set this process' random generators as they were; a process that was not there before keeps its own."""
        path = checkpoint / RANDOM / f"{self.rank}.safetensors"
        if path.exists():
            states = load_file(path)
            torch.random.set_rng_state(states["cpu"])
            if torch.cuda.is_available() and "cuda" in states:
                torch.cuda.set_rng_state(states["cuda"])

    def place(self, step: int) -> Path:
        """Return the folder of a step's checkpoint."""
        return self.folder / f"checkpoint-{step}"

    def _write(self, checkpoint: Path, tensors: Tensors, random: Tensors, states: Mapping[str, Any]) -> None:
        self._make_room(checkpoint)
        writer = HuggingFaceStorageWriter(str(checkpoint / TENSORS), save_distributed=True)
        save(dict(tensors), storage_writer=writer, process_group=self.group, no_dist=self.group is None)
        save_file(dict(random), checkpoint / RANDOM / f"{self.rank}.safetensors")
        own = [*checkpoint.glob(f"{TENSORS}/shard-{self.rank + 1:05d}-*"), checkpoint / RANDOM / f"{self.rank}.safetensors"]
        for name, state in states.items() if self.rank == 0 else ():
            own.append(checkpoint / f"{name}.json")
            own[-1].write_text(json.dumps(state), "utf-8")
        digests = {path.relative_to(checkpoint).as_posix(): sha256_of(path) for path in own}
        if self.mirror:
            self.mirror.upload(checkpoint, digests)
        self._seal(checkpoint, digests)

    def _make_room(self, checkpoint: Path) -> None:
        """Make a checkpoint's folder, once where the nodes share one, else on each of them."""
        if self.rank == 0:
            shutil.rmtree(checkpoint, ignore_errors=True)  # of a try that was killed while it wrote
        self._wait_for_all()  # for the seal of the checkpoint before, too
        if self.leads_node:
            for folder in (RANDOM, TENSORS):
                (checkpoint / folder).mkdir(parents=True, exist_ok=True)
            if (
                self.rank
            ):  # a node with a folder of its own has no seals, and needs no former checkpoints: it fetches what it reads
                for former in self.folder.glob("checkpoint-*"):
                    if former != checkpoint and not (former / SEAL).exists():
                        shutil.rmtree(former, ignore_errors=True)
        self._wait_for_all()

    def _seal(self, checkpoint: Path, digests: dict[str, str]) -> None:
        """Write the seal once every process has told the checksums of its files; then drop what is no longer kept."""
        told: list[dict[str, str]] = [digests]
        if self.group is not None:
            told = [{}] * dist.get_world_size(self.group)
            dist.all_gather_object(told, digests, group=self.group)
        if self.rank == 0:
            seal(checkpoint, {name: digest for part in told for name, digest in sorted(part.items())})
            if self.mirror:
                self.mirror.upload(checkpoint, [SEAL])
            self._prune()

    def _wait_for_all(self) -> None:
        if self.group is not None:
            dist.barrier(group=self.group)

    def _newest_step(self) -> int | None:
        self.folder.mkdir(parents=True, exist_ok=True)
        remote = {step_of(name) for name in self.mirror.names()} if self.mirror else set()
        local = {step_of(path.name) for path in self.folder.glob("checkpoint-*")}
        for step in sorted(local | remote, reverse=True):
            checkpoint = self.place(step)
            fault = fault_of(checkpoint)
            if fault and step in remote:
                self._fetch(checkpoint)
                fault = fault_of(checkpoint)
            if not fault:
                return step
            self.report(f"{checkpoint.name} {fault}: falling back to the one before")
            self._remove(step)
        return None

    def _fetch(self, checkpoint: Path) -> None:
        assert self.mirror is not None
        self.report(f"fetching {checkpoint.name} from the lake")
        shutil.rmtree(checkpoint, ignore_errors=True)
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        self.mirror.download(checkpoint.name, checkpoint)

    def _prune(self) -> None:
        steps = sorted(step_of(path.parent.name) for path in self.folder.glob(f"checkpoint-*/{SEAL}"))
        for step in steps[: -self.kept]:
            if step != self.best:
                self._remove(step)

    def _remove(self, step: int) -> None:
        if self.mirror:
            self.mirror.remove(f"checkpoint-{step}")
        (self.place(step) / SEAL).unlink(missing_ok=True)
        shutil.rmtree(self.place(step), ignore_errors=True)


def training_tensors(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return the trained weights and their AdamW moments by name; moments that do not exist yet begin at zero."""
    tensors: dict[str, torch.Tensor] = {}
    optimised = {weight for group in optimizer.param_groups for weight in group["params"]}
    for name, weight in model.named_parameters():
        if not weight.requires_grad:
            continue
        assert weight in optimised, f"{name} is not the weight that is optimised"
        moments = optimizer.state[weight]
        if not moments:
            moments["step"] = torch.zeros((), dtype=torch.float32, device=weight.device)
            moments["exp_avg"] = torch.zeros_like(weight, memory_format=torch.preserve_format)
            moments["exp_avg_sq"] = torch.zeros_like(weight, memory_format=torch.preserve_format)
        tensors[f"weight.{name}"] = weight
        tensors |= {f"{moment}.{name}": value for moment, value in moments.items()}
    return tensors


def seal(checkpoint: Path, digests: Mapping[str, str]) -> None:
    """Write the checksums of a checkpoint's files, atomically."""
    with written_whole(checkpoint / SEAL) as unfinished:
        unfinished.write_text(json.dumps(digests, indent=2), "utf-8")


def fault_of(checkpoint: Path) -> str | None:
    """Return what keeps a checkpoint from being used, or None."""
    try:
        digests = json.loads((checkpoint / SEAL).read_text("utf-8"))
        damaged = [name for name, digest in digests.items() if sha256_of(checkpoint / name) != digest]
    except FileNotFoundError as error:
        return f"lacks {Path(error.filename).name}"
    except (OSError, ValueError) as error:
        return f"cannot be read ({error})"
    return f"is damaged ({', '.join(damaged)})" if damaged else None


def step_of(name: str) -> int:
    """Return the step in a checkpoint's name."""
    return int(name.removeprefix("checkpoint-"))


def _random_states() -> dict[str, torch.Tensor]:
    """Return the states that training draws from (dropout); nothing in it uses Python's or numpy's generator."""
    states = {"cpu": torch.random.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states
