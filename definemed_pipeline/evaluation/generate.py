"""Payload: what the three stages of a base model answer to instructions. Needs torch, transformers, pyarrow and numpy only."""

import json
import time
from collections.abc import Sequence

import pyarrow as pa

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.evaluation.answering import Answer, ChatModel
from definemed_pipeline.evaluation.examples import Instruction
from definemed_pipeline.evaluation.settings import ResponsesSettings
from definemed_pipeline.evaluation.splits import instructions_of
from definemed_pipeline.evaluation.stages import STAGES, model_folder, table_of_stages, write_table
from definemed_pipeline.intervals import wilson
from definemed_pipeline.payload import run_payload

SCHEMA = pa.schema(
    {
        "base_model": pa.string(),
        "stage": pa.string(),
        "instruction_set": pa.string(),
        "instruction_id": pa.string(),
        "kind": pa.string(),
        "instruction": pa.string(),
        "reference": pa.string(),
        "format": pa.string(),  # JSON, null where the instruction asks for none
        "response": pa.string(),
        "tokens": pa.int64(),
        "is_ended": pa.bool_(),
    }
)


def collect_responses(draft: Draft[ResponsesSettings]) -> None:
    """Have every stage of a base model answer the test instructions of the recipe's sets; write `responses.parquet`."""
    asked = [
        (name, instruction)
        for name, one in sorted(draft.settings.instruction_sets.items())
        for instruction in instructions_of("test", draft.source(f"instructions/{name}"), one)
    ]
    table = table_of_stages(draft, lambda stage: _answer_stage(draft, stage, asked))
    keys = ("instruction_set", "instruction_id", "stage")
    write_table(table.sort_by([(key, "ascending") for key in keys]), draft.folder / "responses.parquet")
    for stage in STAGES:
        ended = [row["is_ended"] for row in table.select(["stage", "is_ended"]).to_pylist() if row["stage"] == stage]
        draft.metrics |= wilson(sum(ended), len(ended)).as_metrics(f"{stage}_ended")
    draft.metrics["responses"] = table.num_rows


def _answer_stage(draft: Draft[ResponsesSettings], stage: str, asked: Sequence[tuple[str, Instruction]]) -> pa.Table:
    draft.report(f"{draft.identity.partition}, stage {stage}: answering {len(asked)} instructions")
    model = ChatModel(model_folder(draft, stage), max_new_tokens=draft.settings.max_new_tokens)
    started = time.monotonic()
    answers = model.answer(
        [instruction.instruction for _, instruction in asked],
        batch_size=draft.settings.batch_size,
        report=lambda text: draft.report(f"{draft.identity.partition}, stage {stage}: {text}"),
    )
    tokens = sum(answer.tokens for answer in answers)
    draft.metrics[f"{stage}_tokens_per_second"] = tokens / (time.monotonic() - started)
    rows = [
        _row(draft.identity.partition, stage, name, instruction, answer)
        for (name, instruction), answer in zip(asked, answers, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _row(base_model: str, stage: str, instruction_set: str, instruction: Instruction, answer: Answer) -> dict[str, object]:
    return {
        "base_model": base_model,
        "stage": stage,
        "instruction_set": instruction_set,
        "instruction_id": instruction.id,
        "kind": instruction.kind,
        "instruction": instruction.instruction,
        "reference": instruction.reference,
        "format": json.dumps(instruction.format, sort_keys=True, ensure_ascii=False) if instruction.format else None,
        "response": answer.text,
        "tokens": answer.tokens,
        "is_ended": answer.is_ended,
    }


if __name__ == "__main__":
    run_payload(ResponsesSettings, collect_responses, parse=ResponsesSettings.parse)
