"""A payload whose end the test chooses: it says that it has begun, takes a step, waits to be let go, and ends as its settings say.

Its checkpoint is a file of steps, so that a replaced pod can be seen going on where the first left off.
"""

import os
import signal
import socket
import sys
import time
from pathlib import Path

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.artifacts.chunks import ChunkWriter
from definemed_pipeline.errors import StoppedError, UserError
from definemed_pipeline.payload import run_payload
from definemed_pipeline.pod import MEETING_POINT, NODES, leads
from definemed_pipeline.settings import settings

MODULE = "definemed_pipeline_tests.compute.kubernetes.steps"


@settings
class Steps:
    """`gate` is a folder: the payload writes what it does there, and goes on once the test puts a file `go` into it."""

    gate: str
    ending: str = "published"


def take_steps(draft: Draft[Steps]) -> None:
    gate, steps = Path(draft.settings.gate), draft.checkpoints / "steps"
    with steps.open("a") as file:
        file.write(f"{os.environ['DEFINEMED_POD']}\n")
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    draft.report(f"step {len(steps.read_text().split())} begun")
    print(f"at work for {draft.identity.partition}", flush=True)
    meet_the_other_nodes()
    with (gate / "begun").open("a") as begun:
        begun.write(f"{os.environ['DEFINEMED_POD']}\n")
    while not (gate / "go").exists():
        if stopped:
            raise StoppedError("stopped; the step is saved")
        time.sleep(0.01)
    if draft.settings.ending == "bad input":
        raise UserError("thing.gate is wrong; correct it")
    if draft.settings.ending == "crash":
        print("a library said something before it fell", flush=True)
        os._exit(3)
    draft.write_json("steps.json", {"gate": "passed"})


def meet_the_other_nodes() -> None:
    """Shake hands at the meeting point, as torchrun does: node 0 waits there, the others come."""
    if NODES not in os.environ:
        return
    host, _, port = os.environ[MEETING_POINT].rpartition(":")
    if leads():
        with socket.create_server((host, int(port))) as place:
            for _ in range(int(os.environ[NODES]) - 1):
                place.accept()[0].close()
        return
    while True:
        try:
            socket.create_connection((host, int(port))).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.01)


if __name__ == "__main__":
    ending = os.environ.get("TEST_ENDING")
    if ending == "last message lost":
        ChunkWriter.__exit__ = lambda *_: None  # type: ignore[method-assign, assignment]
    run_payload(Steps, take_steps)
    if ending == "dies when published":
        sys.exit(9)
