"""Stage 2 of the classifier: a sequence classifier of XLM-R architecture, trained on the annotated sample.

It starts from random weights and a tokenizer of its own (small, as in the demo) or from published ones (the paper's XLM-RoBERTa).
The folder it is saved to is an ordinary `from_pretrained` folder with safetensors. What is decided with its probabilities belongs
in `two_stage`. This module imports torch; import it where stage 2 is needed.
"""

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar

from definemed_pipeline.artifacts.files import written_whole
from definemed_pipeline.corpus.classifier.settings import FromScratch, MedicalClassifierSettings, Pretrained
from definemed_pipeline.corpus.classifier.tokens import Ids, Ints, Tokens, batches_of_like_length, tokens_of
from definemed_pipeline.errors import UserError

disable_progress_bar()  # a payload reports by its draft

BEGIN, PAD, END, UNKNOWN = SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>")  # ids 0 to 3, in XLM-R's order
MAX_GRADIENT_NORM = 1.0
POOL = 32  # batches whose documents are sorted by length together: padding stays small and batches stay mixed
CHARACTERS_PER_TOKEN = 20  # no text has longer tokens on average; what lies beyond max_tokens of them is not tokenized at all
ENCODED_AT_ONCE = 256  # documents; the tokenizer keeps some 100 bytes a token until their ids are taken out

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class TransformerClassifier:
    """Stage 2: its model, its tokenizer, and how many tokens of a document it reads."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    max_tokens: int

    def logits(self, texts: pl.Series, batch_tokens: int) -> Floats:
        """Return the log-odds of each text being positive, shape (texts,)."""
        return self.logits_of(self.encode([texts]), batch_tokens)

    def logits_of(self, documents: Tokens, batch_tokens: int) -> Floats:
        """Return the log-odds of each encoded document being positive, shape (documents,).

        Batches of at most `batch_tokens` tokens, padding included, hold documents of like length. They follow from the list alone, so
        equal lists give equal numbers. Nothing is fetched from the device before the last batch is under way.
        """
        if not len(documents):
            return np.zeros(0)
        batches = batches_of_like_length(documents.lengths, batch_tokens)
        self.model.eval()
        with torch.inference_mode():
            found = [self.forward(documents.padded(chosen, self._padding)).diff(dim=1)[:, 0] for chosen in batches]
            logits = torch.cat(found).cpu().numpy()
        result = np.zeros(len(documents))
        result[np.concatenate(batches)] = logits
        return result

    def forward(self, ids: Ids) -> torch.Tensor:
        """Return the logits of both classes in float32, shape (documents, 2), for padded ids; bf16 inside on a GPU.

        A batch without padding gets no mask, which leaves attention its fastest kernel.
        """
        device = self.model.device
        mask = None if (ids != self._padding).all() else torch.from_numpy(ids != self._padding).to(device, non_blocking=True)
        batch = torch.from_numpy(ids).to(device, non_blocking=True).long()
        with torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else contextlib.nullcontext():
            logits: torch.Tensor = self.model(input_ids=batch, attention_mask=mask).logits
        return logits.float()

    def encode(self, texts: Iterable[pl.Series]) -> Tokens:
        """Return the token ids of each text, begin and end tokens included, `max_tokens` at most."""
        limit = self.max_tokens * CHARACTERS_PER_TOKEN
        found = []
        for piece in texts:
            for part in piece.str.slice(0, limit).to_frame().iter_slices(ENCODED_AT_ONCE):
                found += [np.array(one.ids, dtype=np.int32) for one in self._reader.encode_batch_fast(part.to_series().to_list())]
        return tokens_of(found)

    @property
    def precision(self) -> str:
        """Return the device and the number format of its matrix products, as in "cuda bfloat16"."""
        device = self.model.device.type
        return f"{device} {'bfloat16' if device == 'cuda' else 'float32'}"

    @property
    def _padding(self) -> int:
        return int(self.tokenizer.pad_token_id)

    def save(self, folder: Path) -> None:
        """Write a `from_pretrained` folder."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    @cached_property
    def _reader(self) -> Tokenizer:
        """A tokenizer that truncates: a copy, because the one that is saved should not."""
        reader = Tokenizer.from_str(self.tokenizer.backend_tokenizer.to_str())
        reader.no_padding()
        reader.enable_truncation(self.max_tokens)
        return reader


