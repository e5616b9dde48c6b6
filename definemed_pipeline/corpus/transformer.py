"""Stage 2 of the classifier: a sequence classifier of XLM-R architecture, trained on the annotated sample.

It starts from random weights and a tokenizer of its own (small sizes, as in the demo) or from published ones (the paper's
XLM-RoBERTa). The folder it is saved to is an ordinary `from_pretrained` folder with safetensors. What is decided with its
probabilities belongs in `two_stage`.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer

from definemed_pipeline.corpus.classifier_settings import FromScratch, MedicalClassifierSettings, Pretrained
from definemed_pipeline.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

BEGIN, PAD, END, UNKNOWN = SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>")  # in XLM-R's order: ids 0 to 3
POOL = 50  # batches whose documents are sorted by length together, so that training pads little and still shuffles
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class TransformerClassifier:
    """A trained stage 2: its model in evaluation mode and its tokenizer."""

    model: "PreTrainedModel"
    tokenizer: Tokenizer
    max_tokens: int

    def logits(self, texts: Sequence[str], batch_size: int) -> Floats:
        """Return the log-odds of each text being positive, shape (texts,).

        Batches hold texts of like length and follow from the texts alone, so equal lists give equal numbers.
        """
        encoded = encode(self.tokenizer, texts, self.max_tokens)
        order = np.argsort([len(tokens) for tokens in encoded], kind="stable")
        result = np.zeros(len(texts))
        with torch.inference_mode():
            for chosen in batches(order, batch_size):
                ids, mask = padded([encoded[i] for i in chosen], self.model.config.pad_token_id, self.model.device)
                with _precision(self.model.device):
                    output = self.model(input_ids=ids, attention_mask=mask).logits.float()
                result[chosen] = (output[:, 1] - output[:, 0]).cpu().numpy()
        return result

    def save(self, folder: Path, tokenizer: "PreTrainedTokenizerFast") -> None:
        """Write a `from_pretrained` folder that names no path of this machine."""
        self.model.config._name_or_path = ""
        self.model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def load_transformer(folder: Path, max_tokens: int) -> TransformerClassifier:
    """Load a saved stage 2 onto the accelerator where there is one."""
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    return TransformerClassifier(
        model=model.to(_device()).eval(), tokenizer=Tokenizer.from_file(str(folder / "tokenizer.json")), max_tokens=max_tokens
    )
