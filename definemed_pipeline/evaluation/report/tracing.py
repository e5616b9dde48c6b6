"""Numbers and texts that know where they were read: artifact, file and key; what is computed from them carries its arithmetic.

Who prints one can say where it comes from, and whoever reads the print can look it up and calculate it again.
"""

import json
import math
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union
from urllib.parse import parse_qsl, quote, unquote, urlencode

import polars as pl
import yaml

from definemed_pipeline.artifacts.manifest import UNPARTITIONED, Manifest

MANIFEST = "manifest.json"
WHOLE = "*"  # the key of a whole file
SIGNS: Mapping[str, Callable[[float, float], float]] = {
    "+": lambda one, other: one + other,
    "-": lambda one, other: one - other,
    "*": lambda one, other: one * other,
    "/": lambda one, other: one / other,
}
Expression = Union["Place", float, tuple[str, "Expression", "Expression"]]


@dataclass(frozen=True, kw_only=True)
class Place:
    """One value in a file of an artifact.

    `key` is a JSON pointer (RFC 6901) into JSON or YAML; in a parquet file `column?key=value&…`, a column of the one row that has these values;
    `*` stands for the whole file.
    """

    asset: str
    partition: str
    file: str
    key: str


class Traced(float):
    """A number with the places it was read from. Sums, differences, products and quotients of it are traced too.

    It compares and prints as the number it is.
    """

    expression: Expression

    def __new__(cls, value: float, expression: Expression) -> "Traced":
        made = super().__new__(cls, value)
        made.expression = expression
        return made

    @property
    def places(self) -> tuple[Place, ...]:
        """Return the places in the order in which `formula` names them x1, x2, …, each once."""
        return tuple(dict.fromkeys(_places(self.expression)))

    @property
    def formula(self) -> str:
        """Return the arithmetic, for example `(x1 - x2) / x3`; `x1` where the number stands in the file as it is."""
        names = {place: f"x{number}" for number, place in enumerate(self.places, start=1)}
        return _written(self.expression, names)

    def __add__(self, other: float) -> "Traced":
        return _combined("+", self, other)

    def __radd__(self, other: float) -> "Traced":
        return _combined("+", other, self)

    def __sub__(self, other: float) -> "Traced":
        return _combined("-", self, other)

    def __rsub__(self, other: float) -> "Traced":
        return _combined("-", other, self)

    def __mul__(self, other: float) -> "Traced":
        return _combined("*", self, other)

    def __rmul__(self, other: float) -> "Traced":
        return _combined("*", other, self)

    def __truediv__(self, other: float) -> "Traced":
        return _combined("/", self, other)

    def __rtruediv__(self, other: float) -> "Traced":
        return _combined("/", other, self)

    def __neg__(self) -> "Traced":
        return _combined("-", 0.0, self)


class TracedText(str):
    """A text with the place it was read from."""

    place: Place

    def __new__(cls, value: str, place: Place) -> "TracedText":
        made = super().__new__(cls, value)
        made.place = place
        return made


class TracedFiles:
    """The files of artifacts, read so that every number and text knows its place. `folder` and `manifest` find an artifact."""

    def __init__(self, folder: Callable[[str, str], Path], manifest: Callable[[str, str], Manifest]) -> None:
        self._folder, self._manifest = folder, manifest

    def document(self, asset: str, file: str, partition: str = UNPARTITIONED) -> Any:
        """Return a JSON or YAML file."""
        return trace(_parsed(self._folder(asset, partition) / file), Place(asset=asset, partition=partition, file=file, key=""))

    def has(self, asset: str, file: str, partition: str = UNPARTITIONED) -> bool:
        """Tell whether an artifact holds a file."""
        return (self._folder(asset, partition) / file).exists()

    def text(self, asset: str, file: str, partition: str = UNPARTITIONED) -> TracedText:
        """Return a whole file as a text."""
        text = (self._folder(asset, partition) / file).read_text("utf-8")
        return TracedText(text, Place(asset=asset, partition=partition, file=file, key=WHOLE))

    def manifest(self, asset: str, partition: str = UNPARTITIONED) -> Any:
        """Return an artifact's manifest as plain values: metrics, and the settings it was built with."""
        return trace(plain(self._manifest(asset, partition)), Place(asset=asset, partition=partition, file=MANIFEST, key=""))

    def rows(
        self, asset: str, file: str, partition: str = UNPARTITIONED, *, key: Sequence[str], where: pl.Expr | None = None
    ) -> list[dict[str, Any]]:
        """Return the rows of a parquet file that `where` takes, each found again by the values of its `key` columns.

        Raise ValueError where two rows of the file have the same key.
        """
        table = pl.scan_parquet(self._folder(asset, partition) / file)
        rows = (table if where is None else table.filter(where)).collect()
        if rows.select(key).is_duplicated().any():
            raise ValueError(f"{asset}/{file}: {', '.join(key)} do not tell its rows apart")
        return [self._row(row, Place(asset=asset, partition=partition, file=file, key=""), key) for row in rows.to_dicts()]

    def _row(self, row: dict[str, Any], table: Place, key: Sequence[str]) -> dict[str, Any]:
        found = urlencode({name: row[name] for name in key}, quote_via=quote)
        return {name: value if name in key else _leaf(value, _at(table, f"{quote(name)}?{found}")) for name, value in row.items()}


