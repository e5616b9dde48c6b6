"""Pack input files one after another into several sets, and keep what was made of each, so that a killed try goes on after the last one.

    00000/input.json     the input file's name, how many of its documents were passed over
    00000/<role>/        a part of a set (see `packing`)

A folder gets its number when it is complete, so one that has a number is whole, unless a disk lost something: then it is made again.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from definemed_pipeline.training.packing import Batch, BlockFormat, Part, PartWriter, join

PASSED_OVER = "passed_over"  # the role of documents that go into no set
INPUT_FILE = "input.json"


@dataclass(frozen=True, kw_only=True)
class PackedInput:
    """An input file that is packed: its parts by role, and how many of its documents were passed over."""

    parts: Mapping[str, Part]
    passed_over: int


class InputPacking:
    """The sets in the making. `sets` says which roles' documents make each set; `folder` keeps what is complete."""

    def __init__(
        self, folder: Path, sets: Mapping[str, Sequence[str]], block_format: BlockFormat, *, report: Callable[[str], None]
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.sets = sets
        self.block_format = block_format
        self.report = report
        self.inputs: list[PackedInput] = []
        self._kept = 0  # of an earlier try, not told yet

    def kept(self, name: str, roles: Sequence[str]) -> PackedInput | None:
        """Take the next input over from an earlier try; None where it has to be packed."""
        place = self._place()
        if not place.exists():
            return None
        try:
            packed = self._read(place, name, roles)
        except (OSError, ValueError, KeyError, TypeError):
            self.report(f"what an earlier try left of {name} does not fit; packing it and all that follows again")
            for later in self.folder.iterdir():
                if later.name >= place.name:
                    shutil.rmtree(later)
            return None
        self.inputs.append(packed)
        self._kept += 1
        return packed

    def add(
        self, name: str, roles: Sequence[str], batches: Iterable[Batch], divide: Callable[[Batch], Mapping[str, Batch]]
    ) -> None:
        """Pack the next input: `divide` says which documents of a batch have which role."""
        if self._kept:
            self.report(f"going on after {self._kept} files that an earlier try finished")
            self._kept = 0
        place, passed_over = self._place(), 0
        unfinished = place.with_name(f"{place.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        with ExitStack() as open_parts:
            writers = {
                role: open_parts.enter_context(
                    PartWriter(unfinished / role, self.block_format, role=role, offset=self._next_offset(role))
                )
                for role in roles
            }
            for batch in batches:
                for role, documents in divide(batch).items():
                    if role == PASSED_OVER:
                        passed_over += len(documents)
                    else:
                        writers[role].append(documents)
        (unfinished / INPUT_FILE).write_text(json.dumps({"name": name, PASSED_OVER: passed_over}), "utf-8")
        os.rename(unfinished, place)
        self.inputs.append(self._read(place, name, roles))

    def documents(self, role: str) -> int:
        """Return how many documents have a role so far."""
        return sum(part.documents for part in self._parts(role))

    def tokens(self, role: str) -> int:
        """Return how many tokens the documents of a role have so far."""
        return sum(part.tokens for part in self._parts(role))

    def join(self, name: str, folder: Path) -> dict[str, int]:
        """Write a set and return its counts."""
        return join(self._parts(*self.sets[name]), folder, self.block_format)

    def _place(self) -> Path:
        return self.folder / f"{len(self.inputs):05d}"

    def _parts(self, *roles: str) -> list[Part]:
        return [part for packed in self.inputs for role, part in packed.parts.items() if role in roles]

    def _next_offset(self, role: str) -> int:
        roles = next(roles for roles in self.sets.values() if role in roles)
        return sum(part.tokens for part in self._parts(*roles))

    def _read(self, place: Path, name: str, roles: Sequence[str]) -> PackedInput:
        """Read what was made of an input; raise ValueError or OSError where it is something else."""
        record = json.loads((place / INPUT_FILE).read_text("utf-8"))
        parts = {role: Part.read(place / role, self.block_format) for role in roles}
        if record["name"] != name or any(
            (part.role, part.offset) != (role, self._next_offset(role)) for role, part in parts.items()
        ):
            raise ValueError(f"{place} was made of another input")
        return PackedInput(parts=parts, passed_over=int(record[PASSED_OVER]))
