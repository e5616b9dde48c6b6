"""Payload: what the three stages of a base model answer to instructions, by their weights or through an endpoint that serves them.

Answers are kept outside the artifact as they come, so a try that was killed, or a forced one, computes and pays for what is missing only.
"""

import json
from collections.abc import Sequence

import pyarrow as pa

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.evaluation.answering import Answer, ChatModel
from definemed_pipeline.evaluation.examples import Instruction
from definemed_pipeline.evaluation.kept_answers import KeptAnswers
from definemed_pipeline.evaluation.served import answer_by_endpoint, endpoint_of
from definemed_pipeline.evaluation.settings import ChatGenerator, ResponsesSettings, TransformersGenerator
from definemed_pipeline.evaluation.splits import instructions_of
from definemed_pipeline.evaluation.stages import STAGE_ASSETS, STAGES, model_folder, write_table
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
    tables = [_answer_stage(draft, stage, asked) for stage in STAGES]
    keys = ("instruction_set", "instruction_id", "stage")
    table = pa.concat_tables(tables).sort_by([(key, "ascending") for key in keys])
    write_table(table, draft.folder / "responses.parquet")
    for stage in STAGES:
        ended = [row["is_ended"] for row in table.select(["stage", "is_ended"]).to_pylist() if row["stage"] == stage]
        draft.metrics |= wilson(sum(ended), len(ended)).as_metrics(f"{stage}_ended")
    draft.metrics["responses"] = table.num_rows


def _answer_stage(draft: Draft[ResponsesSettings], stage: str, asked: Sequence[tuple[str, Instruction]]) -> pa.Table:
    draft.report(f"{draft.identity.partition}, stage {stage}: answering {len(asked)} instructions")
    answer = _answer_locally if isinstance(draft.settings.generator, TransformersGenerator) else _answer_by_endpoint
    answers = answer(draft, stage, [instruction.instruction for _, instruction in asked])
    rows = [
        response_row(draft.identity.partition, stage, name, instruction, answer)
        for (name, instruction), answer in zip(asked, answers, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _answer_locally(draft: Draft[ResponsesSettings], stage: str, instructions: Sequence[str]) -> list[Answer]:
    generator = draft.settings.generator
    assert isinstance(generator, TransformersGenerator)
    model = ChatModel(model_folder(draft, stage), max_new_tokens=draft.settings.max_new_tokens)
    made_by = {
        "weights": _version(draft, stage),
        "code_version": draft.identity.code_version,
        "max_new_tokens": draft.settings.max_new_tokens,
        "device": model.device,
    }
    with KeptAnswers(draft.store.scratch / "answers", made_by) as kept:
        answers = model.answer(
            instructions, batch_size=generator.batch_size, report=lambda text: _report(draft, stage, text), kept=kept
        )
    if model.computed_tokens:
        draft.metrics[f"{stage}_tokens_per_second"] = model.computed_tokens / model.computing_seconds
    return answers


def _answer_by_endpoint(draft: Draft[ResponsesSettings], stage: str, instructions: Sequence[str]) -> list[Answer]:
    generator = draft.settings.generator
    assert isinstance(generator, ChatGenerator)
    answers, accounting = answer_by_endpoint(
        endpoint_of(generator.endpoint, base_model=draft.identity.partition, stage=stage),
        instructions,
        model_version=_version(draft, stage),
        max_tokens=draft.settings.max_new_tokens,
        cache_folder=draft.store.scratch / "chat_cache",
        report=lambda text: _report(draft, stage, text),
    )
    draft.metrics |= {f"{stage}_{name}": value for name, value in accounting.items()}
    return answers


def _version(draft: Draft[ResponsesSettings], stage: str) -> str:
    return draft.input_manifest(STAGE_ASSETS[stage], draft.identity.partition).digest


def _report(draft: Draft[ResponsesSettings], stage: str, text: str) -> None:
    draft.report(f"{draft.identity.partition}, stage {stage}: {text}")


def response_row(
    base_model: str, stage: str, instruction_set: str, instruction: Instruction, answer: Answer
) -> dict[str, object]:
    """Return a row of the table of responses."""
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