def trace(value: Any, place: Place) -> Any:
    """Return a JSON value whose numbers and texts know their place; numbers that are not finite become None."""
    if isinstance(value, dict):
        return {name: trace(item, _at(place, f"{place.key}/{_step(name)}")) for name, item in value.items()}
    if isinstance(value, list):
        return [trace(item, _at(place, f"{place.key}/{number}")) for number, item in enumerate(value)]
    return _leaf(value, place)


class PlaceReader:
    """Finds values by their places. Each file is read once: a reader is for one look at files that stay as they are."""

    def __init__(self) -> None:
        self._documents: dict[Path, Any] = {}
        self._tables: dict[Path, pl.DataFrame] = {}
        self._rows: dict[tuple[Path, tuple[str, ...]], dict[tuple[str, ...], list[int]]] = {}

    def look_up(self, folder: Path, file: str, key: str) -> Any:
        """Return what stands at a place, as plain values. Raise LookupError where there is nothing, or more than one row."""
        path = folder / file
        if key == WHOLE:
            return path.read_text("utf-8")
        if not file.endswith(".parquet"):
            if path not in self._documents:
                self._documents[path] = _parsed(path)
            return point_into(self._documents[path], key)
        column, _, found = key.partition("?")
        wanted = parse_qsl(found, keep_blank_values=True)
        rows = self._rows_by(path, tuple(name for name, _ in wanted)).get(tuple(value for _, value in wanted), [])
        if len(rows) != 1:
            raise LookupError(f"{file}: {len(rows)} rows have {found}")
        return self._tables[path].item(rows[0], unquote(column))

    def _rows_by(self, path: Path, key: tuple[str, ...]) -> dict[tuple[str, ...], list[int]]:
        """Return the positions of a table's rows by the values of its key columns, as texts."""
        if path not in self._tables:
            self._tables[path] = pl.read_parquet(path)
        if (path, key) not in self._rows:
            rows = self._rows[path, key] = defaultdict(list)
            for position, values in enumerate(self._tables[path].select(pl.col(key).cast(pl.String)).iter_rows()):
                rows[values].append(position)
        return self._rows[path, key]


def point_into(value: Any, key: str) -> Any:
    """Return what stands at a JSON pointer's place. Raise LookupError where there is nothing."""
    for step in key.split("/")[1:]:
        name = unquote(step).replace("~1", "/").replace("~0", "~")
        value = value[int(name)] if isinstance(value, list) else value[name]
    return value


def plain(manifest: Manifest) -> Any:
    """Return a manifest as plain JSON values."""
    return json.loads(manifest.to_json())


def calculate(formula: str, values: Sequence[float]) -> float:
    """Calculate a formula as `Traced.formula` writes it, with its x1, x2, … given in order."""
    tokens = re.findall(r"x\d+|[()]|(?<=\s)[-+*/](?=\s)|-?[\d.]+(?:e[-+]?\d+)?", formula)

    def operand(position: int) -> tuple[float, int]:
        if tokens[position] == "(":
            value, position = binary(position + 1)
            return value, position + 1
        token = tokens[position]
        return (values[int(token[1:]) - 1] if token.startswith("x") else float(token)), position + 1

    def binary(position: int) -> tuple[float, int]:
        one, position = operand(position)
        if position == len(tokens) or tokens[position] == ")":
            return one, position
        other, after = operand(position + 1)
        return SIGNS[tokens[position]](one, other), after

    return binary(0)[0]


def _combined(sign: str, one: float, other: float) -> Traced:
    left, right = float(one), float(other)
    return Traced(SIGNS[sign](left, right), (sign, _expression(one), _expression(other)))


def _expression(number: float) -> Expression:
    return number.expression if isinstance(number, Traced) else float(number)


def _places(expression: Expression) -> list[Place]:
    if isinstance(expression, Place):
        return [expression]
    return [place for part in expression[1:] for place in _places(part)] if isinstance(expression, tuple) else []


def _written(expression: Expression, names: Mapping[Place, str]) -> str:
    if isinstance(expression, Place):
        return names[expression]
    if not isinstance(expression, tuple):
        return repr(expression)
    sign, *parts = expression
    one, other = (
        f"({_written(part, names)})" if isinstance(part, tuple) else _written(part, names)
        for part in (parts[0], parts[1])  # every compound in parentheses: no rule of precedence is needed to read it
    )
    return f"{one} {sign} {other}"


def _parsed(path: Path) -> Any:
    text = path.read_text("utf-8")
    return yaml.safe_load(text) if path.suffix in (".yaml", ".yml") else json.loads(text)


def _leaf(value: Any, place: Place) -> Any:
    if isinstance(value, str):
        return TracedText(value, place)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Traced(value, place) if math.isfinite(value) else None
    return value


def _at(place: Place, key: str) -> Place:
    return Place(asset=place.asset, partition=place.partition, file=place.file, key=key)


def _step(name: str) -> str:
    """Write one step of a JSON pointer; what is no plain character is percent-encoded, so that a key has no blanks."""
    return quote(name.replace("~", "~0").replace("/", "~1"), safe="~")
