"""A Hub of one dataset on this machine, for the real client: commits, branches, paged listings, large files behind a redirect to
another host, ranges. It misbehaves as its test says."""

import contextlib
import hashlib
import json
import re
import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

REPOSITORY = "acme/web-de"
FOLDER = "data/deu_Latn/train"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What goes wrong with one request: another status, or another way to send the body."""

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None  # served instead of the file, from its start
    cut_after: int | None = None  # bytes, after which the connection ends
    way: str = "closed"  # how it ends: closed | reset | silent
    ignores_range: bool = False


@dataclass(frozen=True, kw_only=True)
class Request:
    place: str  # revision | tree | resolve | cdn
    method: str
    path: str
    range: str | None
    token: str | None


@dataclass
class Hub:
    """The server's state and record. `commit` puts files and moves the branch; `faults[place]` go wrong first, in this order."""

    url: str
    cdn: str
    page: int = 1000
    token: str | None = None  # the dataset is gated for who does not send it
    offers_large_files: bool = True  # False: files lie in git itself
    trees: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    faults: dict[str, list[Fault]] = field(default_factory=lambda: defaultdict(list))
    requests: list[Request] = field(default_factory=list)
    before_page: list[contextlib.AbstractContextManager[None]] = field(default_factory=list)
    silent: threading.Event = field(default_factory=threading.Event)  # set as soon as a body has fallen silent
    closing: threading.Event = field(default_factory=threading.Event)

    def commit(self, files: Mapping[str, bytes], branch: str = "main") -> str:
        """Commit files by name into the shards' folder, beside those that are there, and move a branch to it."""
        tree = {**self.trees.get(self.branches.get(branch, ""), {}), **{f"{FOLDER}/{name}": body for name, body in files.items()}}
        content = repr(sorted((path, hashlib.sha256(body).hexdigest()) for path, body in tree.items()))
        sha = hashlib.sha1(content.encode()).hexdigest()
        self.trees[sha], self.branches[branch] = tree, sha
        return sha

    def asked(self, place: str, method: str = "GET") -> list[Request]:
        return [request for request in self.requests if (request.place, request.method) == (place, method)]

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        url = urlsplit(handler.path)
        path = unquote(url.path)
        place = next((name for name in ("revision", "tree", "resolve", "cdn") if f"/{name}/" in path), "elsewhere")
        token = (handler.headers["Authorization"] or "").removeprefix("Bearer ") or None
        self.requests.append(Request(place=place, method=handler.command, path=path, range=handler.headers["Range"], token=token))
        fault = self.faults[place].pop(0) if self.faults[place] and handler.command == "GET" else Fault()
        if fault.status is not None:
            send(handler, fault.status, b"", fault.headers)
        elif place == "cdn":
            self._send_file(handler, self._content(path.rpartition("/")[2]), {"Accept-Ranges": "bytes"}, fault)
        elif not re.match(rf"/(api/)?datasets/{REPOSITORY}/", path):
            send(handler, 404, b"", {"X-Error-Code": "RepoNotFound"})
        elif self.token is not None and token != self.token:
            code, headers = (401, {}) if token is None else (403, {"X-Error-Code": "GatedRepo"})
            send(handler, code, b"", headers)
        else:
            revision, _, below = path.partition(f"/{place}/")[2].partition("/")
            sha = self.branches.get(revision, revision)
            if (tree := self.trees.get(sha)) is None:
                send(handler, 404, b"", {"X-Error-Code": "RevisionNotFound"})
            elif place == "revision":
                send(handler, 200, json.dumps({"id": REPOSITORY, "sha": sha}).encode(), {})
            elif place == "tree":
                asked = parse_qs(url.query)
                is_recursive = asked.get("recursive", ["false"])[0].lower() == "true"
                self._send_page(handler, tree, below, int(asked.get("cursor", ["0"])[0]), is_recursive)
            elif below not in tree:
                send(handler, 404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": sha})
            else:
                self._resolve(handler, sha, tree[below], fault)

    def _resolve(self, handler, sha: str, body: bytes, fault: Fault) -> None:
        commit, digest = {"X-Repo-Commit": sha}, hashlib.sha256(body).hexdigest()
        if self.offers_large_files:
            linked = {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(body)), "Location": f"{self.cdn}/cdn/{digest}"}
            send(handler, 302, b"", {**commit, **linked})
        else:
            self._send_file(handler, body, {**commit, "ETag": f'"{git_hash(body)}"'}, fault)

    def _send_page(self, handler, tree: Mapping[str, bytes], folder: str, start: int, is_recursive: bool) -> None:
        if self.before_page:
            with self.before_page.pop(0):
                pass
        below = f"{folder}/" if folder else ""
        places = dict.fromkeys(place for path in tree if path.startswith(below) for place in (*folders_of(path), path))
        found = [place for place in places if place.startswith(below) and (is_recursive or "/" not in place[len(below) :])]
        if not found:
            send(handler, 404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        page = json.dumps([self._describe(path, tree.get(path)) for path in found[start : start + self.page]]).encode()
        more = f"{self.url}{urlsplit(handler.path).path}?cursor={start + self.page}"
        send(handler, 200, page, {"Link": f'<{more}>; rel="next"'} if start + self.page < len(found) else {})

    def _describe(self, path: str, body: bytes | None) -> dict[str, object]:
        if body is None:
            return {"type": "directory", "path": path, "size": 0, "oid": git_hash(path.encode())}
        pointer = {"oid": hashlib.sha256(body).hexdigest(), "size": len(body), "pointerSize": 134}
        entry = {"type": "file", "path": path, "size": len(body), "oid": git_hash(body)}
        return {**entry, "lfs": pointer} if self.offers_large_files else entry

    def _content(self, digest: str) -> bytes:
        bodies = (body for tree in self.trees.values() for body in tree.values())
        return next(body for body in bodies if hashlib.sha256(body).hexdigest() == digest)

    def _send_file(self, handler, body: bytes, headers: Mapping[str, str], fault: Fault) -> None:
        body = body if fault.body is None else fault.body
        status, start, end = 200, 0, len(body)
        if (wanted := handler.headers["Range"]) and not fault.ignores_range:
            first, last = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted).groups()
            status, start, end = 206, int(first), min(int(last) + 1, end) if last else end
            if start >= len(body):
                send(handler, 416, b"", {"Content-Range": f"bytes */{len(body)}"})
                return
            headers = {**headers, "Content-Range": f"bytes {start}-{end - 1}/{len(body)}"}
        if fault.cut_after is None:
            send(handler, status, body[start:end], headers)
            return
        send(handler, status, body[start:end][: fault.cut_after], headers, announced=end - start)
        if fault.way == "silent":
            self.silent.set()
            self.closing.wait()
        if fault.way == "reset":  # what is left in the socket is thrown away, and the client gets a reset
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.close_connection = True
        handler.connection.close() if fault.way == "reset" else handler.connection.shutdown(socket.SHUT_RDWR)


def send(handler, status: int, body: bytes, headers: Mapping[str, str], announced: int | None = None) -> None:
    handler.send_response(status)
    for name, value in {**headers, "Content-Length": str(len(body) if announced is None else announced)}.items():
        handler.send_header(name, value)
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)
        handler.wfile.flush()


def folders_of(path: str) -> list[str]:
    """Return the folders that a file lies in, the outermost first."""
    return [path[:end] for end, sign in enumerate(path) if sign == "/"]


def git_hash(body: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()


@contextlib.contextmanager
def running_hub() -> Iterator[Hub]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            with contextlib.suppress(ConnectionError, ValueError):  # the client is gone, or we hung up
                hub.handle(self)

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    port = server.server_address[1]
    hub = Hub(url=f"http://127.0.0.1:{port}", cdn=f"http://localhost:{port}")  # another name is another host
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        hub.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()
