"""Label and field selectors, as lists and watches take them."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from definemed_pipeline_tests.kubernetes_server.refusals import Refusal
from definemed_pipeline_tests.kubernetes_server.store import Object

Matcher = Callable[[Object], bool]
FIELDS = {
    "jobs": {"metadata.name", "metadata.namespace"},
    "services": {"metadata.name", "metadata.namespace"},
    "pods": {"metadata.name", "metadata.namespace", "spec.nodeName", "spec.restartPolicy", "status.phase"},
    "events": {
        "metadata.name",
        "metadata.namespace",
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "reason",
        "type",
    },
}
SET = re.compile(r"(?P<key>\S+)\s+(?P<operator>in|notin)\s*\((?P<values>[^()]*)\)")
EQUALITY = re.compile(r"(?P<key>[^\s!=,]+)\s*(?P<operator>==|=|!=)\s*(?P<value>[^\s!=,]*)")
EXISTENCE = re.compile(r"(?P<not>!?)\s*(?P<key>[^\s!=,()]+)")


def matcher(plural: str, labels: str, fields: str) -> Matcher:
    """Return what tells whether an object is selected. Raise Refusal (400) for a selector that means nothing."""
    by_label = [_label_requirement(one) for one in _split(labels)]
    by_field = [_field_requirement(plural, one) for one in _split(fields)]
    return lambda one: (
        all(is_met(one["metadata"].get("labels", {})) for is_met in by_label) and all(is_met(one) for is_met in by_field)
    )


def _split(selector: str) -> list[str]:
    """Split at the commas that do not stand between parentheses."""
    return [part.strip() for part in re.split(r",(?![^(]*\))", selector) if part.strip()]


def _label_requirement(text: str) -> Callable[[Mapping[str, str]], bool]:
    if found := SET.fullmatch(text):
        key, values = found["key"], {value.strip() for value in found["values"].split(",")}
        if found["operator"] == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    if found := EQUALITY.fullmatch(text):
        key, value, is_unequal = found["key"], found["value"], found["operator"] == "!="
        return lambda labels: (labels.get(key) == value) is not is_unequal
    if found := EXISTENCE.fullmatch(text):
        key, is_absent = found["key"], bool(found["not"])
        return lambda labels: (key in labels) is not is_absent
    raise Refusal(400, f"unable to parse requirement: {text}")


def _field_requirement(plural: str, text: str) -> Matcher:
    found = EQUALITY.fullmatch(text)
    if found is None:
        raise Refusal(400, f"invalid selector: {text}; can't understand it")
    key, value, is_unequal = found["key"], found["value"], found["operator"] == "!="
    if key not in FIELDS[plural]:
        raise Refusal(400, f"field label not supported: {key}")
    return lambda one: (_at(one, key) == value) is not is_unequal


def _at(one: Object, path: str) -> Any:
    value: Any = one
    for key in path.split("."):
        value = value.get(key, {}) if isinstance(value, Mapping) else {}
    return value or ""
