"""Which questions and instructions may be used for choosing, and which only for reporting.

An item belongs to `validation` or to `test` by a keyed hash of its text and by nothing else: neither its id nor the order or company of its
file. So copies of a text fall on the same side in every file that has them, an enlarged file keeps its split, and a larger share only
moves items from test to validation. Scores, responses and everything compared are of `test`; what is chosen, such as a merge's t, is chosen on
`validation`. Decontamination knows no split: nothing of either may be in the corpus.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, TypeVar, get_args

from definemed_pipeline.artifacts.manifest import Source
from definemed_pipeline.errors import UserError
from definemed_pipeline.evaluation.benchmarks.questions import Question, read_questions
from definemed_pipeline.evaluation.benchmarks.rules import CheckedInstruction, read_checked_instructions
from definemed_pipeline.evaluation.benchmarks.settings import BenchmarkSettings, InstructionFollowingSettings
from definemed_pipeline.evaluation.examples import Instruction, read_instructions
from definemed_pipeline.evaluation.settings import InstructionSetSettings
from definemed_pipeline.keyed_hash import keyed_hash

Split = Literal["validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
T = TypeVar("T")
SEED = 20_260_419  # another seed is another split of every recipe: it never changes


def splits_of(texts: Iterable[str], validation_share: float) -> list[Split]:
    """Tell for each text on which side it falls; case and white space do not count. `validation_share` is from 0 to 1."""
    hashes = keyed_hash(map(folded, texts), SEED)
    bound = int(validation_share * 2.0**64)  # a whole number: as floats the largest hashes would not be below 2 to the 64
    return ["validation" if value < bound else "test" for value in hashes.tolist()]


def folded(text: str) -> str:
    """Return what is left of a text without case and with single spaces: texts that fold alike are the same question."""
    return " ".join(text.casefold().split())


def questions_of(split: Split, source: Source, settings: BenchmarkSettings) -> list[Question]:
    """Read a benchmark's questions of one split, sorted by id. Raise UserError where it has none."""
    questions = read_questions(source, settings)
    return _side(split, questions, [one.question for one in questions], source, settings.validation_share)


def checked_instructions_of(split: Split, source: Source, settings: InstructionFollowingSettings) -> list[CheckedInstruction]:
    """Read the instructions of one split of a benchmark that rules check, sorted by id. Raise UserError where it has none."""
    items = read_checked_instructions(source)
    return _side(split, items, [one.instruction for one in items], source, settings.validation_share)


def instructions_of(split: Split, source: Source, settings: InstructionSetSettings) -> list[Instruction]:
    """Read the instructions of one split of a set, sorted by id. Raise UserError where it has none."""
    instructions = read_instructions(source)
    return _side(split, instructions, [one.instruction for one in instructions], source, settings.validation_share)


def _side(split: Split, items: Sequence[T], texts: Sequence[str], source: Source, share: float) -> list[T]:
    found = [item for item, side in zip(items, splits_of(texts, share), strict=True) if side == split]
    if not found:
        raise UserError(
            f"{source.name}: none of the {len(items)} items of {source.location} is in {split} with validation_share {share}; "
            f"{'raise' if split == 'validation' else 'lower'} it, or name a larger file"
        )
    return found
