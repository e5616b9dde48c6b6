"""The folder of a model, `model/`: which files make it, that it is safe to load, and how it is loaded.

Weights are safetensors only and code from a model's repository never runs, so a model folder is data. Nothing here trains; torch and
transformers are imported by the functions that load.
"""

import json
import shutil
from collections.abc import Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from definemed_pipeline.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from transformers.distributed.configuration_utils import DistributedConfig

FOLDER = "model"
WEIGHT_FILES = ("model*.safetensors", "model.safetensors.index.json")
# Everything that says how text becomes tokens and how an answer is asked for; a checkpoint takes these over from its base unchanged.
COMPANION_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "LICENSE*",
    "NOTICE*",
)
# Hub repositories hold more (pickled weights, the same weights in another layout, code); none of it is taken.
MODEL_FILES = ("config.json", *WEIGHT_FILES, *COMPANION_FILES)


def list_model_files(location: str) -> dict[str, str]:
    """Return name in the artifact -> location of the model's files in a folder; raise UserError where it holds no model."""
    import fsspec

    filesystem, root = fsspec.core.url_to_fs(location)
    paths = filesystem.ls(root, detail=False) if filesystem.isdir(root) else []
    names = sorted(name for name in (str(path).rsplit("/", 1)[-1] for path in paths) if is_model_file(name))
    _require(names, where=location)
    return {f"{FOLDER}/{name}": f"{location.rstrip('/')}/{name}" for name in names}


def is_model_file(name: str) -> bool:
    """Say whether a file of that name belongs into a model folder."""
    return any(fnmatch(name, pattern) for pattern in MODEL_FILES)


def check_model_folder(folder: Path, *, origin: str) -> None:
    """Check that a folder is a whole, safe model. Raise UserError naming its origin, what is wrong and the cure."""
    _require([path.name for path in folder.iterdir()], where=origin)
    for name in ("config.json", "tokenizer_config.json"):
        path = folder / name
        if path.exists() and "auto_map" in read_json(path):
            raise UserError(
                f"{origin}: {name} asks for code of its own (auto_map), which is never run; take a model transformers knows"
            )
    if not _has_chat_template(folder):
        raise UserError(f"{origin}: there is no chat template, so it is no instruct model; take the model's instruct version")
    index = folder / "model.safetensors.index.json"
    if index.exists():
        missing = sorted(name for name in set(read_json(index)["weight_map"].values()) if not (folder / name).exists())
        if missing:
            raise UserError(f"{origin}: weights are missing ({', '.join(missing)}); complete the copy")


def copy_companions(base: Path, target: Path) -> None:
    """Copy tokenizer, chat template, generation config and licence of a base model, byte by byte."""
    for path in sorted(base.iterdir()):
        if any(fnmatch(path.name, pattern) for pattern in COMPANION_FILES):
            shutil.copyfile(path, target / path.name)


def write_config(base: Path, target: Path, *, dtype: str) -> None:
    """Write a base model's configuration for weights of a dtype: byte by byte where the base's are of it too."""
    config = read_json(base / "config.json")
    if stored_dtype(config) == dtype:
        shutil.copyfile(base / "config.json", target / "config.json")
        return
    config.pop("torch_dtype", None)  # the older name of the key
    (target / "config.json").write_text(json.dumps({**config, "dtype": dtype}, indent=2) + "\n", "utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read a small JSON file."""
    content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return content


def load_model(
    folder: Path, *, dtype: str | None = None, attention: str | None = None, sharding: "DistributedConfig | None" = None
) -> "PreTrainedModel":
    """Load a causal language model from safetensors with remote code off, in its own or the given dtype.

    `attention` names the implementation (by default transformers chooses), `sharding` the processes that hold the model together.
    """
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=dtype or "auto",
        attn_implementation=attention,
        distributed_config=sharding,
        use_safetensors=True,
        trust_remote_code=False,
        local_files_only=True,
    )


def load_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    """Load a model's tokenizer with remote code off."""
    from transformers import AutoTokenizer

    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    return tokenizer


def weight_shapes(folder: Path) -> dict[str, list[int]]:
    """Return the shape of each stored weight by its name, from the safetensors headers; tied weights are stored once."""
    from safetensors import safe_open

    shapes: dict[str, list[int]] = {}
    for path in sorted(folder.glob("model*.safetensors")):
        with safe_open(path, framework="numpy") as tensors:
            shapes |= {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118 (not a mapping)
    return shapes


def count_parameters(folder: Path) -> int:
    """Count the stored weights; tied weights count once."""
    from math import prod

    return sum(map(prod, weight_shapes(folder).values()))


def stored_dtype(config: Mapping[str, Any]) -> str:
    """Return the dtype of the weights as a model's config has it."""
    return str(config.get("dtype") or config.get("torch_dtype") or "float32")  # the older name of the key


def vocabulary_size(folder: Path) -> int:
    """Return the rows of the stored input embedding, padding included; raise UserError where the config says otherwise."""
    said = int(read_json(folder / "config.json")["vocab_size"])
    for name, shape in weight_shapes(folder).items():
        if name.endswith("embed_tokens.weight") and shape[0] != said:
            raise UserError(
                f"{folder}: the embedding has {shape[0]} rows where config.json says vocab_size {said}; take a whole copy"
            )
    return said


def _has_chat_template(folder: Path) -> bool:
    config = folder / "tokenizer_config.json"
    is_in_config = config.exists() and "chat_template" in read_json(config)  # where older folders keep it
    return is_in_config or any((folder / name).exists() for name in ("chat_template.jinja", "chat_template.json"))


def _require(names: Iterable[str], *, where: str) -> None:
    found = list(names)
    lacking = [
        what
        for what, pattern in (
            ("config.json", "config.json"),
            ("safetensors weights", "model*.safetensors"),
            ("tokenizer.json",) * 2,
        )
        if not any(fnmatch(name, pattern) for name in found)
    ]
    if lacking:
        raise UserError(
            f"{where} is no model folder: {', '.join(lacking)} missing; give a folder or repository as save_pretrained writes it"
        )
