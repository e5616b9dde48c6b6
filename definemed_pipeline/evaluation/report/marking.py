"""How a traced number or text is written into the page: with its value, its arithmetic and a link to the file it was read from."""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from definemed_pipeline.evaluation.report.tracing import Place, Traced, TracedText
from definemed_pipeline.evaluation.styles import write_number

MISSING = Markup('<span class="none" title="not measured">–</span>')


@dataclass(frozen=True, kw_only=True)
class CitedFile:
    """A file that numbers of the page were read from, under the number the page cites it by."""

    number: int
    asset: str
    partition: str
    file: str


class Marks:
    """Write numbers and texts with their places, and number the files these lie in as they come up."""

    def __init__(self) -> None:
        self._files: dict[tuple[str, str, str], int] = {}

    def number(self, value: Traced | None, style: str) -> Markup:
        """Return a number as people read it, in an element that says where it comes from; a dash where there is none."""
        if value is None:
            return MISSING
        return Markup("<data {}>{}</data>").format(self.attributes(value, style), displayed(value, style))

    def attributes(self, value: Traced, style: str) -> Markup:
        """Return the attributes that say where a number comes from, for any element that shows it."""
        return Markup('value="{}" data-as="{}" data-formula="{}" {}').format(
            repr(float(value)), style, value.formula, self._from(value.places)
        )

    def text(self, value: TracedText) -> Markup:
        """Return a text in an element that says where it comes from."""
        return Markup("<span {}>{}</span>").format(self._from([value.place]), str(value))

    def cite(self, *shown: Any) -> Markup:
        """Return links to the files of everything traced in some values, however deep."""
        numbers = sorted({self._number(place) for place in _places(shown)})
        links = (Markup('<a href="#file-{0}" aria-label="read from file {0}">{0}</a>').format(number) for number in numbers)
        return Markup('<sup class="cite">{}</sup>').format(Markup(" ").join(links))

    def files(self) -> list[CitedFile]:
        """Return the files cited so far, in the order of their numbers."""
        return [
            CitedFile(number=number, asset=asset, partition=partition, file=file)
            for (asset, partition, file), number in self._files.items()
        ]

    def _number(self, place: Place) -> int:
        return self._files.setdefault((place.asset, place.partition, place.file), len(self._files) + 1)

    def _from(self, places: Iterable[Place]) -> Markup:
        found = list(places)
        files, keys = " ".join(str(self._number(place)) for place in found), " ".join(place.key for place in found)
        return Markup('data-from="{}" data-at="{}"').format(files, keys)


def displayed(value: float, style: str) -> str:
    """Return a number as the page shows it: with a real minus sign."""
    return write_number(value, style).replace("-", "−")


def _places(value: Any) -> Iterable[Place]:
    if isinstance(value, Traced):
        yield from value.places
    elif isinstance(value, TracedText):
        yield value.place
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _places(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _places(item)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _places(getattr(value, field.name))