def load_transformer(
    folder: str | Path, max_tokens: int, *, revision: str = "main", trains: bool = False
) -> TransformerClassifier:
    """Load a folder, or a Hub repository at a revision, onto the GPU where there is one; never code from it, never a pickle.

    A model without a head for two classes gets a new one with random weights. On a GPU its weights are bf16, unless it `trains`.
    """
    dtype = torch.bfloat16 if torch.cuda.is_available() and not trains else torch.float32
    model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(
        folder,
        revision=revision,
        num_labels=2,
        dtype=dtype,
        attn_implementation="sdpa",
        use_safetensors=True,
        trust_remote_code=False,
    )
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, revision=revision)
    return TransformerClassifier(_on_device(model), tokenizer, max_tokens)


def train_transformer(
    texts: Iterable[pl.Series],
    labels: Labels,
    settings: MedicalClassifierSettings,
    checkpoint: Path,
    report: Callable[[str], None],
) -> TransformerClassifier:
    """Train with AdamW, linear warm-up and decay, and both classes of equal total weight. Deterministic on a CPU.

    `texts` come in pieces, together as long as `labels`, and can be gone through twice. They are tokenized ahead: 4 bytes a token are
    in memory beside the model. After each epoch its state goes to the file `checkpoint`; a call that finds the file goes on from there
    to the same weights. Raise UserError where the published model cannot be loaded.
    """
    torch.manual_seed(settings.seed)
    classifier = _initial(texts, settings)
    documents, targets = classifier.encode(texts), torch.from_numpy(labels.astype(np.int64)).to(classifier.model.device)
    class_weights = (len(labels) / (2 * torch.bincount(targets, minlength=2))).float()
    optimizer = torch.optim.AdamW(classifier.model.parameters(), lr=0.0, weight_decay=settings.weight_decay)
    steps_per_epoch = -(-len(labels) // settings.batch_size)
    first = _resume(checkpoint, classifier.model, optimizer)
    for epoch in range(first, settings.epochs):
        torch.manual_seed(settings.seed + 1 + epoch)  # an epoch's dropout does not depend on where training was resumed
        classifier.model.train()
        losses = []
        for step, chosen in enumerate(_epoch_batches(documents.lengths, settings.batch_size, settings.seed + 1 + epoch)):
            rate = learning_rate(settings, epoch * steps_per_epoch + step, settings.epochs * steps_per_epoch)
            logits = classifier.forward(documents.padded(chosen, classifier._padding))
            loss = torch.nn.functional.cross_entropy(logits, targets[chosen], weight=class_weights)
            losses.append(_step(loss, classifier.model, optimizer, rate))
        report(f"transformer: epoch {epoch + 1} of {settings.epochs}, training loss {np.mean(losses):.3f}")
        _save_state(checkpoint, classifier.model, optimizer, epoch + 1)
    return classifier


def learning_rate(settings: MedicalClassifierSettings, step: int, steps: int) -> float:
    """Return the learning rate of a step (from 0): it rises linearly over the warm-up share and falls linearly to almost 0."""
    warm_up = settings.warm_up_share * steps
    rising, falling = (step + 1) / (warm_up + 1), (steps - step) / max(steps - warm_up, 1)
    return settings.learning_rate * min(rising, falling, 1.0)


def train_tokenizer(texts: Iterable[pl.Series], vocabulary_size: int, max_tokens: int) -> PreTrainedTokenizerFast:
    """Train a tokenizer as SentencePiece would: blanks become "▁", pieces are found by byte-pair encoding.

    XLM-R's own kind, Unigram, is out: its trainer sums over hash maps in random order, and no two runs give the same vocabulary.
    """
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary_size, special_tokens=list(SPECIAL_TOKENS), show_progress=False)
    tokenizer.train_from_iterator((piece.to_list() for piece in texts), trainer)
    ends = [(token, SPECIAL_TOKENS.index(token)) for token in (BEGIN, END)]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BEGIN} $A {END}", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=max_tokens,
        bos_token=BEGIN,
        cls_token=BEGIN,
        eos_token=END,
        sep_token=END,
        pad_token=PAD,
        unk_token=UNKNOWN,
    )


