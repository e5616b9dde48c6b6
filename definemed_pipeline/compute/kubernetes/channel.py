"""The launcher's side of the channel between a Job and its Dagster run: Pipes through the lake (the pod's side is `definemed_pipeline.pod`).

A run worker that takes over a Job reads its messages from the first one on, since its Dagster step is a new one.
"""

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg
from dagster_pipes import PipesContextData, PipesParams

from definemed_pipeline.artifacts.chunks import ChunkReader
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.pod import CONTEXT, PAYLOADS

SECONDS_BETWEEN_LOOKS = 1.0
LOG = logging.getLogger(__name__)


class LakeContextInjector(dg.PipesContextInjector):
    """Puts what Dagster tells a payload beside its messages, once it is known that a Job will be made for it."""

    def __init__(self, store: Store, channel: str) -> None:
        self.store, self.channel = store, channel
        self._context = ""

    @contextmanager
    def inject_context(self, context_data: PipesContextData) -> Iterator[PipesParams]:
        """Keep the context and yield where it will lie."""
        self._context = json.dumps(context_data)
        yield {"lake": self.store.url, "channel": self.channel}

    def place(self) -> None:
        """Write the context."""
        with self.store.writing():
            self.store.write(self.store.path(PAYLOADS, self.channel, CONTEXT), self._context)

    def remove(self) -> None:
        """Take it back, where another's Job does the work."""
        self.store.filesystem.rm(self.store.path(PAYLOADS, self.channel), recursive=True)

    def no_messages_debug_text(self) -> str:
        """Say where the context was put."""
        return f"The context was written to {self.store.url}/{PAYLOADS}/{self.channel}/{CONTEXT}."


class LakeMessageReader(dg.PipesMessageReader):
    """Hands on the messages of all pods of a Job, in the order of the pods and once each, from when the Job is known.

    A pod that Kubernetes replaces has said its goodbye, or not; for Dagster the session is closed once, when the Job is over.
    """

    def __init__(self, store: Store, channel: str) -> None:
        self.store, self.channel = store, channel
        self._chunks: ChunkReader | None = None

    def on_launched(self, launched_payload: dg.PipesLaunchedData) -> None:
        """Begin with the channel of the Job that was made or found."""
        self.channel = launched_payload["extras"]["channel"]
        self._chunks = ChunkReader(self.store, f"{PAYLOADS}/{self.channel}", "messages")

    @contextmanager
    def read_messages(self, handler: dg.PipesMessageHandler) -> Iterator[PipesParams]:
        """Read until the Job is over, and then what is still unread."""
        over = threading.Event()
        session = _Session(handler)
        thread = threading.Thread(target=self._read_repeatedly, args=(session, over), daemon=True)
        thread.start()
        try:
            yield {"lake": self.store.url, "channel": self.channel}
        finally:
            over.set()
            thread.join()
            self._read(session)
            session.close()

    def no_messages_debug_text(self) -> str:
        """Say where messages are looked for."""
        return f"Messages are looked for in {self.store.url}/{PAYLOADS}/{self.channel}."

    def _read_repeatedly(self, session: "_Session", over: threading.Event) -> None:
        while not over.wait(SECONDS_BETWEEN_LOOKS):
            self._read(session)

    def _read(self, session: "_Session") -> None:
        """Take all new messages; a store in trouble is asked again the next time."""
        if self._chunks is None:
            return
        try:
            for _, text in self._chunks.new():
                for line in text.splitlines():
                    session.take(json.loads(line))
        except OSError as error:
            LOG.warning("%s: %s", self.store.url, error)


class _Session:
    """What several pods say, as one writer would have said it."""

    def __init__(self, handler: dg.PipesMessageHandler) -> None:
        self.handler = handler
        self.is_opened = False
        self.goodbye: Any = None

    def take(self, message: Any) -> None:
        method = message["method"]
        if method == "closed":
            self.goodbye = message
        elif method != "opened" or not self.is_opened:
            self.is_opened = self.is_opened or method == "opened"
            self.handler.handle_message(message)

    def close(self) -> None:
        if self.goodbye is not None:
            self.handler.handle_message(self.goodbye)
