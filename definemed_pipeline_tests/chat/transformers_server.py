"""`transformers serve` as a process of its own, over a model that a few seconds of training taught to tell illness from the rest."""

import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.training.settings import PretrainBaseModelSettings
from definemed_pipeline_tests.conftest import build_artifact

MEDICAL = ("Asthma", "Husten", "Fieber", "Migräne")
OTHER = ("Fußball", "Brücke", "Urlaub", "Garten")
PROMPT = "Medizin? {{ text }}"
PATIENCE_SECONDS = 120


def train_model(folder: Path) -> Path:
    """Train a model of 31,520 weights to answer PROMPT about "<word> Nummer <n>" with a JSON verdict; return its folder."""
    from definemed_pipeline.training.pretrain import pretrain

    words = (*MEDICAL, *OTHER)
    texts = [
        {"text": f"{first} und {second} am {day}. Mai."} for first, second in itertools.product(words, repeat=2) for day in (1, 2)
    ]
    chats = [
        {
            "messages": [
                {"role": "user", "content": f"Medizin? {word} Nummer {number}"},
                {"role": "assistant", "content": json.dumps({"medizinisch": word in MEDICAL})},
            ]
        }
        for number in range(12)
        for word in words
    ]
    for name, rows in (("texts", texts), ("chats", chats)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    section = PretrainBaseModelSettings(
        kind="pretrain", architecture="qwen2", texts=str(folder / "texts.jsonl"), chats=str(folder / "chats.jsonl"),
        vocabulary_size=400, hidden_size=32, intermediate_size=64, heads=2, kv_heads=1, sequence_length=64, steps=200,
        warmup_steps=10, checkpoint_every=200,
    )  # fmt: skip
    store = Store(str(folder / "lake"))
    return (
        store.folder(build_artifact(store, "base_models", pretrain, section, partition="m", sources=section.sources())) / "model"
    )


@dataclass
class TransformersServer:
    """A server that can be started, killed and started again at the same port."""

    model: str
    folder: Path
    port: int = 0
    process: "subprocess.Popen[bytes] | None" = field(default=None)

    def __post_init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        (self.folder / "home" / "hub").mkdir(parents=True, exist_ok=True)  # the server scans it
        command = [str(Path(sys.executable).parent / "transformers"), "serve", self.model, "--device", "cpu"]
        environment = {**os.environ, "HF_HOME": str(self.folder / "home"), "HF_HUB_OFFLINE": "1"}
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--host", "127.0.0.1", "--port", str(self.port)], env=environment, stdout=log, stderr=log
            )
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self._healthy():
            told = (self.folder / "server.log").read_text("utf-8", "replace")[-2000:]
            assert self.process.poll() is None, told
            assert time.monotonic() < deadline, told
            time.sleep(0.2)

    def _healthy(self) -> bool:
        with contextlib.suppress(httpx.RequestError):
            return httpx.get(f"http://127.0.0.1:{self.port}/health", timeout=5).status_code == 200
        return False

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def transformers_server(folder: Path) -> Iterator[TransformersServer]:
    """Serve a model trained for it until the end of the block."""
    server = TransformersServer(model=str(train_model(folder)), folder=folder)
    try:
        yield server
    finally:
        server.kill()
