"""How a document becomes the token ids a model is trained on: its own tokenizer, its own document bounds.

Uses the `tokenizers` library directly; nothing here needs transformers or torch.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from definemed_pipeline.errors import UserError
from definemed_pipeline.model_folder import read_json

# Chat models end a turn with their eos token, but were pre-trained with documents ended by one of these where their vocabulary has it.
DOCUMENT_ENDS = ("<|endoftext|>", "<|end_of_text|>")


class DocumentEncoder:
    """Encode documents as a model's pre-training did: begin token where its tokenizer sets one, and the token that ends a document.

    Text that happens to spell a special token is encoded as plain text, so that a web page cannot end a document or open a chat turn.
    """

    def __init__(self, model: Path) -> None:
        self.tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.tokenizer.encode_special_tokens = True
        self.end_token = _document_end(self.tokenizer, model)
        self.end_id = _id_of(self.tokenizer, self.end_token)

    def encode(self, texts: Sequence[str]) -> list[npt.NDArray[np.uint32]]:
        """Return one array of token ids per text, document bounds included."""
        encodings = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=True)
        return [self._ended(encoding.ids) for encoding in encodings]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids without special tokens."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def _ended(self, ids: list[int]) -> npt.NDArray[np.uint32]:
        if not ids or ids[-1] != self.end_id:  # some tokenizers set the end themselves
            ids.append(self.end_id)
        return np.array(ids, dtype=np.uint32)


def _id_of(tokenizer: Tokenizer, token: str) -> int:
    token_id = tokenizer.token_to_id(token)
    assert token_id is not None  # _document_end made sure
    return int(token_id)


def _document_end(tokenizer: Tokenizer, model: Path) -> str:
    special = {token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special}
    for candidate in DOCUMENT_ENDS:
        if candidate in special:
            return candidate
    config = model / "tokenizer_config.json"
    eos = read_json(config).get("eos_token") if config.exists() else None
    name = eos["content"] if isinstance(eos, dict) else eos  # older folders write the token with its flags
    if not name or tokenizer.token_to_id(name) is None:
        raise UserError(
            f"the tokenizer has no token that ends a document (eos_token is {name!r}); set eos_token in tokenizer_config.json"
        )
    return str(name)
