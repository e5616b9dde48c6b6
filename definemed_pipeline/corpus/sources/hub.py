"""The Hugging Face Hub as a source: commits, listings, whole files and ranges of files, by its own client.

The token comes from HF_TOKEN and goes into request headers only: errors name status codes and our own words, never what a library or
a server said about a request. The endpoint is HF_ENDPOINT, looked up at each call. Faults that pass (HTTP 429 and 5xx, connections that
break) are waited out and told; what is left of them is a ConnectionError, worth another try. What a user must cure is a UserError.
"""

import hashlib
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx2
from huggingface_hub import HfApi, RepoFile, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from huggingface_hub.file_download import get_hf_file_metadata, http_get
from huggingface_hub.utils import build_hf_headers, http_stream_backoff  # type: ignore[attr-defined]  # public, not listed in __all__

from definemed_pipeline.errors import UserError

T = TypeVar("T")
Report = Callable[[str], None]
LOG = logging.getLogger(__name__)
TIMEOUT_SECONDS = 30.0
WAITS_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # before each further try of what made no progress
TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
GIT_BLOB = "git-blob:"
LOCATION = re.compile(r"hf://datasets/(?P<repository>[^/@]+/[^/@]+)@(?P<revision>[0-9a-f]{40})/(?P<path>.+)")


@dataclass(frozen=True, kw_only=True)
class HubPath:
    """A file or folder of a dataset at a revision."""

    repository: str
    revision: str
    path: str

    @property
    def location(self) -> str:
        """Return the fsspec URL by which also other programs find it."""
        return f"hf://datasets/{self.repository}@{self.revision}/{self.path}".rstrip("/")

    @property
    def url(self) -> str:
        """Return where the file is served from."""
        return hf_hub_url(self.repository, self.path, repo_type="dataset", revision=self.revision, endpoint=_endpoint())


def parse_location(location: str) -> HubPath | None:
    """Return the file a location names, or None where it names none of the Hub at a commit."""
    match = LOCATION.fullmatch(location)
    return HubPath(**match.groupdict()) if match else None


def resolve_commit(repository: str, revision: str, report: Report = LOG.info) -> str:
    """Return the commit a branch, tag or commit stands for now."""
    place = HubPath(repository=repository, revision=revision, path="")

    def look_up() -> str | None:
        return _api().dataset_info(repository, revision=revision, timeout=TIMEOUT_SECONDS).sha

    commit = _ask(look_up, place, report)
    if commit is None:
        raise UserError(f"{place.location}: what answers is no Hub, it names no commit; correct HF_ENDPOINT")
    return commit


def list_files(folder: HubPath, report: Report = LOG.info) -> list[RepoFile]:
    """Return the files that lie in a folder, sorted by path; all pages are of the one commit `folder` names."""

    def look_up() -> list[RepoFile]:
        entries = _api().list_repo_tree(folder.repository, folder.path, revision=folder.revision, repo_type="dataset")
        return sorted((entry for entry in entries if isinstance(entry, RepoFile)), key=lambda file: file.path)

    return _ask(look_up, folder, report)


def digest_of_file(file: RepoFile) -> str:
    """Return what identifies a listed file's content: its SHA-256 as any other file's, or git's hash where it is stored in git."""
    return file.lfs.sha256 if file.lfs is not None else f"{GIT_BLOB}{file.blob_id}"


def can_verify(digest: str) -> bool:
    """Say whether a digest is one that `digest_of_file` gives, so that a copy can be held against it."""
    return digest.startswith(GIT_BLOB) or re.fullmatch("[0-9a-f]{64}", digest) is not None


def size_of(file: HubPath, report: Report = LOG.info) -> int:
    """Return the size in bytes that the Hub announces for a file."""

    def look_up() -> int | None:
        return get_hf_file_metadata(file.url, token=_token(), timeout=TIMEOUT_SECONDS, endpoint=_endpoint()).size

    size = _patiently(look_up, file, report)
    if size is None:
        raise UserError(f"{file.location}: the Hub announces no size; what HF_ENDPOINT names is no Hub")
    return size


def fetch(file: HubPath, size: int, digest: str, partial: Path, report: Report = LOG.info) -> None:
    """Complete a partial copy of a file and verify it; a wrong one is emptied and fetched again once.

    Raise UserError, with the partial copy emptied, where it is wrong again.
    """
    for attempt in ("first", "second"):
        _download(file, size, partial, report)
        found_size, found_digest = partial.stat().st_size, _content_digest(partial, digest)
        if (found_size, found_digest) == (size, digest):
            return
        fault = f"{found_size:,} bytes instead of {size:,}" if found_size != size else "other bytes than its digest says"
        os.truncate(partial, 0)
        if attempt == "first":
            report(f"{file.location} arrived with {fault}; fetching it again")
    raise UserError(f"{file.location} arrived twice with {fault}: the Hub or a proxy on the way serves a damaged file; try later")


def fetch_range(file: HubPath, start: int, end: int, report: Report = LOG.info) -> bytes:
    """Return bytes `start` to `end` (exclusive) of a file."""
    headers = {**_headers(), "Range": f"bytes={start}-{end - 1}"}

    def read() -> bytes:
        # The client's own retrying does not cover a body that is cut: `_patiently` does.
        stream = http_stream_backoff(
            "GET", file.url, headers=headers, timeout=TIMEOUT_SECONDS, retry_on_exceptions=(), retry_on_status_codes=()
        )
        with stream as response:
            if response.status_code == 200:  # not read: it is the whole file
                raise UserError(f"{file.location}: the Hub serves no ranges of it; set source.access to download")
            if response.status_code != 206:
                raise HfHubHTTPError(f"HTTP {response.status_code}", response=response)
            body = response.read()
        if len(body) != end - start:
            raise httpx2.RemoteProtocolError(f"{len(body)} bytes instead of {end - start}")
        return body

    return _patiently(read, file, report)


