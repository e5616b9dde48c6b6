"""Patches of objects: JSON merge patch (RFC 7386), and strategic merge patch as far as metadata, status and `suspend` need it."""

from collections.abc import Mapping
from typing import Any

from definemed_pipeline_tests.kubernetes_server.refusals import Refusal

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
MERGE_KEYS = {"ownerReferences": "uid", "conditions": "type", "containers": "name", "volumes": "name", "env": "name"}
SETS = {"finalizers"}


def patched(content_type: str, before: Any, patch: Any) -> Any:
    """Return an object with a patch applied. Raise Refusal (415) for a kind of patch that is not served."""
    if content_type == MERGE:
        return _merged(before, patch)
    if content_type == STRATEGIC:
        return _strategically_merged(before, patch)
    raise Refusal(415, f"the body of the request was in an unknown format - accepted media types include: {MERGE}, {STRATEGIC}")


def _merged(before: Any, patch: Any) -> Any:
    if not isinstance(patch, Mapping):
        return patch
    after = dict(before) if isinstance(before, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            after.pop(key, None)
        else:
            after[key] = _merged(after.get(key), value)
    return after


def _strategically_merged(before: Any, patch: Any, name: str = "") -> Any:
    """Merge mappings key by key, lists by their key or as sets where the API says so, and replace the rest."""
    if isinstance(patch, Mapping):
        return _merged_mapping(before if isinstance(before, Mapping) else {}, patch)
    if isinstance(patch, list) and name in MERGE_KEYS:
        return _merged_list(before or [], patch, MERGE_KEYS[name])
    if isinstance(patch, list) and name in SETS:
        return [*(before or []), *(one for one in patch if one not in (before or []))]
    return patch


def _merged_mapping(before: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    after = dict(before)
    for key, value in patch.items():
        if key.startswith("$deleteFromPrimitiveList/"):
            field = key.partition("/")[2]
            after[field] = [one for one in after.get(field, []) if one not in value]
        elif key.startswith("$"):
            raise Refusal(501, f"this server has no strategic merge directive {key}")
        elif value is None:
            after.pop(key, None)
        else:
            after[key] = _strategically_merged(after.get(key), value, key)
    return after


def _merged_list(before: list[Any], patch: list[Any], key: str) -> list[Any]:
    over = {one[key]: one for one in patch}
    merged = [
        _strategically_merged(one, over.pop(one[key])) if one[key] in over and "$patch" not in over[one[key]] else one
        for one in before
    ]
    deleted = {name for name, one in over.items() if one.get("$patch") == "delete"}
    return [one for one in merged if one[key] not in deleted] + [one for name, one in over.items() if name not in deleted]
