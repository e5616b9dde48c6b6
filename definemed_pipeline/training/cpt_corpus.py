"""Payload of the asset `cpt_corpus`: FineMed-de and general documents in a base model's own tokens, packed into blocks.

    train/               what is trained on: the corpus, and general documents replayed against forgetting
    held_out/corpus/     documents of the corpus, never trained on
    held_out/general/    general documents, never trained on (with `general` in the recipe)

Each is a packed set (see `packing`). Which document goes where is decided in `division`; what a killed try leaves, in `parts`.
"""

import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from definemed_pipeline import model_folder
from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.errors import UserError
from definemed_pipeline.payload import run_payload
from definemed_pipeline.training.blocks import PackedBlocks
from definemed_pipeline.training.division import HELD_OUT_CORPUS, HELD_OUT_GENERAL, REPLAY, CorpusDivision, GeneralDivision
from definemed_pipeline.training.documents import read_documents, read_ids
from definemed_pipeline.training.encoding import DocumentEncoder
from definemed_pipeline.training.packing import TRAIN, Batch, BlockFormat
from definemed_pipeline.training.parts import InputPacking
from definemed_pipeline.training.settings import CptCorpusSettings

SETS = {"train": (TRAIN, REPLAY), "held_out/corpus": (HELD_OUT_CORPUS,), "held_out/general": (HELD_OUT_GENERAL,)}
REPORT_SECONDS = 5.0


def pack_corpus(draft: Draft[CptCorpusSettings]) -> None:
    """Tokenise the corpus and general documents with the base model's tokenizer and pack them; the same bytes however often it is killed.

    Raise UserError where there is nothing to train on, or a file of general documents cannot be used.
    """
    model = draft.input("base_models", draft.identity.partition) / model_folder.FOLDER
    encoder = DocumentEncoder(model)
    packing = InputPacking(draft.checkpoints / "parts", SETS, _block_format(model, encoder, draft.settings), report=draft.report)
    tokenising = _Tokenising(encoder, draft)
    corpus = _add_corpus(packing, tokenising, draft)
    lacking_tokens = _add_general(packing, tokenising, corpus, draft)
    names = [name for name in SETS if name != "held_out/general" or draft.settings.general is not None]
    counts = [packing.join(name, draft.folder / name) for name in names]
    draft.metrics |= {
        **{name: sum(count[name] for count in counts) for name in ("documents", "tokens", "packed_tokens", "split_documents")},
        **_metrics(packing, PackedBlocks(draft.folder / "train")),
        "general_lacking_tokens": lacking_tokens,
        "document_end": encoder.end_token,
        **tokenising.metrics(),
    }


def _add_corpus(packing: InputPacking, tokenising: "_Tokenising", draft: Draft[CptCorpusSettings]) -> CorpusDivision:
    """Pack the corpus: what is trained on, and what is held out."""
    files = sorted((draft.input("finemed_de") / "data").glob("*.parquet"))
    ids = (some for path in files for some in read_ids(str(path)))
    division = CorpusDivision.of(ids, share=draft.settings.held_out_share, seed=draft.settings.seed)
    roles = (TRAIN, HELD_OUT_CORPUS)
    for path in files:
        if packing.kept(path.name, roles) is None:
            packing.add(path.name, roles, tokenising.batches(str(path), path.name), division)
    if not packing.tokens(TRAIN):
        raise UserError("finemed_de holds no document to train on; lower the classifier's precision or widen the source")
    return division


