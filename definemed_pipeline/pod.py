"""A payload's side of the channel to Dagster where it runs in a pod: through the lake, since a pod's logs vanish with the pod.

    <lake>/.payloads/<channel>/context.json                  what Dagster tells: the spec in its extras
    <lake>/.payloads/<channel>/<start>-<pod>/messages/…      Pipes messages, of the first node only
    <lake>/.payloads/<channel>/<start>-<pod>/log/…           standard output and error, beside the real ones

A pod's command is `python -m definemed_pipeline.pod MODULE`. It starts the payload as its child, so that the last words of one that crashes are kept,
and passes on signals and the exit status. A Job has one channel, its pods share it; the launcher's side is `compute/kubernetes/channel.py`. Needs
dagster-pipes, fsspec and the standard library only.
"""

import codecs
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dagster_pipes import (
    PipesContext,
    PipesContextLoader,
    PipesEnvVarParamsLoader,
    PipesMessage,
    PipesMessageWriter,
    PipesMessageWriterChannel,
    PipesParams,
    open_dagster_pipes,
)

from definemed_pipeline.artifacts.chunks import ChunkWriter
from definemed_pipeline.artifacts.store import Store

PAYLOADS = ".payloads"
CONTEXT = "context.json"
POD = "DEFINEMED_POD"  # this pod's name; set where a payload runs in one
NODES = "DEFINEMED_NODES"  # how many nodes work together
NODE = "DEFINEMED_NODE"  # which of them this is; 0 builds and publishes, the others help
MEETING_POINT = "DEFINEMED_MEETING_POINT"  # host and port on node 0 where their processes find each other
WRITER = "DEFINEMED_WRITER"  # by which name this pod writes into its channel
SECONDS_FOR_THE_REST = 5.0


def runs_in_a_pod() -> bool:
    """Tell whether this payload was started as a Job."""
    return POD in os.environ


def leads() -> bool:
    """Tell whether this payload is the one that publishes: it is alone, or the first of its nodes."""
    return int(os.environ.get(NODE) or 0) == 0


def open_channel() -> PipesContext:
    """Open the payload's channel to Dagster; a context manager, which closes it."""
    return open_dagster_pipes(context_loader=_LakeContextLoader(), message_writer=_LakeMessageWriter())


def main() -> None:
    """Run a payload to its end, and keep what it prints."""
    params = PipesEnvVarParamsLoader().load_messages_params()
    os.environ[WRITER] = f"{int(time.time())}-{os.environ[POD]}"  # names sort by it, so that a pod is read before its replacement
    payload = subprocess.Popen(
        [sys.executable, "-m", sys.argv[1]],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: payload.send_signal(number))
    with ChunkWriter(Store(params["lake"]), _folder(params, "log")) as log:
        copier = threading.Thread(target=_copy, args=(payload, log), daemon=True)
        copier.start()
        status = payload.wait()
        copier.join(SECONDS_FOR_THE_REST)  # a child that outlives the payload may hold the other end
    sys.exit(status if status >= 0 else 128 - status)


def _folder(params: PipesParams, kind: str) -> str:
    return f"{PAYLOADS}/{params['channel']}/{os.environ[WRITER]}/{kind}"


def _copy(payload: "subprocess.Popen[bytes]", log: ChunkWriter) -> None:
    """Copy what a payload and its children print, in whatever language they are written, to the lake and to where a pod's log comes from."""
    assert payload.stdout is not None
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    while data := os.read(payload.stdout.fileno(), 1 << 16):
        os.write(1, data)
        log.write(decoder.decode(data))


class _LakeContextLoader(PipesContextLoader):
    @contextmanager
    def load_context(self, params: PipesParams) -> Iterator[Any]:
        store = Store(params["lake"])
        path = store.path(PAYLOADS, params["channel"], CONTEXT)
        text = store.read(path)
        if text is None:
            raise FileNotFoundError(f"{path} is not in the lake {store.url} as this pod sees it")
        yield json.loads(text)


class _LakeMessageWriter(PipesMessageWriter["_LakeMessageChannel"]):
    @contextmanager
    def open(self, params: PipesParams) -> Iterator["_LakeMessageChannel"]:
        if not leads():
            yield _LakeMessageChannel(None)
            return
        with ChunkWriter(Store(params["lake"]), _folder(params, "messages")) as chunks:
            yield _LakeMessageChannel(chunks)


class _LakeMessageChannel(PipesMessageWriterChannel):
    def __init__(self, chunks: ChunkWriter | None) -> None:
        self.chunks = chunks

    def write_message(self, message: PipesMessage) -> None:
        if self.chunks is not None:
            self.chunks.write(json.dumps(message) + "\n")


if __name__ == "__main__":
    main()
