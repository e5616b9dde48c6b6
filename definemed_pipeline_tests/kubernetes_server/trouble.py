"""Trouble between a client and the API server: errors, refusals, delays and connections that break."""

import threading
from dataclasses import dataclass

from definemed_pipeline_tests.kubernetes_server.refusals import Refusal

VERBS = ("get", "list", "watch", "create", "patch", "delete", "deletecollection")


@dataclass
class Fault:
    """What happens to the next requests of a kind: an error, or (no `status`) a broken connection, `is_late` if after the deed."""

    times: int
    verb: str | None
    path_contains: str | None
    status: int | None = None
    retry_after: int | None = None
    is_late: bool = False

    def __post_init__(self) -> None:
        if self.verb not in (None, *VERBS):
            raise ValueError(f"{self.verb} is no verb of Kubernetes; use one of {', '.join(VERBS)}")

    def concerns(self, verb: str, path: str) -> bool:
        return self.times > 0 and self.verb in (None, verb) and (self.path_contains or "") in path


class Trouble:
    """What is wrong with the server as its clients see it."""

    def __init__(self, token: str, closing: threading.Event) -> None:
        self.token, self.closing = token, closing
        self.seconds = 0.0
        self.faults: list[Fault] = []
        self._lock = threading.Lock()

    def meet(self, verb: str, path: str, authorization: str) -> bool:
        """Let a request have its trouble; return whether its answer arrives.

        Raise Refusal or ConnectionAbortedError where it is not to be carried out.
        """
        self.closing.wait(self.seconds)
        if authorization != f"Bearer {self.token}":
            raise Refusal(401, "Unauthorized")
        fault = self._next(verb, path)
        if fault is None or fault.is_late:
            return fault is None
        if fault.status is None:
            raise ConnectionAbortedError
        raise Refusal(fault.status, f"this is trouble that a test asked for ({fault.status})", retry_after=fault.retry_after)

    def _next(self, verb: str, path: str) -> Fault | None:
        with self._lock:
            fault = next((one for one in self.faults if one.concerns(verb, path)), None)
            if fault is not None:
                fault.times -= 1
            return fault
