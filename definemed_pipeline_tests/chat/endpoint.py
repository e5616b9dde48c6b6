"""A chat endpoint on this machine: a real HTTP server that answers as its test says, properly or not."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from definemed_pipeline.chat.settings import ChatEndpointSettings


@dataclass(frozen=True)
class Reply:
    """What the server does with one request: a status with a body, or one of the ways to fail."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    way: str = "whole"  # whole | silent | dropped | cut | dripping


def completion(text: str | None, **usage: Any) -> Reply:
    answer = {"choices": [{"message": {"role": "assistant", "content": text}}], "usage": usage or None}
    return Reply(body=json.dumps(answer).encode())


def echo(question: str) -> Reply:
    return completion(f"answer to {question}", prompt_tokens=7, completion_tokens=3)


@dataclass
class Endpoint:
    """The server's record: the questions it was asked in order of arrival, when, with which headers."""

    url: str
    reply: Callable[[str], Reply]
    questions: list[str] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: set[str | None] = field(default_factory=set)
    most_at_a_time: int = 0
    models: Any = None  # what it lists at /models: names, or a body of its own; None: it knows no such path
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _closing: threading.Event = field(default_factory=threading.Event)

    def settings(self, **changes: Any) -> ChatEndpointSettings:
        quick = {"model": "m", "concurrency": 2, "timeout_s": 30.0, "max_retries": 3, "first_wait_s": 0.01, "longest_wait_s": 5.0}
        return ChatEndpointSettings(**{"base_url": self.url, **quick, **changes})

    def first(self, *replies: Reply, then: Callable[[str], Reply] = echo) -> None:
        """Reply so to the first requests, whatever they ask."""
        left = list(replies)
        self.reply = lambda question: left.pop(0) if left else then(question)

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        question = body["messages"][-1]["content"]
        with self._lock:
            self.questions.append(question)
            self.arrivals.append(time.monotonic())
            self.bodies.append(body)
            self.keys.add(handler.headers["Authorization"])
            self._now += 1
            self.most_at_a_time = max(self.most_at_a_time, self._now)
            reply = None if handler.path != "/v1/chat/completions" else self.reply
        self._send(handler, Reply(status=404) if reply is None else reply(question))

    def list_models(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer a GET, which only lists models."""
        if self.models == {"silent": True}:
            self._closing.wait()
        listed = {"data": [{"id": name} for name in self.models]} if isinstance(self.models, list) else self.models
        known = self.models is not None and handler.path == "/v1/models"
        reply = Reply(body=json.dumps(listed).encode()) if known else Reply(status=404)
        with self._lock:
            self._now += 1
        self._send(handler, reply)

    def _send(self, handler: BaseHTTPRequestHandler, reply: Reply) -> None:
        with self._lock:
            self._now -= 1
        if reply.way == "silent":
            self._closing.wait()
        if reply.way in ("silent", "dropped"):
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
            return
        promised = len(reply.body) + (10_000 if reply.way in ("cut", "dripping") else 0)
        handler.send_response(reply.status)
        for name, value in {"Content-Length": str(promised), **reply.headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(reply.body)
        while reply.way == "dripping" and not self._closing.wait(0.05):
            handler.wfile.write(b" ")
        handler.close_connection = reply.way == "cut"


@contextlib.contextmanager
def running_endpoint(reply: Callable[[str], Reply] = echo) -> Iterator[Endpoint]:
    """Serve on a free port of 127.0.0.1 until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            with contextlib.suppress(ConnectionError):  # a client that lost patience has hung up
                endpoint.handle(self)

        def do_GET(self) -> None:
            with contextlib.suppress(ConnectionError):
                endpoint.list_models(self)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    endpoint = Endpoint(url=f"http://127.0.0.1:{server.server_port}/v1", reply=reply)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield endpoint
    finally:
        endpoint._closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
