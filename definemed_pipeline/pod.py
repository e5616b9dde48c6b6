"""A payload's side of the channel to Dagster where it runs in a pod: through the lake, since a pod's logs vanish with the pod.

    <lake>/.payloads/<channel>/context.json          what Dagster tells: the spec in its extras
    <lake>/.payloads/<channel>/<start>-<pod>/messages/…      Pipes messages, of the first node only
    <lake>/.payloads/<channel>/<start>-<pod>/log/…           standard output and error, beside the real ones

A Job has one channel, its pods share it. The launcher's side is `compute/kubernetes/channel.py`. Needs dagster-pipes, fsspec and the standard library only.
"""

import codecs
import json
import os
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
SECONDS_FOR_THE_REST = 5.0


def runs_in_a_pod() -> bool:
    """Tell whether this payload was started as a Job."""
    return POD in os.environ


def leads() -> bool:
    """Tell whether this payload is the one that publishes: it is alone, or the first of its nodes."""
    return int(os.environ.get(NODE) or 0) == 0


@contextmanager
def open_channel() -> Iterator[PipesContext]:
    """Open the channel to Dagster for as long as the payload runs; what it prints is kept in the lake too."""
    params = PipesEnvVarParamsLoader().load_messages_params()
    begun = int(time.time())  # names sort by it, so that the messages of a pod and its replacement are read in order
    store, folder = Store(params["lake"]), f"{PAYLOADS}/{params['channel']}/{begun}-{os.environ[POD]}"
    with (
        ChunkWriter(store, f"{folder}/log") as log,
        _output_copied_to(log),
        open_dagster_pipes(context_loader=_LakeContextLoader(), message_writer=_LakeMessageWriter(folder)) as pipes,
    ):
        yield pipes


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
    def __init__(self, folder: str) -> None:
        self.folder = folder

    @contextmanager
    def open(self, params: PipesParams) -> Iterator["_LakeMessageChannel"]:
        if not leads():
            yield _LakeMessageChannel(None)
            return
        with ChunkWriter(Store(params["lake"]), f"{self.folder}/messages") as chunks:
            yield _LakeMessageChannel(chunks)


class _LakeMessageChannel(PipesMessageWriterChannel):
    def __init__(self, chunks: ChunkWriter | None) -> None:
        self.chunks = chunks

    def write_message(self, message: PipesMessage) -> None:
        if self.chunks is not None:
            self.chunks.write(json.dumps(message) + "\n")


@contextmanager
def _output_copied_to(chunks: ChunkWriter) -> Iterator[None]:
    """Copy what this process and its children print, in whatever language they are written, to the lake and on to where it went before."""
    out, error = os.dup(1), os.dup(2)
    read_end, write_end = os.pipe()
    os.dup2(write_end, 1)
    os.dup2(write_end, 2)
    os.close(write_end)
    copier = threading.Thread(target=_copy, args=(read_end, out, chunks), daemon=True)
    copier.start()
    try:
        yield
    finally:
        os.dup2(out, 1)
        os.dup2(error, 2)
        copier.join(SECONDS_FOR_THE_REST)  # a child that outlives the payload may hold the other end


def _copy(read_end: int, out: int, chunks: ChunkWriter) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    while data := os.read(read_end, 1 << 16):
        os.write(out, data)
        chunks.write(decoder.decode(data))
