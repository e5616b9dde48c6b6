"""Measure how long a merge takes beside mergekit's own command on the same two models, in how much memory, and whether the weights are the same.

    python benchmarks/merge.py --json OUT

Two models of Qwen2.5-0.5B's shape in bfloat16 are made: random weights, and the same with noise, which turns each tensor by some 3 degrees (or
by `--noise`), so that SLERP is none of it linear. Then by turns, several times, each time in a fresh process with one thread:
- ours: `merge_models`, what the payload of `merged_models` does for the merge itself: merging the weights by BioMistral's schedule (the recipe
  `paper`), the base's tokenizer and configuration beside them, and the record of the merge;
- mergekit: `mergekit-yaml CONFIG OUT --num-threads 1` with the same configuration, which writes weights, tokenizer, configuration and a card.
The start of Python and its imports are in both. Which side begins changes from turn to turn. `ratio_to_mergekit` is ours to mergekit by the clock,
`processor_ratio` by processor time, both of the medians; `peak_rss_bytes` is the largest of all turns. What the payload does beyond, comparing every
tensor and checking the result, has no counterpart there: it is measured once at the end, in a process of its own.
"""

# What a side does not need it does not import: its start is in its time.
import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PARTITION = "random"
SHAPE = "qwen2.5-0.5b"
SIDES = ("ours", "mergekit")


def prepare(folder: Path, arguments: argparse.Namespace) -> int:
    """Make both models, the section of the recipe `paper`, and mergekit's configuration of the same; return the number of weights."""
    import torch
    import yaml
    from transformers import AutoModelForCausalLM

    from definemed_pipeline.merging.configuration import merge_configuration
    from definemed_pipeline.recipe import load_recipe
    from definemed_pipeline.settings import as_json
    from definemed_pipeline.training.model_shape import config_named
    from definemed_pipeline.training.tokenizer import train_tokenizer

    torch.manual_seed(0)
    config = config_named(SHAPE)
    config.num_hidden_layers = arguments.layers or config.num_hidden_layers
    config.layer_types = ["full_attention"] * config.num_hidden_layers
    config.vocab_size = arguments.vocabulary_size or config.vocab_size
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    tokenizer = train_tokenizer(["Lunge Leber Niere"] * 9, "qwen2", vocabulary_size=320, model_max_length=512)
    for name in ("base", "cpt"):
        with torch.no_grad():
            for parameter in model.parameters():
                scale = parameter.float().square().mean().sqrt().clamp(min=0.02)  # biases are zero at first
                parameter.add_((1.0 if name == "base" else arguments.noise) * scale * torch.randn_like(parameter))
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    section = load_recipe("paper").merged_models
    (folder / "section.json").write_text(json.dumps(as_json(section)), "utf-8")
    configuration = merge_configuration(section, {name: str(folder / name) for name in section.models})
    (folder / "mergekit.yaml").write_text(yaml.safe_dump(configuration), "utf-8")
    return sum(parameter.numel() for parameter in model.parameters())


def merge_ours(folder: Path) -> None:
    """Do what the payload does for the merge itself."""
    import torch

    from definemed_pipeline.merging.merge import merge_models
    from definemed_pipeline.merging.settings import MergedModelsSettings

    torch.set_num_threads(1)
    section = MergedModelsSettings.parse(json.loads((folder / "section.json").read_text("utf-8")))
    folders = {name: folder / name for name in section.models}
    merge_models(section, folders, folder / "ours" / "model", base_model=PARTITION, report=print)


def measure_beyond(folder: Path) -> dict[str, Any]:
    """Do what the payload does beyond the merge; return its seconds and what it found of the angles."""
    import torch

    from definemed_pipeline.merging.checks import measure_soundness
    from definemed_pipeline.merging.tensors import Weights, compare_tensors

    torch.set_num_threads(1)
    merged, started = folder / "ours" / "model", time.perf_counter()
    rows = list(compare_tensors(Weights(folder / "base"), Weights(folder / "cpt"), Weights(merged)))
    compared = time.perf_counter()
    measure_soundness(merged, folder / "base")
    return {
        "compare_seconds": round(compared - started, 2),
        "check_seconds": round(time.perf_counter() - compared, 2),
        "tensors": len(rows),
        "nearly_parallel": sum(row["is_nearly_parallel"] for row in rows),
        "angle_degrees_median": round(statistics.median(row["angle_degrees"] for row in rows), 2),
    }


