"""The fork server's own process: it imports the payloads' libraries once, and forks a process for each request (see forking.py).

Started as `python -m definemed_pipeline.compute.fork_server DESCRIPTOR`, a listening Unix socket. It has no thread of its own, since
a process with threads cannot be forked safely, and ends when its standard input closes.
"""

import contextlib
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
from dataclasses import dataclass

from setproctitle import setproctitle

LIBRARIES = ("torch", "transformers.trainer", "transformers.models.auto.modeling_auto")  # what most payloads import


@dataclass(frozen=True, kw_only=True)
class Request:
    """What would follow `python -m`, where, its environment, and descriptors of its standard input and of its output and errors."""

    arguments: tuple[str, ...]
    folder: str
    environment: dict[str, str]
    streams: tuple[int, int]

    def send(self, connection: socket.socket) -> None:
        """Hand the request to the server: the descriptors, then a line of JSON."""
        socket.send_fds(connection, [b"\n"], self.streams)
        told = {"arguments": self.arguments, "folder": self.folder, "environment": self.environment}
        connection.sendall(json.dumps(told).encode() + b"\n")

    @classmethod
    def receive(cls, connection: socket.socket) -> "Request":
        """Read what was sent; raise ValueError or OSError where the other side was killed in between."""
        _, streams, _, _ = socket.recv_fds(connection, 1, 2)
        try:
            given, output = streams
            with connection.makefile("rb") as lines:
                told = json.loads(lines.readline())
            return cls(arguments=tuple(told.pop("arguments")), **told, streams=(given, output))
        except (OSError, ValueError):
            for stream in streams:
                os.close(stream)
            raise

    def run(self) -> None:
        """Do what `python -m` does, in this process."""
        title = " ".join([sys.executable, "-m", *self.arguments])
        setproctitle(title)  # before the environment is changed, beside which it lies in memory
        given, output = self.streams
        for stream, number in ((given, 0), (output, 1), (output, 2)):
            os.dup2(stream, number)
        self.close()
        os.chdir(self.folder)
        os.environ.clear()
        os.environ.update(self.environment)
        sys.argv[:] = self.arguments
        runpy.run_module(self.arguments[0], run_name="__main__", alter_sys=True)

    def close(self) -> None:
        for stream in self.streams:
            os.close(stream)


def main() -> None:
    """Serve until standard input closes; a forked process leaves the loop and becomes what it was asked for."""
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the launchers and their payloads
    if request := _serve(socket.socket(fileno=int(sys.argv[1]))):
        signal.signal(signal.SIGINT, interrupt)
        request.run()


def _serve(listener: socket.socket) -> Request | None:
    """Return a request in the process that was forked for it, None where standard input closed."""
    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin, selectors.EVENT_READ)
        selector.register(listener, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is sys.stdin:
                    return None
                if key.fileobj is not listener:
                    _tell_status(key, selector)
                elif request := _accept(listener, selector):
                    return request


def _accept(listener: socket.socket, selector: selectors.BaseSelector) -> Request | None:
    """Fork a process for the next request; return that request in it, None in the server."""
    connection, _ = listener.accept()
    try:
        request = Request.receive(connection)
    except (OSError, ValueError):
        connection.close()
        return None
    _import_libraries()
    if (pid := os.fork()) == 0:
        listener.close()
        connection.close()
        for key in selector.get_map().values():
            if key.data:
                _close(key)
        return request
    request.close()
    process = os.pidfd_open(pid)
    with contextlib.suppress(OSError):  # its launcher was killed, and the payload ends with its standard input
        socket.send_fds(connection, [str(pid).encode()], [process])
    selector.register(process, selectors.EVENT_READ, (pid, connection))
    return None


def _import_libraries() -> None:
    """Import what most payloads import. What is there then stays, so that no child looks through it for garbage."""
    if LIBRARIES[0] not in sys.modules:
        for library in LIBRARIES:
            importlib.import_module(library)
        gc.freeze()


def _tell_status(key: selectors.SelectorKey, selector: selectors.BaseSelector) -> None:
    """Tell the launcher how its payload ended."""
    pid, connection = key.data
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(OSError):
        connection.sendall(str(status).encode())
    selector.unregister(key.fileobj)
    _close(key)


def _close(key: selectors.SelectorKey) -> None:
    os.close(key.fd)
    key.data[1].close()


if __name__ == "__main__":
    main()
