"""Events, as the cluster's components tell them: repeated ones are counted and not told again."""

from definemed_pipeline_tests.kubernetes_server.admission import generated_name
from definemed_pipeline_tests.kubernetes_server.store import KINDS, Clock, Object, Store


class Recorder:
    """Writes events about objects."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store, self.clock = store, clock
        self._told: dict[tuple[str, str, str], Object] = {}

    def tell(self, plural: str, about: Object, reason: str, message: str, *, source: str, kind: str = "Normal") -> None:
        """Write an event, or count it where it was told before."""
        metadata, stamp = about["metadata"], self.clock.stamp()
        with self.store.changed:
            if told := self._told.get((metadata["uid"], reason, message)):
                self.store.update("events", told, lambda after: after.update(count=after["count"] + 1, lastTimestamp=stamp))
                return
            self._told[(metadata["uid"], reason, message)] = self.store.add(
                "events",
                {
                    "apiVersion": "v1",
                    "kind": "Event",
                    "metadata": {"namespace": metadata["namespace"], "name": generated_name(f"{metadata['name'][:50]}.")},
                    "involvedObject": {
                        "apiVersion": KINDS[plural].api_version,
                        "kind": KINDS[plural].name,
                        "namespace": metadata["namespace"],
                        "name": metadata["name"],
                        "uid": metadata["uid"],
                        "resourceVersion": metadata["resourceVersion"],
                    },
                    "type": kind,
                    "reason": reason,
                    "message": message,
                    "source": {"component": source},
                    "reportingComponent": source,
                    "reportingInstance": "",
                    "count": 1,
                    "firstTimestamp": stamp,
                    "lastTimestamp": stamp,
                },
            )
