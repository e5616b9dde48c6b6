"""The HTTP side: from a request's line to a verb of the API and back, and the open streams of watches and logs."""

import json
import re
import select
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from definemed_pipeline_tests.kubernetes_server.refusals import Refusal
from definemed_pipeline_tests.kubernetes_server.selection import matcher
from definemed_pipeline_tests.kubernetes_server.store import KINDS, Object, seconds_of
from definemed_pipeline_tests.kubernetes_server.validation import NEWEST
from definemed_pipeline_tests.kubernetes_server.watches import watch

if TYPE_CHECKING:
    from definemed_pipeline_tests.kubernetes_server.server import KubernetesServer

PATH = re.compile(
    r"/apis?/(?P<version>v1|batch/v1)(?:/namespaces/(?P<namespace>[^/]+))?"
    r"/(?P<plural>[a-z]+)(?:/(?P<name>[^/]+)(?:/(?P<part>status|log))?)?"
)
VERBS = {"POST": "create", "PATCH": "patch", "DELETE": "delete"}
LARGEST_BODY = 3 * 1024 * 1024
SECONDS_A_WATCH_LASTS = 1800.0
FALSE = (None, "false", "False", "0")  # of a switch in a query; anything else is true, as Kubernetes has it
VERSION: Object = {
    "major": NEWEST.partition(".")[0],
    "minor": NEWEST.partition(".")[2],
    "gitVersion": f"v{NEWEST}.0",
    **dict.fromkeys(("buildDate", "compiler", "gitCommit", "gitTreeState", "goVersion", "platform"), ""),
}
WATCHES, LOGS = "watches", "logs"


