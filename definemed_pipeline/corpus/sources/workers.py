"""Processes that apply a function to many things and survive it: each thing has a limited time, and a crash costs the thing that caused it.

The standard pools break as a whole when a process dies. Here each process has a pipe of its own and answers thing by thing, so the one
it owes when it dies is the culprit; a new process takes over the rest.
"""

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")
R = TypeVar("R")

BATCHES_AHEAD = 2  # for each process: one in work, one ready
ATTEMPTS = 2  # a process may be killed for another one's memory
IDLE_FACTOR = 30  # a call that waits instead of working is ended after so many times its processor time
TIMED_OUT = (signal.SIGPROF, signal.SIGALRM)


@dataclass(eq=False)
class _Batch(Generic[T, R]):
    things: Sequence[T]
    results: list[R] = field(default_factory=list)
    attempts: int = 0  # at the first thing without a result

    @property
    def is_finished(self) -> bool:
        return len(self.results) == len(self.things)


class Workers(Generic[T, R]):
    """A number of processes, started when first used.

    `prepare` is called once in each process and returns the function; `lost` returns the result of a thing that ended its process, given
    whether its time was up. `seconds` of processor time are allowed for each call. Both `prepare` and the things must be picklable.
    """

    def __init__(
        self, prepare: Callable[[], Callable[[T], R]], *, number: int, seconds: float, lost: Callable[[bool], R]
    ) -> None:
        self._prepare, self._number, self._seconds, self._lost = prepare, number, seconds, lost
        self._workers: list[_Worker[T, R]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for worker in self._workers:
            worker.stop()

    def map(self, batches: Iterator[Sequence[T]]) -> Iterator[list[R]]:
        """Yield the results of each batch in the order of the batches, a bounded number of which is held.

        Raise RuntimeError where a process cannot even be prepared.
        """
        held: deque[_Batch[T, R]] = deque()
        waiting: deque[_Batch[T, R]] = deque()
        while True:
            while len(held) < BATCHES_AHEAD * self._number and (things := next(batches, None)) is not None:
                batch: _Batch[T, R] = _Batch(things)
                held.append(batch)
                if things:
                    waiting.append(batch)
            if not held:
                return
            self._hand_out(waiting)
            if held[0].is_finished:
                yield held.popleft().results
            else:
                self._receive(waiting)

    def _hand_out(self, waiting: deque[_Batch[T, R]]) -> None:
        free = sum(worker.batch is None for worker in self._workers)
        for _ in range(min(self._number - len(self._workers), len(waiting) - free)):
            self._workers.append(_Worker(self._prepare, self._seconds))
        for worker in self._workers:
            if worker.is_ready and worker.batch is None and waiting:
                worker.take(waiting.popleft())

    def _receive(self, waiting: deque[_Batch[T, R]]) -> None:
        """Wait for any process to say something, and replace those that have ended."""
        ready = wait([worker.pipe for worker in self._workers])
        for worker in [worker for worker in self._workers if worker.pipe in ready]:
            try:
                worker.receive()
            except (EOFError, OSError):
                self._workers.remove(worker)
                self._settle(worker, waiting)

    def _settle(self, worker: "_Worker[T, R]", waiting: deque[_Batch[T, R]]) -> None:
        """Take the batch of an ended process back, without the thing that ended it."""
        status = worker.stop()
        if not worker.is_ready:
            raise RuntimeError(f"a worker process ended with status {status} before it was ready")
        batch = worker.batch
        if batch is None:
            return
        batch.attempts += 1
        timed_out = -status in TIMED_OUT
        if timed_out or batch.attempts == ATTEMPTS:
            batch.results.append(self._lost(timed_out))
            batch.attempts = 0
        if not batch.is_finished:
            waiting.appendleft(batch)


class _Worker(Generic[T, R]):
    """One process and this end of its pipe."""

    def __init__(self, prepare: Callable[[], Callable[[T], R]], seconds: float) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.is_ready = False
        self.batch: _Batch[T, R] | None = None
        self._process = context.Process(target=_serve, args=(prepare, seconds, theirs), daemon=True)
        self._process.start()
        theirs.close()  # so that the pipe ends with the process

    def take(self, batch: _Batch[T, R]) -> None:
        self.batch = batch
        try:
            self.pipe.send(batch.things[len(batch.results) :])
        except OSError:  # it has ended, as reading from it will tell
            return

    def receive(self) -> None:
        """Take one message: that the process is ready, or a result. Raise EOFError or OSError where it has ended."""
        message = self.pipe.recv()
        if self.batch is None:
            self.is_ready = True
            return
        self.batch.results.append(message)
        self.batch.attempts = 0
        if self.batch.is_finished:
            self.batch = None

    def stop(self) -> int:
        """End the process if it has not ended, and return its exit status, negative for a signal."""
        self.pipe.close()
        if self._process.is_alive() and self.batch is not None:
            self._process.kill()
        self._process.join()
        status = self._process.exitcode
        self._process.close()
        return status if status is not None else 1


def _serve(prepare: Callable[[], Callable[[T], R]], seconds: float, pipe: Connection) -> None:
    """Answer batches until the other end is closed or gone. Time is kept by the kernel, which no code can hold up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other end decides
    function = prepare()
    try:
        pipe.send(None)
        while True:
            for thing in pipe.recv():
                signal.setitimer(signal.ITIMER_PROF, seconds)
                signal.setitimer(signal.ITIMER_REAL, IDLE_FACTOR * seconds)
                result = function(thing)
                signal.setitimer(signal.ITIMER_PROF, 0)
                signal.setitimer(signal.ITIMER_REAL, 0)
                pipe.send(result)
    except (EOFError, OSError):
        return