def _ask(look_up: Callable[[], T], place: HubPath, report: Report) -> T:
    """Call for a listing, for which a person may be waiting: a Hub out of reach is told at once, and every fault in a line."""

    def attempt() -> T:
        try:
            return look_up()
        except (httpx2.ConnectError, OfflineModeIsEnabled) as error:
            raise UserError(
                f"{place.location}: the Hub is out of reach; check the network, HF_ENDPOINT and HF_HUB_OFFLINE"
            ) from error

    try:
        return _patiently(attempt, place, report)
    except ConnectionError as error:
        raise UserError(str(error)) from error


def _download(file: HubPath, size: int, partial: Path, report: Report) -> None:
    """Append what is missing of a file to its partial copy."""

    def progress() -> int:
        return partial.stat().st_size

    def append() -> None:
        with partial.open("ab") as target:
            if (have := target.tell()) < size:
                http_get(file.url, target, resume_size=have, headers=_headers())

    if have := progress():
        report(f"going on with {file.location} after {have:,} of {size:,} bytes")
    else:
        report(f"fetching {file.location}, {size:,} bytes")
    _patiently(append, file, report, progress)


def _patiently(attempt: Callable[[], T], place: HubPath, report: Report, progress: Callable[[], int] = lambda: 0) -> T:
    """Call until it succeeds; give up where it made no progress for as many times as there are waits."""
    fruitless = 0
    while True:
        before = progress()
        try:
            with _forwarding(report):
                return attempt()
        except (HfHubHTTPError, httpx2.TransportError) as error:
            status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
            if status is not None and status not in TRANSIENT:
                raise _refusal(error.response, place) from None  # type: ignore[union-attr]  # its text may quote the server
            reason = type(error).__name__ if status is None else f"HTTP {status}"
            fruitless = 0 if progress() > before else fruitless + 1
            if fruitless > len(WAITS_SECONDS):
                raise ConnectionError(f"{place.location}: {reason} from the Hub, {fruitless} times in a row; try later") from None
            wait = _asked_to_wait(error) or WAITS_SECONDS[max(fruitless - 1, 0)]
            report(f"{place.location}: {reason}; trying again in {wait:.0f} s")
            time.sleep(wait)


def _asked_to_wait(error: Exception) -> float | None:
    """Return the seconds of a Retry-After header; a date in it is left to our own waits."""
    asked = error.response.headers.get("Retry-After", "") if isinstance(error, HfHubHTTPError) else ""
    return float(asked) if asked.isdecimal() else None


def _refusal(response: httpx2.Response, place: HubPath) -> UserError:
    """Say what a final answer of the Hub means and what cures it."""
    code, status = response.headers.get("X-Error-Code"), response.status_code
    if code == "GatedRepo" or status == 403:
        cure = "access is gated or forbidden: accept its conditions on its page with the account whose token is in HF_TOKEN"
    elif status == 401:
        cure = (
            "the Hub refuses the token in HF_TOKEN: set a valid one"
            if _token()
            else "needs a token, or does not exist: set HF_TOKEN"
        )
    elif code == "RevisionNotFound":
        cure = "the dataset has no such revision: correct source.revision"
    elif code == "EntryNotFound":
        cure = "the dataset has no such file or folder at this revision: correct source.language or source.split"
    elif status == 404:
        cure = "there is no such dataset: correct source.repository"
    else:
        cure = "the Hub refuses the request; check the recipe's source and HF_ENDPOINT"
    return UserError(f"{place.location}: HTTP {status}, {cure}")


def _content_digest(path: Path, like: str) -> str:
    """Digest a file the way a known digest was made: SHA-256, or git's hash of a blob."""
    if not like.startswith(GIT_BLOB):
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    blob = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            blob.update(chunk)
    return f"{GIT_BLOB}{blob.hexdigest()}"


@contextmanager
def _forwarding(report: Report) -> Iterator[None]:
    """Let the client's warnings of this thread (that it waits, that it resumes) be read where the work is followed."""
    thread = threading.get_ident()

    class Forward(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == thread:
                report(f"Hub client: {' '.join(record.getMessage().split())}")

    client, forward = logging.getLogger("huggingface_hub"), Forward(logging.WARNING)
    client.addHandler(forward)
    try:
        yield
    finally:
        client.removeHandler(forward)


def _api() -> HfApi:
    return HfApi(endpoint=_endpoint(), token=_token(), library_name="definemed-pipeline")


def _headers() -> dict[str, str]:
    """Return the headers of a request for bytes as they are: compressed ones have other ranges."""
    return {**build_hf_headers(token=_token(), library_name="definemed-pipeline"), "Accept-Encoding": "identity"}


def _token() -> str | bool:
    """Return the token of the environment, or False: no other place is searched for one."""
    return os.environ.get("HF_TOKEN") or False


def _endpoint() -> str | None:
    """Return the Hub's address as it is set now; the client itself looks once, when it is imported."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None
