"""How objects go away: what a DELETE does at once, and the controllers that finish it (garbage collector, PodGC, time to live)."""

import math
from collections.abc import Callable

from definemed_pipeline_tests.kubernetes_server.conditions import mark_disrupted
from definemed_pipeline_tests.kubernetes_server.job_status import finish_time
from definemed_pipeline_tests.kubernetes_server.store import KINDS, Clock, Object, Store, seconds_of

FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"
ENDED = ("Succeeded", "Failed")
SERVED_OWNERS = {kind.name for kind in KINDS.values()}


def delete(store: Store, plural: str, one: Object, *, policy: str | None = None, grace: int | None = None) -> Object | None:
    """Delete an object as the API does; return it as it still is, or None where it is gone.

    `policy` is what becomes of the objects it owns (without: what was decided before, else Background). A pod that has a node is
    given time to end by itself (`grace`, in seconds); anything else goes as soon as no finalizer holds it.
    """
    with store.changed:
        grace = _grace(one, grace) if plural == "pods" else 0
        finalizer = {"Foreground": FOREGROUND, "Orphan": ORPHAN}.get(policy or "")

        def mark(after: Object) -> None:
            metadata = after["metadata"]
            if metadata.get("deletionGracePeriodSeconds", math.inf) > grace:
                metadata["deletionTimestamp"] = store.clock.stamp(grace)
                metadata["deletionGracePeriodSeconds"] = grace
            if policy is not None:
                kept = [one for one in metadata.get("finalizers", []) if one not in (FOREGROUND, ORPHAN)]
                metadata["finalizers"] = [*kept, finalizer] if finalizer else kept

        return store.update(plural, one, mark)


def _grace(pod: Object, asked: int | None) -> int:
    """Return how long a pod may take: nobody has to be waited for where it has no node, or has ended."""
    if not pod["spec"].get("nodeName") or pod["status"]["phase"] in ENDED:
        return 0
    own: int = pod["spec"]["terminationGracePeriodSeconds"]
    return own if asked is None else asked


def without_finalizer(name: str) -> Callable[[Object], None]:
    """Return the change that takes a finalizer from an object."""

    def change(after: Object) -> None:
        after["metadata"]["finalizers"] = [one for one in after["metadata"].get("finalizers", []) if one != name]

    return change


class GarbageCollector:
    """Deletes what lost its owners, and keeps an owner that goes in the foreground until those that block it are gone."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def reconcile(self) -> float:
        everything = [(plural, one) for plural in KINDS if plural != "events" for one in self.store.all(plural)]
        living = {one["metadata"]["uid"]: one for _, one in everything}
        for plural, one in everything:
            self._collect(plural, one, living)
        for plural, one in everything:
            finalizers = one["metadata"].get("finalizers", [])
            if ORPHAN in finalizers:
                self._release_dependents(one)
                self.store.update(plural, one, without_finalizer(ORPHAN))
            elif FOREGROUND in finalizers and not any(_blocks(one, other) for _, other in self._dependents(one)):
                self.store.update(plural, one, without_finalizer(FOREGROUND))
        return math.inf

    def _collect(self, plural: str, one: Object, living: dict[str, Object]) -> None:
        """Delete an object none of whose owners is there to stay; take gone owners from one that has others."""
        owners = one["metadata"].get("ownerReferences", [])
        if not owners or one["metadata"].get("deletionTimestamp"):
            return
        absent = [ref for ref in owners if ref["uid"] not in living and ref["kind"] in SERVED_OWNERS]
        leaving = [ref for ref in owners if FOREGROUND in living.get(ref["uid"], {}).get("metadata", {}).get("finalizers", [])]
        if len(absent) + len(leaving) == len(owners):
            delete(self.store, plural, one)
        elif absent:
            self.store.update(plural, one, lambda after: _drop_owners(after, {ref["uid"] for ref in absent}))

    def _dependents(self, owner: Object) -> list[tuple[str, Object]]:
        return [
            (plural, one)
            for plural in KINDS
            for one in self.store.all(plural, owner["metadata"]["namespace"])
            if any(ref["uid"] == owner["metadata"]["uid"] for ref in one["metadata"].get("ownerReferences", []))
        ]

    def _release_dependents(self, owner: Object) -> None:
        for plural, one in self._dependents(owner):
            self.store.update(plural, one, lambda after: _drop_owners(after, {owner["metadata"]["uid"]}))


def _blocks(owner: Object, dependent: Object) -> bool:
    return any(
        ref["uid"] == owner["metadata"]["uid"] and ref.get("blockOwnerDeletion")
        for ref in dependent["metadata"].get("ownerReferences", [])
    )


def _drop_owners(after: Object, uids: set[str]) -> None:
    metadata = after["metadata"]
    metadata["ownerReferences"] = [ref for ref in metadata.get("ownerReferences", []) if ref["uid"] not in uids]
    if not metadata["ownerReferences"]:
        del metadata["ownerReferences"]


class PodGarbageCollector:
    """Ends pods that no kubelet will: those deleted before they had a node."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def reconcile(self) -> float:
        for pod in self.store.all("pods"):
            if pod["metadata"].get("deletionTimestamp") and not pod["spec"].get("nodeName"):
                self.fail_and_delete(pod)
        return math.inf

    def fail_and_delete(self, pod: Object, *, is_node_gone: bool = False) -> None:
        """Declare a pod failed and delete it by force, as PodGC does where there is no kubelet to ask."""

        def fail(after: Object) -> None:
            if after["status"]["phase"] in ENDED:
                return
            after["status"]["phase"] = "Failed"
            if is_node_gone:
                mark_disrupted(after, self.store.clock.stamp(), "DeletionByPodGC", "PodGC: node no longer exists")

        if (failed := self.store.update("pods", pod, fail)) is not None:
            delete(self.store, "pods", failed, grace=0)


class TimeToLive:
    """Deletes finished Jobs, in the foreground, after ttlSecondsAfterFinished."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store, self.clock = store, clock

    def reconcile(self) -> float:
        due = math.inf
        for job in self.store.all("jobs"):
            finished, ttl = finish_time(job), job["spec"].get("ttlSecondsAfterFinished")
            if finished is None or ttl is None or job["metadata"].get("deletionTimestamp"):
                continue
            left = seconds_of(finished) + ttl - self.clock.now()
            if left > 0:
                due = min(due, left)
            else:
                delete(self.store, "jobs", job, policy="Foreground")
        return due