def _initial(texts: Iterable[pl.Series], settings: MedicalClassifierSettings) -> TransformerClassifier:
    if isinstance(settings.transformer, FromScratch):
        return _from_scratch(texts, settings.transformer, settings.max_tokens)
    return _from_pretrained(settings.transformer, settings.max_tokens)


def _from_scratch(texts: Iterable[pl.Series], architecture: FromScratch, max_tokens: int) -> TransformerClassifier:
    from transformers import XLMRobertaConfig, XLMRobertaForSequenceClassification

    tokenizer = train_tokenizer(texts, architecture.vocabulary_size, max_tokens)
    config = XLMRobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=architecture.hidden_size,
        num_hidden_layers=architecture.layers,
        num_attention_heads=architecture.heads,
        intermediate_size=4 * architecture.hidden_size,
        max_position_embeddings=max_tokens + tokenizer.pad_token_id + 1,  # positions count from the padding token's id on
        type_vocab_size=1,
        attention_probs_dropout_prob=0.0,  # with it, attention on a CPU leaves its fused kernel and takes twice as long
    )
    model = XLMRobertaForSequenceClassification(config)
    return TransformerClassifier(_on_device(model), tokenizer, max_tokens)


def _from_pretrained(published: Pretrained, max_tokens: int) -> TransformerClassifier:
    if published.revision is None and not Path(published.model).is_dir():
        raise UserError(f"medical_classifier.transformer: {published.model} is no folder; for a Hub repository pin its revision")
    try:
        classifier = load_transformer(published.model, max_tokens, revision=published.revision or "main", trains=True)
    except (OSError, ValueError) as error:
        raise UserError(
            f"medical_classifier.transformer: {published.model} at revision {published.revision} cannot be loaded "
            f"({' '.join(str(error).split())[:150]}); name a folder or Hub repository with safetensors and tokenizer.json"
        ) from error
    classifier.model.config.name_or_path = ""  # nothing of this machine's paths goes into the artifact
    if max_tokens > (longest := classifier.tokenizer.model_max_length):
        raise UserError(f"medical_classifier.max_tokens is {max_tokens}; {published.model} reads at most {longest}")
    return classifier


def _on_device(model: PreTrainedModel) -> PreTrainedModel:
    return torch.nn.Module.to(model, "cuda" if torch.cuda.is_available() else "cpu")


def _epoch_batches(lengths: Ints, batch_size: int, seed: int) -> list[Ints]:
    """Shuffle the documents, sort pools of batches by length, shuffle the batches."""
    random = np.random.default_rng(seed)
    order = random.permutation(len(lengths))
    pools = [order[start : start + POOL * batch_size] for start in range(0, len(order), POOL * batch_size)]
    ordered = np.concatenate([pool[np.argsort(lengths[pool], kind="stable")] for pool in pools])
    batches = [ordered[start : start + batch_size] for start in range(0, len(ordered), batch_size)]
    return [batches[i] for i in random.permutation(len(batches))]


def _step(loss: torch.Tensor, model: PreTrainedModel, optimizer: torch.optim.Optimizer, rate: float) -> float:
    for group in optimizer.param_groups:
        group["lr"] = rate
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRADIENT_NORM)
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def _save_state(checkpoint: Path, model: PreTrainedModel, optimizer: torch.optim.Optimizer, epochs: int) -> None:
    with written_whole(checkpoint) as unfinished:
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epochs": epochs}, unfinished)


def _resume(checkpoint: Path, model: PreTrainedModel, optimizer: torch.optim.Optimizer) -> int:
    """Load the state of a killed run and return the number of epochs it had finished."""
    if not checkpoint.exists():
        return 0
    state = torch.load(checkpoint, map_location=model.device, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["epochs"])
