"""Watches: what happened to the selected objects since a version, as it happens."""

import time
from collections.abc import Callable, Iterator
from typing import Any

from definemed_pipeline_tests.kubernetes_server.refusals import Refusal
from definemed_pipeline_tests.kubernetes_server.selection import Matcher
from definemed_pipeline_tests.kubernetes_server.store import KINDS, Change, Object, Store

SECONDS_BETWEEN_LOOKS = 0.2  # for a client that has hung up
Event = dict[str, Any]


def watch(
    store: Store,
    plural: str,
    namespace: str | None,
    is_selected: Matcher,
    *,
    version: str,
    seconds: float,
    bookmarks: bool,
    is_cut: Callable[[], bool],
) -> Iterator[Event]:
    """Yield events from a version on (from what is there now, if none is named) for so many seconds, or until the client is gone.

    A version that is forgotten ends the watch with an event of type ERROR, as it does at the real server.
    """
    end = time.monotonic() + seconds

    def concerns(one: Object | None) -> bool:
        return one is not None and namespace in (None, one["metadata"]["namespace"]) and is_selected(one)

    with store.changed:
        seen, present = int(version or 0), []
        if seen == 0:
            seen, present = store.version, [one for one in store.all(plural, namespace) if is_selected(one)]
    yield from ({"type": "ADDED", "object": one} for one in present)
    while not is_cut() and (left := end - time.monotonic()) > 0:
        with store.changed:
            try:
                changes = store.since(plural, seen)
            except Refusal as refusal:
                yield {"type": "ERROR", "object": refusal.status}
                return
            if not changes:
                seen = store.version
                store.changed.wait(min(left, SECONDS_BETWEEN_LOOKS))
        for change in changes:
            seen = change.version
            yield from _events(change, concerns)
    if bookmarks and not is_cut():
        kind = KINDS[plural]
        metadata = {"resourceVersion": str(seen), "creationTimestamp": None}
        yield {"type": "BOOKMARK", "object": {"kind": kind.name, "apiVersion": kind.api_version, "metadata": metadata}}


def _events(change: Change, concerns: Callable[[Object | None], bool]) -> Iterator[Event]:
    """Yield what a change is to someone who sees the selected objects only."""
    was, after = concerns(change.before), change.after
    if after is not None and concerns(after):
        yield {"type": "MODIFIED" if was else "ADDED", "object": after}
    elif was and change.before is not None:
        last = after or change.before
        yield {"type": "DELETED", "object": last}
