"""The responses of all models as one complete table, the common ground of comparison and diagnosis."""

from typing import Any

import polars as pl

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.errors import UserError
from definemed_pipeline.evaluation.stages import STAGES

MODEL = ("base_model", "stage")
INSTRUCTION = ("instruction_set", "instruction_id")


def read_responses(draft: Draft[Any]) -> pl.DataFrame:
    """Return the responses of every base model and stage, sorted by model and instruction.

    Raise UserError naming the models that did not answer what others answered: rates of different instructions cannot be compared.
    """
    files = [draft.input("responses", partition) / "responses.parquet" for partition in draft.partitions("responses")]
    if not files:
        raise UserError("there are no responses to compare: materialize responses for at least one base model first")
    responses = pl.concat([pl.read_parquet(file) for file in files])
    _refuse_gaps(responses)
    return responses.sort(*MODEL, *INSTRUCTION)


def _refuse_gaps(responses: pl.DataFrame) -> None:
    models = responses.select("base_model").unique().join(pl.DataFrame({"stage": STAGES}), how="cross")
    expected = models.join(responses.select(INSTRUCTION).unique(), how="cross")
    missing = expected.join(responses, on=[*MODEL, *INSTRUCTION], how="anti")
    if missing.is_empty():
        return
    counts = missing.group_by("base_model").len().sort("base_model")
    named = ", ".join(f"{name} ({count})" for name, count in counts.iter_rows())
    raise UserError(f"responses are missing for base models {named}: materialize responses for them again with one recipe")
