"""The annotations as training reads them: labels in memory, texts from the file, a row group at a time.

Which documents were drawn and how they were labelled stands in `annotations`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from definemed_pipeline.corpus.parquet import numbered_row_groups
from definemed_pipeline.keyed_hash import keyed_hash

COLUMNS = ["id", "text", "role", "inclusion_weight", "is_medical", "gold_is_medical"]
SPLIT_SEED = 0


@dataclass(frozen=True)
class Texts:
    """The texts of some documents of a parquet file; `rows` rise. Iterating yields them as columns, one row group in memory at a time."""

    path: Path
    rows: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[pl.Series]:
        for group in numbered_row_groups(self.path, ["text"]):
            bounds = np.searchsorted(self.rows, [group["row"][0], group["row"][-1] + 1]) if group.height else [0, 0]
            wanted = self.rows[bounds[0] : bounds[1]]
            if len(wanted):
                yield group["text"].gather(wanted - group["row"][0])


def read_annotated(path: Path) -> pl.DataFrame:
    """Return every document that has a text: `row`, COLUMNS without `text`, and `text_key`, a hash that equal texts share."""
    parts = [
        group.drop("text").with_columns(text_key=keyed_hash(group["text"], SPLIT_SEED))
        for group in (group.drop_nulls("text") for group in numbered_row_groups(path, COLUMNS))
    ]
    return pl.concat(parts)