class Listener(ThreadingHTTPServer):
    """Serves one KubernetesServer, each connection in a thread of its own, and knows all open connections and streams."""

    daemon_threads = False
    request_queue_size = 128

    def __init__(self, cluster: "KubernetesServer") -> None:
        super().__init__(("127.0.0.1", 0), Connection)
        self.cluster = cluster
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._streams: dict[str, set[socket.socket]] = {WATCHES: set(), LOGS: set()}

    def close(self) -> None:
        """Hang up on everyone and end all threads, once the cluster is closing."""
        self.shutdown()
        with self._lock:
            _hang_up(self._open)
        self.server_close()

    def cut(self, kind: str) -> None:
        """Hang up on those who watch, or follow a log."""
        with self._lock:
            _hang_up(self._streams[kind])

    def count(self, kind: str) -> int:
        """Return how many watches or followed logs are open."""
        with self._lock:
            return len(self._streams[kind])

    @contextmanager
    def connected(self, connection: socket.socket, kind: str | None = None) -> Iterator[None]:
        """Count a connection, or a stream of a kind, among the open ones."""
        members = self._open if kind is None else self._streams[kind]
        with self._lock:
            members.add(connection)
        try:
            yield
        finally:
            with self._lock:
                members.discard(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep a connection that breaks out of the tests' output; anything else is a fault of this server and is shown."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def _hang_up(connections: set[socket.socket]) -> None:
    for connection in connections:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


class Connection(BaseHTTPRequestHandler):
    """Answers the requests of one connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Listener

    def handle(self) -> None:
        with self.server.connected(self.connection):
            if not self.server.cluster.closing.is_set():
                super().handle()

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_PATCH = do_DELETE = do_PUT = do_GET  # noqa: N815

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing: what matters is counted in `requests`."""

    def _answer(self) -> None:
        url = urlsplit(self.path)
        query, found = dict(parse_qsl(url.query)), PATH.fullmatch(url.path)
        verb = self._verb(query, found)
        cluster = self.server.cluster
        with cluster.store.changed:
            cluster.requests[verb, url.path] += 1
        is_answered = True
        try:
            body = self._body()
            is_answered = cluster.trouble.meet(verb, url.path, self.headers.get("Authorization", ""))
            answer = self._asked(url.path, query, found, verb, body)
            if not is_answered:
                raise ConnectionAbortedError
            if isinstance(answer, dict):
                self._send(201 if verb == "create" else 200, answer)
            else:
                answer()
        except Refusal as refusal:
            if is_answered:
                self._send(refusal.code, refusal.status, refusal.retry_after)
            else:
                self._break_off()
        except ConnectionAbortedError:
            self._break_off()
        except OSError:
            raise
        except Exception as error:
            cluster.fail(error)
            raise

    def _break_off(self) -> None:
        _hang_up({self.connection})
        self.close_connection = True

    def _verb(self, query: Mapping[str, str], found: re.Match[str] | None) -> str:
        """Return the verb as Kubernetes' own audit log has it."""
        is_collection = found is not None and found["name"] is None
        if self.command != "GET":
            verb = VERBS.get(self.command, self.command.lower())
            return "deletecollection" if verb == "delete" and is_collection else verb
        if not is_collection:
            return "get"
        return "watch" if query.get("watch") not in FALSE else "list"

    def _body(self) -> Any:
        length = int(self.headers.get("Content-Length") or 0)
        if length > LARGEST_BODY:
            self.close_connection = True
            raise Refusal(413, f"Request entity too large: limit is {LARGEST_BODY}")
        text = self.rfile.read(length)
        try:
            body = json.loads(text) if text else {}
        except ValueError as error:
            raise Refusal(400, f"the body is no JSON: {error}") from error
        if not isinstance(body, dict):
            raise Refusal(415, "this server takes objects only, no JSON patches (lists)")
        return body

    def _asked(
        self, path: str, query: Mapping[str, str], found: re.Match[str] | None, verb: str, body: Any
    ) -> Object | Callable[[], None]:
        """Do what is asked; return the answer, or what streams it."""
        if path.rstrip("/") == "/version":
            return VERSION
        plural = found["plural"] if found else ""
        if found is None or plural not in KINDS or KINDS[plural].api_version != found["version"]:
            raise Refusal(404, "the server could not find the requested resource")
        namespace, name, part = found["namespace"], found["name"], found["part"] or ""
        is_selected = matcher(plural, query.get("labelSelector", ""), query.get("fieldSelector", ""))
        api, options = self.server.cluster.api, {**query, **body}
        if "gracePeriodSeconds" in options:
            options["gracePeriodSeconds"] = int(options["gracePeriodSeconds"])
        deeds: dict[tuple[str, str], Callable[[], Object | Callable[[], None] | None]] = {
            ("get", ""): lambda: api.store.get(plural, namespace, name),
            ("get", "status"): lambda: api.store.get(plural, namespace, name),
            ("get", "log"): lambda: self._log(namespace, name, query),
            ("list", ""): lambda: api.list(plural, namespace, is_selected),
            ("watch", ""): lambda: partial(self._watch, plural, namespace, is_selected, query),
            ("create", ""): lambda: api.create(plural, namespace, body),
            ("patch", ""): lambda: api.patch(plural, namespace, name, body, self.headers.get_content_type()),
            ("patch", "status"): lambda: api.patch(plural, namespace, name, body, self.headers.get_content_type(), part=part),
            ("delete", ""): lambda: api.delete(plural, namespace, name, options),
            ("deletecollection", ""): lambda: api.delete_all(plural, namespace, is_selected, options),
        }
        if (verb, part) not in deeds or (namespace is None and verb not in ("list", "watch")):
            raise Refusal(405, f"the server does not allow {self.command} on the requested resource")
        return deeds[verb, part]() or {}

    def _watch(self, plural: str, namespace: str | None, is_selected: Any, query: Mapping[str, str]) -> None:
        with self.server.connected(self.connection, WATCHES):
            self._begin_stream("application/json")
            events = watch(
                self.server.cluster.store,
                plural,
                namespace,
                is_selected,
                version=query.get("resourceVersion", ""),
                seconds=float(query.get("timeoutSeconds") or SECONDS_A_WATCH_LASTS),
                bookmarks=query.get("allowWatchBookmarks") not in FALSE,
                is_cut=self._is_cut,
            )
            for event in events:
                self._stream(json.dumps(event).encode() + b"\n")
            self._end_stream()

    def _log(self, namespace: str, name: str, query: Mapping[str, str]) -> Callable[[], None]:
        cluster = self.server.cluster
        log = cluster.kubelet.log(cluster.store.get("pods", namespace, name), query.get("container"))
        since = ""
        if "sinceSeconds" in query:
            since = cluster.clock.stamp(-float(query["sinceSeconds"])).rstrip("Z")
        elif "sinceTime" in query:
            since = cluster.clock.stamp(seconds_of(query["sinceTime"]) - cluster.clock.now()).rstrip("Z")
        tail = int(query["tailLines"]) if "tailLines" in query else None
        has_stamps = query.get("timestamps") not in FALSE

        def send() -> None:
            with self.server.connected(self.connection, LOGS):
                self._begin_stream("text/plain")
                is_new_line = True
                for line in log.lines(since=since, tail=tail, follow=query.get("follow") not in FALSE, is_cut=self._is_cut):
                    stamp = f"{line.stamp} ".encode() if has_stamps and is_new_line else b""
                    self._stream(stamp + line.text + (b"\n" if line.is_whole else b""))
                    is_new_line = line.is_whole
                self._end_stream()

        return send

    def _is_cut(self) -> bool:
        """Tell whether the other end has hung up, or this server is closing."""
        if self.server.cluster.closing.is_set():
            return True
        is_readable, _, _ = select.select([self.connection], [], [], 0)
        return bool(is_readable) and not self.connection.recv(1, socket.MSG_PEEK)

    def _send(self, code: int, answer: Object, retry_after: int | None = None) -> None:
        body = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if retry_after is not None:
            self.send_header("Retry-After", str(retry_after))
        self.end_headers()
        self.wfile.write(body)

    def _begin_stream(self, content_type: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _stream(self, data: bytes) -> None:
        if data:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def _end_stream(self) -> None:
        self.wfile.write(b"0\r\n\r\n")
