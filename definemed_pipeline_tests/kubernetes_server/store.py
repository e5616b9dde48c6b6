"""Where objects are kept: by kind, namespace and name, with one increasing resourceVersion and a bounded history for watches.

A stored object is never changed in place but replaced, so what was read stays as it was and may be used without the lock.
"""

import copy
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from definemed_pipeline_tests.kubernetes_server.refusals import Refusal, not_found, qualified, too_old

Object = dict[str, Any]
LONGEST_HISTORY = 1000


@dataclass(frozen=True)
class Kind:
    """A resource that is served."""

    name: str
    api_version: str


KINDS = {
    "jobs": Kind("Job", "batch/v1"),
    "pods": Kind("Pod", "v1"),
    "services": Kind("Service", "v1"),
    "events": Kind("Event", "v1"),
}


class Clock:
    """The cluster's clock, of which all timestamps and deadlines come; it may go wrong."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> float:
        return time.time() + self.ahead

    def stamp(self, seconds_from_now: float = 0) -> str:
        return datetime.fromtimestamp(self.now() + seconds_from_now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def fine_stamp(self) -> str:
        """Return the time with nanoseconds, as container runtimes write it into logs."""
        nanoseconds = time.time_ns() + int(self.ahead * 1e9)
        return datetime.fromtimestamp(nanoseconds // 10**9, UTC).strftime(f"%Y-%m-%dT%H:%M:%S.{nanoseconds % 10**9:09d}Z")


def seconds_of(stamp: str) -> float:
    """Return a timestamp as seconds since the epoch."""
    return datetime.fromisoformat(stamp).timestamp()


@dataclass(frozen=True)
class Change:
    """What happened to an object: `after` is None where it was removed, `before` where it was created."""

    version: int
    before: Object | None
    after: Object | None


class Store:
    """All objects of the cluster. Hold `changed` for more than one step; it is notified of every change."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.changed = threading.Condition(threading.RLock())
        self.version = 1
        self.changes = 0  # of the objects or of anything else a waiting controller should look at
        self._objects: dict[str, dict[tuple[str, str], Object]] = {plural: {} for plural in KINDS}
        self._history: dict[str, deque[Change]] = {plural: deque(maxlen=LONGEST_HISTORY) for plural in KINDS}
        self._oldest = dict.fromkeys(KINDS, 0)

    def get(self, plural: str, namespace: str, name: str) -> Object:
        """Return an object. Raise Refusal where there is none."""
        with self.changed:
            found = self.find(plural, namespace, name)
        if found is None:
            raise not_found(plural, name)
        return found

    def find(self, plural: str, namespace: str, name: str) -> Object | None:
        return self._objects[plural].get((namespace, name))

    def all(self, plural: str, namespace: str | None = None) -> list[Object]:
        """Return all objects of a kind, in one namespace or in every."""
        with self.changed:
            return [one for (place, _), one in self._objects[plural].items() if namespace in (None, place)]

    def add(self, plural: str, made: Object) -> Object:
        """Keep a new object, with all that the server itself gives it. Raise Refusal where the name is taken."""
        with self.changed:
            metadata = made["metadata"]
            key = (metadata["namespace"], metadata["name"])
            if key in self._objects[plural]:
                message = f'{qualified(plural)} "{metadata["name"]}" already exists'
                raise Refusal(409, message, reason="AlreadyExists")
            given = {"uid": metadata.get("uid") or str(uuid.uuid4()), "creationTimestamp": self.clock.stamp()}
            if plural == "jobs":
                given["generation"] = 1
            return self._keep(plural, key, None, {**made, "metadata": {**metadata, **given}})

    def update(self, plural: str, of: Object, change: Callable[[Object], None]) -> Object | None:
        """Let `change` change a copy of an object as it is now; return it, or None where it is gone, or goes with this change.

        An object that is being deleted goes when nothing holds it any more: no finalizer, and (pods) no process.
        """
        with self.changed:
            key = (of["metadata"]["namespace"], of["metadata"]["name"])
            before = self._objects[plural].get(key)
            if before is None or before["metadata"]["uid"] != of["metadata"]["uid"]:
                return None
            after = copy.deepcopy(before)
            change(after)
            metadata = after["metadata"]
            if (
                metadata.get("deletionTimestamp")
                and not metadata.get("finalizers")
                and not metadata["deletionGracePeriodSeconds"]
            ):
                self._remove(plural, key, after)
                return None
            if after == before:
                return before
            if "generation" in metadata and after["spec"] != before["spec"]:
                metadata["generation"] += 1
            return self._keep(plural, key, before, after)

    def remove(self, plural: str, of: Object) -> None:
        with self.changed:
            key = (of["metadata"]["namespace"], of["metadata"]["name"])
            if key in self._objects[plural]:
                self._remove(plural, key, copy.deepcopy(self._objects[plural][key]))

    def since(self, plural: str, version: int) -> list[Change]:
        """Return what happened after a version. Raise Refusal (410) where that is forgotten."""
        with self.changed:
            if version < self._oldest[plural]:
                raise too_old(version, self._oldest[plural])
            return [change for change in self._history[plural] if change.version > version]

    def forget_history(self) -> None:
        """Make every version that anyone knows too old, as a compaction of etcd does."""
        with self.changed:
            self.version += 1
            for plural, history in self._history.items():
                history.clear()
                self._oldest[plural] = self.version
            self.ring()

    def ring(self) -> None:
        """Wake whoever waits for a change."""
        with self.changed:
            self.changes += 1
            self.changed.notify_all()

    def _keep(self, plural: str, key: tuple[str, str], before: Object | None, after: Object) -> Object:
        self.version += 1
        after["metadata"]["resourceVersion"] = str(self.version)
        self._objects[plural][key] = after
        self._remember(plural, before, after)
        return after

    def _remove(self, plural: str, key: tuple[str, str], last: Object) -> None:
        self.version += 1
        last["metadata"]["resourceVersion"] = str(self.version)
        del self._objects[plural][key]
        self._remember(plural, last, None)

    def _remember(self, plural: str, before: Object | None, after: Object | None) -> None:
        history = self._history[plural]
        if len(history) == LONGEST_HISTORY:
            self._oldest[plural] = history[0].version
        history.append(Change(self.version, before, after))
        self.ring()