def run(command: Sequence[str], folder: Path) -> dict[str, float]:
    """Run a process; return its seconds by the clock and of the processor, and the peak of its resident memory in bytes."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with (folder / "output.log").open("ab") as log:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
    if status:
        raise SystemExit(f"{' '.join(command)} failed; its output: {(folder / 'output.log').read_text()[-2000:]}")
    return {
        "seconds": seconds,
        "processor_seconds": usage.ru_utime + usage.ru_stime,
        "peak_rss_bytes": usage.ru_maxrss * 1024,
    }


def take_turns(repetitions: int, folder: Path) -> dict[str, list[dict[str, float]]]:
    """Measure both sides by turns; what they wrote last stays."""
    commands = {
        "ours": [sys.executable, __file__, "--side", "ours", "--folder", str(folder)],
        "mergekit": [
            str(Path(sys.executable).with_name("mergekit-yaml")),
            str(folder / "mergekit.yaml"),
            str(folder / "mergekit"),
            *("--num-threads", "1", "--quiet"),
        ],
    }
    found: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for turn in range(repetitions):
        for side in SIDES if turn % 2 else SIDES[::-1]:
            shutil.rmtree(folder / side, ignore_errors=True)
            found[side].append(run(commands[side], folder))
        print(f"turn {turn + 1}: " + ", ".join(f"{side} {runs[-1]['seconds']:.1f} s" for side, runs in found.items()), flush=True)
    return found


def figures(found: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Put the medians of both sides beside each other, and the peaks of their memory."""
    median = {
        (side, what): statistics.median(run[what] for run in found[side])
        for side in SIDES
        for what in ("seconds", "processor_seconds")
    }
    return {
        "ratio_to_mergekit": round(median["ours", "seconds"] / median["mergekit", "seconds"], 3),
        "processor_ratio": round(median["ours", "processor_seconds"] / median["mergekit", "processor_seconds"], 3),
        **{f"{side}_{what}": round(value, 2) for (side, what), value in median.items()},
        "peak_rss_bytes": {side: max(int(run["peak_rss_bytes"]) for run in found[side]) for side in SIDES},
    }


def is_identical(folder: Path) -> bool:
    """Say whether both sides wrote the same tensors, bit by bit."""
    import torch
    from safetensors.torch import load_file

    def tensors(below: Path) -> dict[str, torch.Tensor]:
        return {name: tensor for path in sorted(below.glob("*.safetensors")) for name, tensor in load_file(path).items()}

    ours, theirs = tensors(folder / "ours" / "model"), tensors(folder / "mergekit")
    return ours.keys() == theirs.keys() and all(
        ours[name].dtype == theirs[name].dtype and ours[name].equal(theirs[name]) for name in ours
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--noise", type=float, default=0.05, help="of the second model, as a share of each tensor's weights")
    parser.add_argument("--layers", type=int, help="fewer than the shape has, for a test")
    parser.add_argument("--vocabulary-size", type=int, help="smaller than the shape has, for a test")
    parser.add_argument("--folder", type=Path, help="where the models go, some 4 GB (default: the system's temporary folder)")
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--side", choices=("ours", "beyond"), help="do our work on what was prepared in the folder")
    arguments = parser.parse_args()
    if arguments.side == "ours":
        return merge_ours(arguments.folder)
    if arguments.side == "beyond":
        print(json.dumps(measure_beyond(arguments.folder)))
        return None
    import mergekit.merge  # noqa: F401 (compiles what both sides import, before the first turn)
    import torch
    import transformers
    from processes import commit

    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        parameters = prepare(folder, arguments)
        turns = take_turns(arguments.repetitions, folder)
        beyond = [sys.executable, __file__, "--side", "beyond", "--folder", name]
        done = subprocess.run(beyond, stdout=subprocess.PIPE, check=True)
        found = {
            "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores",
            "load": {"before": round(load, 1), "after": round(os.getloadavg()[0], 1)},
            "versions": {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "transformers": transformers.__version__,
                "mergekit": importlib.metadata.version("mergekit"),
            },
            "commit": commit(),
            "parameters": parameters,
            "repetitions": arguments.repetitions,
            **figures(turns),
            "identical": is_identical(folder),
            "beyond": json.loads(done.stdout),
        }
    if arguments.json:
        arguments.json.write_text(json.dumps({**found, "turns": turns}, indent=2) + "\n", "utf-8")
    print(json.dumps(found, indent=2))
    return None


if __name__ == "__main__":
    main()
