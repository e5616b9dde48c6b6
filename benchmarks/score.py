"""Measure stage 2: documents/s of a classifier of XLM-R-base's shape with random weights, on the device that is there.

    python benchmarks/score.py --json OUT

Weights and tokenizer are made up, since their values cost no time: hidden size 768, 12 layers, 12 heads, a Unigram vocabulary of 250,002 pieces; every
document has exactly the tokens asked for. Everything goes through the project's own code: the model is loaded from its folder as for scoring (bf16 on a
GPU, sdpa), documents are batched by tokens.

- `documents_per_second`: stage 2 from token ids to log-odds, the figure that bounds a full sweep.
- `tokenizer_documents_per_second`: text to token ids, which runs in a thread while the device computes.
- `full_sweep_documents_per_second`: a parquet file through both stages to scores, everything included.

Each is the second of two runs; the first warms up.
"""

import argparse
import json
import os
import string
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from artifacts import make
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaForSequenceClassification

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.artifacts.provenance import current_provenance
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.corpus.classifier.calibration import Calibration
from definemed_pipeline.corpus.classifier.cascade import Gate, score_documents
from definemed_pipeline.corpus.classifier.linear import LinearClassifier
from definemed_pipeline.corpus.classifier.settings import CascadeCertificateSettings, LinearSettings
from definemed_pipeline.corpus.classifier.transformer import SPECIAL_TOKENS, TransformerClassifier
from definemed_pipeline.corpus.classifier.two_stage import DecisionRule, TwoStageClassifier
from definemed_pipeline.corpus.parquet import numbered_row_groups, write_parquet
from definemed_pipeline.settings import as_json

GPU = torch.cuda.is_available()
WORD_LETTERS = 4  # of a made-up word: 26 ** 4 of them are enough for a vocabulary of 250,002


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, help="where the figures go")
    parser.add_argument("--documents", type=int, default=16_384 if GPU else 16, help="default: 16,384 on a GPU, 16 without")
    parser.add_argument("--tokens", type=int, default=512, help="of a document (default: 512)")
    parser.add_argument(
        "--batch-tokens", type=int, default=131_072 if GPU else 4_096, help="default: 131,072 on a GPU, 4,096 without"
    )
    parser.add_argument("--hidden", type=int, default=768, help="hidden size (default: 768)")
    parser.add_argument("--layers", type=int, default=12, help="default: 12")
    parser.add_argument("--vocabulary", type=int, default=250_002, help="default: 250,002")
    arguments = parser.parse_args()
    words = made_up_words(arguments.vocabulary - len(SPECIAL_TOKENS))
    with tempfile.TemporaryDirectory() as folder:
        classifier = made_up_classifier(Path(folder) / "classifier", words, arguments)
        documents = made_up_documents(words, arguments.documents, arguments.tokens)
        figures = measure(classifier, documents, arguments, Store(f"{folder}/lake"))
    made_by = current_provenance("benchmark")
    figures |= {"device": torch.cuda.get_device_name() if GPU else processor(), "precision": classifier.transformer.precision}
    figures |= {name: getattr(arguments, name) for name in ("tokens", "batch_tokens", "hidden", "layers", "vocabulary")}
    figures |= {
        "commit": made_by.code_commit,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
    }
    figures |= {"versions": {name: made_by.environment[name] for name in ("python", "torch", "transformers", "tokenizers")}}
    arguments.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    print(json.dumps(figures, indent=2))


def measure(
    classifier: TwoStageClassifier, documents: pl.DataFrame, arguments: argparse.Namespace, store: Store
) -> dict[str, Any]:
    """Return the rates; raise where a document has another number of tokens than asked for."""
    transformer = classifier.transformer
    tokens = transformer.encode([documents["text"]])
    if set(tokens.lengths.tolist()) != {arguments.tokens}:
        raise SystemExit(f"documents have {sorted(set(tokens.lengths.tolist()))} tokens and not {arguments.tokens}")
    return {
        "documents": documents.height,
        "documents_per_second": rate(lambda: transformer.logits_of(tokens, arguments.batch_tokens), documents.height),
        "tokenizer_documents_per_second": rate(lambda: transformer.encode([documents["text"]]), documents.height),
        "full_sweep_documents_per_second": full_sweep(classifier, documents, arguments.batch_tokens, store),
    }


