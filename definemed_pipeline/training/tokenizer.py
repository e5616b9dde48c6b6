"""Train the small tokenizer of a model that is pre-trained from scratch, in the manner of its architecture's own tokenizers.

Byte-level BPE with the special tokens and the chat template by which Qwen2 and Mistral instruct models mark turns. Tokenizers of
existing models are never changed.
"""

import importlib.resources
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

Architecture = Literal["qwen2", "mistral"]
# transformers loads every Qwen2 folder with this splitting, whatever its tokenizer.json says; ours must be the same.
WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


@dataclass(frozen=True, kw_only=True)
class SpecialTokens:
    """An architecture's special tokens; `turns` are those that only the chat template writes."""

    bos: str | None
    eos: str
    pad: str
    turns: tuple[str, ...]

    @property
    def all(self) -> list[str]:
        return list(dict.fromkeys(token for token in (self.pad, self.bos, *self.turns, self.eos) if token))


SPECIAL_TOKENS: dict[Architecture, SpecialTokens] = {
    "qwen2": SpecialTokens(bos=None, eos="<|im_end|>", pad="<|endoftext|>", turns=("<|im_start|>",)),
    "mistral": SpecialTokens(bos="<s>", eos="</s>", pad="<unk>", turns=("[INST]", "[/INST]")),
}


def train_tokenizer(
    texts: Iterable[str], architecture: Architecture, *, vocabulary_size: int, model_max_length: int
) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer of at most `vocabulary_size` tokens, ready for `save_pretrained`."""
    special = SPECIAL_TOKENS[architecture]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=special.all,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if special.bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{special.bos} $A", special_tokens=[(special.bos, tokenizer.token_to_id(special.bos))]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        chat_template=chat_template(architecture),
        bos_token=special.bos,
        eos_token=special.eos,
        pad_token=special.pad,
        additional_special_tokens=list(special.turns),
        model_max_length=model_max_length,
        clean_up_tokenization_spaces=False,
    )


def chat_template(architecture: Architecture) -> str:
    """Return the Jinja template that writes a conversation with the architecture's turn tokens."""
    return (importlib.resources.files(__package__) / "chat_templates" / f"{architecture}.jinja").read_text("utf-8")
