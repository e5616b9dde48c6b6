"""Text that grows in the lake: in order, once, whole, also where the store fails for a while."""

import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from definemed_pipeline.artifacts import chunks
from definemed_pipeline.artifacts.chunks import ChunkReader, ChunkWriter


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(chunks, "SECONDS_BETWEEN_CHUNKS", 0.005)


def read(reader: ChunkReader) -> dict[str, str]:
    told: dict[str, str] = {}
    for writer, text in reader.new():
        told[writer] = told.get(writer, "") + text
    return told


def test_what_one_writes_another_reads_while_it_grows(any_store):
    reader = ChunkReader(any_store, ".payloads/job", "log")
    assert read(reader) == {}
    with ChunkWriter(any_store, ".payloads/job/pod/log") as writer:
        writer.write("one\n")
        told = ""
        while told != "one\n":
            told += read(reader).get("pod", "")
        writer.write("two\n")
    assert read(reader) == {"pod": "two\n"}
    assert read(reader) == {}


@given(st.lists(st.text(min_size=1), max_size=20), st.lists(st.booleans(), max_size=30))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_store_that_fails_now_and_then_gets_everything_once_and_in_order(tmp_path_factory, texts, faults):
    from definemed_pipeline.artifacts.store import Store

    store = Store(str(tmp_path_factory.mktemp("lake")))
    plan, write = iter(faults), store.write

    def sometimes(path: str, text: str) -> None:
        if next(plan, False):
            raise OSError("no answer")
        write(path, text)

    store.write = sometimes  # type: ignore[method-assign]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "TRIES_AT_THE_END", 100)
        with ChunkWriter(store, "job/pod/messages") as writer:
            for text in texts:
                writer.write(text)
    assert read(ChunkReader(store, "job", "messages")).get("pod", "") == "".join(texts)


def test_many_threads_may_write(store):
    with ChunkWriter(store, "job/pod/log") as writer:
        threads = [threading.Thread(target=lambda n=n: [writer.write(f"{n}\n") for _ in range(200)]) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lines = read(ChunkReader(store, "job", "log"))["pod"].split()
    assert sorted(lines) == sorted(str(n) for n in range(4) for _ in range(200))


def test_pods_are_read_in_the_order_of_their_start_and_apart(store):
    for pod in ("1700000002-b", "1700000001-z"):
        with ChunkWriter(store, f"job/{pod}/messages") as writer:
            writer.write(pod)
        with ChunkWriter(store, f"job/{pod}/log") as writer:
            writer.write("noise")
    assert list(read(ChunkReader(store, "job", "messages"))) == ["1700000001-z", "1700000002-b"]