def _add_general(
    packing: InputPacking, tokenising: "_Tokenising", corpus: CorpusDivision, draft: Draft[CptCorpusSettings]
) -> int:
    """Hold out as many tokens of general documents as of the corpus, and add those to replay to what is trained on.

    Return how many tokens the files lack.
    """
    if draft.settings.general is None:
        return 0
    share = draft.settings.general.replay_share
    division = GeneralDivision(
        corpus=corpus,
        held_out_tokens=packing.tokens(HELD_OUT_CORPUS),
        replay_tokens=math.ceil(share / (1 - share) * packing.tokens(TRAIN)),
    )
    roles = (HELD_OUT_GENERAL, REPLAY)
    for source in sorted(draft.identity.sources, key=lambda source: source.name):
        if not division.lacking_tokens:
            break
        if (kept := packing.kept(source.name, roles)) is not None:
            held_out, replayed = (kept.parts[role] for role in roles)
            division.go_on(held_out.ids(), held_out_tokens=held_out.tokens, replay_tokens=replayed.tokens)
        else:
            batches = tokenising.batches(source.location, source.name)
            packing.add(source.name, roles, _while_lacking(batches, division), division)
    if division.lacking_tokens:
        if not any(map(packing.tokens, roles)):
            raise UserError("cpt_corpus.general.files hold no document outside the corpus; name others, or take `general` out")
        draft.report(
            f"cpt_corpus.general.files hold too little: all was taken, and {division.lacking_tokens:,} tokens are lacking; "
            "name more files, or lower the shares"
        )
    return division.lacking_tokens


def _while_lacking(batches: Iterator[Batch], division: GeneralDivision) -> Iterator[Batch]:
    for batch in batches:
        yield batch
        if not division.lacking_tokens:
            return


def _block_format(model: Path, encoder: DocumentEncoder, chosen: CptCorpusSettings) -> BlockFormat:
    vocabulary_size = model_folder.vocabulary_size(model)
    if encoder.largest_id >= vocabulary_size:
        raise UserError(
            f"the tokenizer's largest id is {encoder.largest_id}, and the model knows {vocabulary_size} tokens (vocab_size in "
            "config.json); take a tokenizer and a model that belong together"
        )
    return BlockFormat(sequence_length=chosen.sequence_length, vocabulary_size=vocabulary_size, padding_id=encoder.end_id)


def _metrics(packing: InputPacking, train: PackedBlocks) -> dict[str, float]:
    """Count documents and tokens by role, and describe the blocks that are trained on."""
    tokens = {role: packing.tokens(role) for roles in SETS.values() for role in roles}
    return {
        **{f"{role}_documents": packing.documents(role) for role in tokens},
        **{f"{role}_tokens": number for role, number in tokens.items()},
        "general_passed_over": sum(packed.passed_over for packed in packing.inputs),
        "replay_share": round(tokens[REPLAY] / (tokens[TRAIN] + tokens[REPLAY]), 6),
        "blocks": len(train),
        "padding": train.count["padding"],
        "packing_efficiency": round(train.count["tokens"] / train.tokens.size, 6),
        "mean_attended_length": round(train.mean_attended_length, 2),
        "sequence_length": train.sequence_length,
    }


class _Tokenising:
    """Tokenise files and report the speed of this try."""

    def __init__(self, encoder: DocumentEncoder, draft: Draft[Any]) -> None:
        self.encoder, self.report = encoder, draft.report
        self.started = self.reported = time.monotonic()
        self.documents = self.tokens = 0

    def batches(self, location: str, name: str) -> Iterator[Batch]:
        """Yield the documents of a file as tokens, a batch at a time."""
        for batch in self.encoder.encode_ahead(read_documents(location, name, cores=len(os.sched_getaffinity(0)))):
            self.documents += len(batch)
            self.tokens += sum(len(ids) for _, ids in batch)
            if time.monotonic() - self.reported > REPORT_SECONDS:
                self.reported = time.monotonic()
                speed = self.tokens / (self.reported - self.started)
                self.report(f"{name}: {self.documents:,} documents, {self.tokens:,} tokens, {speed:,.0f} tokens/s")
            yield batch

    def metrics(self) -> dict[str, float]:
        """Return seconds and tokens per second, all included, of what this try tokenised."""
        seconds = time.monotonic() - self.started
        return {"tokens_per_s": round(self.tokens / seconds), "seconds": round(seconds, 2)}


def use_all_cores() -> None:
    """Let the tokenizers library use every core this process may run on, whatever `compute.threads` says.

    That setting keeps the sums of floating-point numbers, and with them the bytes, the same on every machine. Token ids are the same with any
    number of threads, and a corpus of billions of tokens takes hours. To be called before anything is encoded.
    """
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    os.environ.pop("RAYON_NUM_THREADS", None)


if __name__ == "__main__":
    use_all_cores()
    run_payload(CptCorpusSettings, pack_corpus, parse=CptCorpusSettings.parse)
