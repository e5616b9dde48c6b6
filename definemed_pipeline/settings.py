"""How a section of the recipe is declared: a frozen dataclass whose fields know their range.

Each work package declares its own settings next to the code that uses them; `recipe.py` composes and validates them. This
module needs the standard library only, because settings also travel into the GPU image, where pydantic is not installed.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from types import UnionType
from typing import Any, Literal, TypeVar, Union, dataclass_transform, get_args, get_origin, get_type_hints

T = TypeVar("T")


def setting(
    default: Any = dataclasses.MISSING,
    *,
    above: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    location: bool = False,
    factory: Callable[[], Any] | None = None,
) -> Any:
    """Declare a field with its allowed range.

    A `location` (path or URL) says where bytes lie and not what they are: it is left out of the section's digest, and the digest of
    the bytes themselves enters the artifact's version as a source instead.
    """
    metadata = {"above": above, "at_least": at_least, "at_most": at_most, "location": location}
    if factory is not None:
        return dataclasses.field(default_factory=factory, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(setting, dataclasses.field))
def settings(cls: type[T]) -> type[T]:
    """Make a class a recipe section: frozen, keyword-only, unknown keys refused, ranges checked on construction."""
    own_check = cls.__dict__.get("__post_init__")

    def check(self: Any) -> None:
        for field in dataclasses.fields(self):
            _check_range(field, getattr(self, field.name))
        _check_choices(self)
        if own_check is not None:
            own_check(self)

    cls.__post_init__ = check  # type: ignore[attr-defined]
    cls.__pydantic_config__ = {"extra": "forbid"}  # type: ignore[attr-defined]
    return dataclasses.dataclass(frozen=True, kw_only=True)(cls)


def as_json(section: Any) -> dict[str, Any]:
    """Return a section as plain JSON values, locations included."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(section)))
    return plain


def from_json(kind: Any, value: Any) -> Any:
    """Build a value of a declared type from plain JSON: sections in sections, tuples, and of several kinds of section the one that `kind` names.

    Raise TypeError or ValueError where a key or value does not fit.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind)
        return kind(**{name: from_json(hints.get(name, Any), one) for name, one in value.items()})  # type: ignore[operator]
    if origin in (Union, UnionType):
        return from_json(_member(arguments, value), value)
    if origin is dict:
        return {name: from_json(arguments[1], one) for name, one in value.items()}
    if origin in (tuple, list):
        return origin(from_json(arguments[0], one) for one in value)
    return value


def _member(members: tuple[Any, ...], value: Any) -> Any:
    """Return the member of a union that a JSON value is of."""
    if isinstance(value, Mapping):
        sections = [member for member in members if dataclasses.is_dataclass(member)]
        for member in sections:
            if value.get("kind") in get_args(get_type_hints(member).get("kind")):
                return member
        if len(sections) != 1:
            kinds = [name for member in sections for name in get_args(get_type_hints(member).get("kind"))]
            raise ValueError(f"kind is {value.get('kind')!r}; allowed: {', '.join(kinds)}")
        return sections[0]
    if isinstance(value, list):
        return next((member for member in members if get_origin(member) in (tuple, list)), Any)
    return Any


def section_digest(section: Any) -> str:
    """Digest a section without its locations (see `setting`)."""
    return digest_of(_without_locations(section))


def digest_of(value: Any) -> str:
    """Return the SHA-256 of a JSON value in canonical form (sorted keys, no spaces)."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _without_locations(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {
            field.name: _without_locations(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if not field.metadata.get("location")
        }
    if isinstance(value, Mapping):
        return {key: _without_locations(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_locations(item) for item in value]
    return value


def _check_range(field: dataclasses.Field[Any], value: Any) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return
    allowed = {name: field.metadata.get(name) for name in ("above", "at_least", "at_most")}
    above, at_least, at_most = allowed["above"], allowed["at_least"], allowed["at_most"]
    inside = (
        (above is None or value > above) and (at_least is None or value >= at_least) and (at_most is None or value <= at_most)
    )
    if not inside:
        limits = " and ".join(f"{name.replace('_', ' ')} {limit}" for name, limit in allowed.items() if limit is not None)
        raise ValueError(f"{field.name} is {value}; allowed: {limits}")


def _check_choices(section: Any) -> None:
    for name, hint in get_type_hints(type(section)).items():
        if get_origin(hint) is Literal and getattr(section, name) not in get_args(hint):
            allowed = ", ".join(map(str, get_args(hint)))
            raise ValueError(f"{name} is {getattr(section, name)!r}; allowed: {allowed}")
