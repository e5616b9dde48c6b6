"""How a document becomes the token ids a model is trained on: its own tokenizer, its own document bounds.

Uses the `tokenizers` library directly; nothing here needs transformers or torch.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer

from definemed_pipeline.ahead import ahead
from definemed_pipeline.errors import UserError
from definemed_pipeline.model_folder import read_json
from definemed_pipeline.training.documents import Documents

# Chat models end a turn with their eos token, but were pre-trained with documents ended by one of these where their vocabulary has it.
DOCUMENT_ENDS = ("<|endoftext|>", "<|end_of_text|>")
Ids = npt.NDArray[np.uint32]


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

    @property
    def largest_id(self) -> int:
        """Return the largest id a token can have."""
        return max(self.tokenizer.get_vocab(with_added_tokens=True).values())

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """Return one array of token ids per text, document bounds included."""
        return self._ended(self._tokenized(texts))

    def encode_ahead(self, batches: Iterator[Documents]) -> Iterator[list[tuple[str, Ids]]]:
        """Yield each batch as (id, token ids) while the next one is read and the one before that encoded.

        The library encodes on all the cores it may use and holds no lock of Python's meanwhile, so what the caller does with a batch costs
        no time on the clock where there is more than one core. Three batches are in memory.
        """
        for ids, encodings in ahead((batch.ids, self._tokenized(batch.texts)) for batch in ahead(batches)):
            yield list(zip(ids, self._ended(encodings), strict=True))

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids without special tokens."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def _tokenized(self, texts: Sequence[str]) -> list[Encoding]:
        return list(self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=True))

    def _ended(self, encodings: list[Encoding]) -> list[Ids]:
        documents = []
        for encoding in encodings:
            ids = encoding.ids
            if not ids or ids[-1] != self.end_id:  # some tokenizers set the end themselves
                ids.append(self.end_id)
            documents.append(np.array(ids, dtype=np.uint32))
        return documents


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
