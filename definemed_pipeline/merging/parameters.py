"""The values a recipe may give the parameters of a merge method: numbers, schedules over the layers, and one of them for each model.

A number holds everywhere. A list is spread evenly over the depth and interpolated between. A list of {filter, value} gives the tensors
whose name contains `filter` their own value; the first that fits counts, and the last has no filter. All three are mergekit's own notation.
Of a parameter that differs between models a mapping from model to value is allowed too.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from definemed_pipeline.merging.methods import METHODS, Parameter


def check_parameters(method: str, values: Mapping[str, Any], models: Sequence[str]) -> None:
    """Raise ValueError where values do not fit a method that merges `models`, of which the first is the base."""
    known = METHODS[method].parameters
    if unknown := sorted(values.keys() - known.keys()):
        raise ValueError(
            f"parameters holds {unknown[0]!r}, which {method} does not take; allowed: {', '.join(sorted(known)) or 'none'}"
            " (a recipe that extends another takes a parameter out with null)"
        )
    for name, parameter in known.items():
        if parameter.is_required and name not in values:
            raise ValueError(f"parameters lacks {name!r}, which {method} needs")
    for name, value in values.items():
        _check_value(f"parameters.{name}", value, known[name], models)
    _check_models(method, values, models)


def base_is_merged(method: str, values: Mapping[str, Any], base: str) -> bool:
    """Say whether the base is one of the models that are merged, and not the point their changes are measured from."""
    role = METHODS[method].base
    weight = values.get("weight")
    return role == "merged" or (role == "either" and isinstance(weight, Mapping) and base in weight)


def filters_of(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield every part of a tensor's name that a schedule asks for."""
    for value in values.values():
        for schedule in value.values() if isinstance(value, Mapping) else [value]:
            for entry in schedule if isinstance(schedule, list | tuple) else []:
                if isinstance(entry, Mapping) and "filter" in entry:
                    yield entry["filter"]


def _check_value(key: str, value: Any, parameter: Parameter, models: Sequence[str]) -> None:
    if not isinstance(value, Mapping):
        return _check_schedule(key, value, parameter)
    if not parameter.per_model:
        raise ValueError(f"{key} differs by model, but is one for the whole merge; give a single value")
    if unknown := sorted(value.keys() - set(models)):
        raise ValueError(f"{key} names the model {unknown[0]!r}; allowed: {', '.join(models)}")
    for model, schedule in value.items():
        _check_schedule(f"{key}.{model}", schedule, parameter)
    return None


def _check_schedule(key: str, value: Any, parameter: Parameter) -> None:
    if parameter.kind is not float or not isinstance(value, list | tuple):
        return _check_scalar(key, value, parameter)
    if not value:
        raise ValueError(f"{key} is an empty list; allowed: a number, a list of numbers or a list of {{filter, value}}")
    if not any(isinstance(entry, Mapping) for entry in value):
        for number in value:
            _check_scalar(key, number, parameter)
        return None
    for position, entry in enumerate(value, start=1):
        is_last = position == len(value)
        expected = {"value"} if is_last else {"filter", "value"}
        if not isinstance(entry, Mapping) or entry.keys() != expected:
            raise ValueError(
                f"{key} holds {entry!r}; allowed: a list of {{filter, value}}, of which the last has no filter and stands for all other tensors"
            )
        if not is_last and not (isinstance(entry["filter"], str) and entry["filter"]):
            raise ValueError(f"{key} holds the filter {entry['filter']!r}; allowed: a part of a tensor's name, such as self_attn")
        for number in entry["value"] if isinstance(entry["value"], list | tuple) and entry["value"] else [entry["value"]]:
            _check_scalar(key, number, parameter)
    return None


def _check_scalar(key: str, value: Any, parameter: Parameter) -> None:
    kinds = (int, float) if parameter.kind is float else (parameter.kind,)
    fits = isinstance(value, kinds) and isinstance(value, bool) == (parameter.kind is bool)
    least, most = parameter.least, parameter.most
    inside = fits and (least is None or value >= least) and (most is None or value <= most)
    if not inside:
        words = {float: "a number", int: "a whole number", bool: "true or false"}[parameter.kind]
        limits = [f"{name} {limit:g}" for name, limit in (("at least", least), ("at most", most)) if limit is not None]
        raise ValueError(f"{key} is {value!r}; allowed: {words}{' of ' if limits else ''}{' and '.join(limits)}")


def _check_models(method: str, values: Mapping[str, Any], models: Sequence[str]) -> None:
    chosen, base = METHODS[method], models[0]
    merged = base_is_merged(method, values, base)
    weighted = models if merged else models[1:]
    for name, parameter in chosen.parameters.items():
        value = values.get(name)
        if isinstance(value, Mapping):
            if parameter.is_required and (missing := [model for model in weighted if model not in value]):
                raise ValueError(f"parameters.{name} lacks the model {missing[0]!r}; allowed: one value, or one for each model")
            if not merged and base in value:
                raise ValueError(f"parameters.{name} names {base!r}, from which {method} measures the others; take it out")
    origin = int(chosen.base == "either" and not merged)
    least, most = chosen.least + origin, chosen.most and chosen.most + origin
    if len(models) < least or (most is not None and len(models) > most):
        allowed = f"{least} or more" if most is None else f"{least}" if least == most else f"{least} to {most}"
        hint = f"; or give {base!r} a weight, so that it is merged itself" if origin else ""
        raise ValueError(
            f"{method} merges {allowed} models, and there are {', '.join(models)}; change `others` or the method{hint}"
        )