def full_sweep(classifier: TwoStageClassifier, documents: pl.DataFrame, batch_tokens: int, store: Store) -> float:
    """Return the rate at which a parquet file becomes scores, where stage 1 rejects nothing."""
    section = CascadeCertificateSettings(batch_tokens=batch_tokens)

    def sweep(draft: Draft[CascadeCertificateSettings]) -> None:
        path = store.scratch / "documents.parquet"
        write_parquet(documents, path)
        started = time.perf_counter()
        score_documents(
            lambda start: numbered_row_groups(path, ["id", "text"], start=start),
            classifier,
            Gate(),
            draft,
            draft.folder / "scores.parquet",
        )
        draft.metrics["rate"] = documents.height / (time.perf_counter() - started)

    return round(float(make(store, "scores", sweep, section).metrics["rate"]), 2)


def made_up_words(count: int) -> list[str]:
    """Return different words of WORD_LETTERS letters."""
    letters = np.array(list(string.ascii_lowercase))
    numbers = np.random.default_rng(0).permutation(26**WORD_LETTERS)[:count]
    return ["".join(letters[number // 26**place % 26] for place in range(WORD_LETTERS)) for number in numbers.tolist()]


def made_up_documents(words: list[str], count: int, tokens: int) -> pl.DataFrame:
    """Return documents of `tokens` tokens, begin and end included: each word is one."""
    drawn = np.random.default_rng(1).integers(len(words), size=(count, tokens - 2))
    texts = [" ".join(words[number] for number in document) for document in drawn.tolist()]
    return pl.DataFrame({"id": [f"<urn:uuid:{number}>" for number in range(count)], "text": texts})


def made_up_classifier(folder: Path, words: list[str], arguments: argparse.Namespace) -> TwoStageClassifier:
    """Lay the files of a classifier with random weights into a folder."""
    folder.mkdir()
    tokenizer = made_up_tokenizer(words)
    torch.manual_seed(0)
    model = XLMRobertaForSequenceClassification(
        XLMRobertaConfig(
            vocab_size=arguments.vocabulary,
            hidden_size=arguments.hidden,
            num_hidden_layers=arguments.layers,
            num_attention_heads=max(1, arguments.hidden // 64),
            intermediate_size=4 * arguments.hidden,
            max_position_embeddings=arguments.tokens + 2,
            type_vocab_size=1,
        )
    )
    TransformerClassifier(model, tokenizer, arguments.tokens).save(folder / "transformer")
    linear = LinearSettings()
    LinearClassifier(weights=np.zeros(1 << linear.buckets_power, np.float32), intercept=0.0, settings=linear).save(
        folder / "linear.safetensors"
    )
    rule = DecisionRule(linear=Calibration(), transformer=Calibration(), together=Calibration(), decision_threshold=0.5)
    record = {"rule": rule.to_json(), "linear": as_json(linear), "max_tokens": arguments.tokens}
    (folder / "classifier.json").write_text(json.dumps(record), "utf-8")
    return TwoStageClassifier(folder)


def made_up_tokenizer(words: list[str]) -> PreTrainedTokenizerFast:
    """Return a tokenizer of XLM-R's kind, in which each word is a piece."""
    begin, padding, end, unknown = SPECIAL_TOKENS
    pieces = [(token, 0.0) for token in SPECIAL_TOKENS] + [(f"▁{word}", -10.0) for word in words]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=SPECIAL_TOKENS.index(unknown)))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    ends = [(token, SPECIAL_TOKENS.index(token)) for token in (begin, end)]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{begin} $A {end}", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=begin,
        cls_token=begin,
        eos_token=end,
        sep_token=end,
        pad_token=padding,
        unk_token=unknown,
    )


def rate(work: Callable[[], Any], documents: int) -> float:
    """Return documents/s of the second run; `logits_of` has fetched its results from the device when it returns."""
    work()
    started = time.perf_counter()
    work()
    return round(documents / (time.perf_counter() - started), 2)


def processor() -> str:
    """Return the processor's name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return "CPU"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "CPU")


if __name__ == "__main__":
    main()
