"""The client: many conversations in, their answers out in the same order, whatever the endpoint does in between.

It retries what may pass (429, 5xx, timeouts, dropped connections, bodies that are no chat completion) and says how to cure what will
not. The key goes into one header and nowhere else: not into the cache, a log or an error.
"""

import email.utils
import json
import logging
import math
import os
import random
import re
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx

from definemed_pipeline.chat.cache import Answer, AnswerCache
from definemed_pipeline.chat.settings import ChatEndpointSettings
from definemed_pipeline.errors import UserError
from definemed_pipeline.settings import digest_of

LOG = logging.getLogger(__name__)
Conversation = Sequence[Mapping[str, str]]  # messages of a role and a content
# Requests in hand per thread: enough that one which waits for its retry does not hold up the others.
AHEAD = 16
LARGEST_BODY = 16 * 2**20  # bytes
PASSING_STATUSES = (408, 425, 429)
CURES = {
    401: "put a valid key into the environment variable that api_key_env names",
    403: "put a key that may use this model into the environment variable that api_key_env names",
    404: "correct base_url or model",
}
OTHER_CURE = "correct base_url, model, response_format or the length and sampling settings in the recipe"
PROBE_SECONDS = 10.0


class EndpointUnavailableError(ConnectionError):
    """The endpoint did not answer, however often it was asked; a later run goes on from the answers that are kept."""


class _PassingFaultError(Exception):
    """A fault that may be gone at the next try; `retry_after` is what the endpoint asked for, in seconds."""

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(kw_only=True)
class Usage:
    """What a client did: `requests` it sent, retries included; answers it found `cached`; the tokens of all answers, cached or not.

    So the tokens say what the answers cost altogether, however often the work was killed and started again.
    """

    requests: int = 0
    cached: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class ChatClient:
    """A client of one endpoint whose answers are kept in `cache_folder`; a context manager.

    `model_version` tells apart what is served under one name at different times: answers are kept for each.

    Raise UserError where the environment variable of the key is not set or holds no key.
    """

    def __init__(self, endpoint: ChatEndpointSettings, cache_folder: Path, *, model_version: str | None = None) -> None:
        self.endpoint = endpoint
        self._version = {} if model_version is None else {"model_version": model_version}
        self.usage = Usage()
        self._base = endpoint.base_url.rstrip("/")
        self._url = self._base + "/chat/completions"
        self._contact = threading.Lock()
        self._served: list[str] | None = None  # models, as the endpoint lists them; None before it was asked
        self._key = _read_key(endpoint.api_key_env)
        self._lock = threading.Lock()
        self._cache = AnswerCache(cache_folder)
        self._http = httpx.Client(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=endpoint.timeout_s,
            limits=httpx.Limits(max_connections=endpoint.concurrency),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()
        self._cache.close()

    def cost(self) -> dict[str, float]:
        """Return the `cost` of all answers so far, cached ones included, in the currency of the prices; nothing where there are none."""
        prompt, completion = self.endpoint.price_per_million_prompt_tokens, self.endpoint.price_per_million_completion_tokens
        if not (prompt or completion):
            return {}
        return {"cost": (self.usage.prompt_tokens * prompt + self.usage.completion_tokens * completion) / 1e6}

    def answers(
        self,
        conversations: Iterable[Conversation],
        *,
        temperature: float,
        max_tokens: int,
        response_format: Mapping[str, Any] | None = None,
    ) -> Generator[Answer, None, None]:
        """Yield the answer to each conversation, in order; equal conversations far apart are asked once.

        Raise UserError where the endpoint refuses a request; EndpointUnavailableError where nobody listens there, or the retries are
        used up. Closing it waits for the requests in hand, which are paid for, and keeps their answers.
        """
        sampling = {"model": self.endpoint.model, "temperature": temperature, "max_tokens": max_tokens}
        if response_format is not None:
            sampling["response_format"] = dict(response_format)
        stopped = threading.Event()
        pending: deque[Future[Answer]] = deque()
        pool = ThreadPoolExecutor(self.endpoint.concurrency)
        try:
            for messages in conversations:
                pending.append(pool.submit(self._answer, {**sampling, "messages": list(messages)}, stopped))
                if len(pending) >= AHEAD * self.endpoint.concurrency:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            stopped.set()
            pool.shutdown(cancel_futures=True)

    def _answer(self, body: Mapping[str, Any], stopped: threading.Event) -> Answer:
        request = digest_of({**body, **self._version})
        kept = self._cache.get(request)
        if kept is None:
            self._make_contact()
        answer = kept or self._ask(body, stopped)
        if kept is None:
            self._cache.put(request, answer)
        with self._lock:
            self.usage.cached += kept is not None
            self.usage.prompt_tokens += answer.prompt_tokens
            self.usage.completion_tokens += answer.completion_tokens
        return answer

    def _make_contact(self) -> None:
        """Before the first request, see that somebody listens, and ask which models are served.

        A server that is not there is told at once, not after all retries. Whatever else goes wrong says nothing about chat
        completions: many endpoints list no models, or not those they load when asked.
        """
        with self._contact:
            if self._served is not None:
                return
            try:
                response, content = self._exchange("GET", self._base + "/models", seconds=PROBE_SECONDS)
                self._served = [str(model["id"]) for model in json.loads(content)["data"]] if response.status_code == 200 else []
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                raise EndpointUnavailableError(
                    f"nobody listens at {self._base} ({type(error).__name__}: {error}); start the endpoint, or correct base_url"
                ) from error
            except (httpx.RequestError, _PassingFaultError, ValueError, LookupError, TypeError, RecursionError):
                self._served = []

    def _ask(self, body: Mapping[str, Any], stopped: threading.Event) -> Answer:
        waits = self._waits()
        while True:
            try:
                return self._send(body)
            except _PassingFaultError as fault:
                wait = max(fault.retry_after, next(waits, math.inf))
                is_patient = wait <= self.endpoint.longest_wait_s
                if is_patient:
                    LOG.warning("%s: %s; trying again in %.1f s", self._url, fault, wait)
                if not is_patient or stopped.wait(wait):
                    raise EndpointUnavailableError(
                        f"{self._url} was given up: {fault}. See that it runs and materialize again: the answers so far are kept"
                    ) from fault

    def _waits(self) -> Iterator[float]:
        """Yield the seconds before each retry: exponential backoff, with jitter so that the threads do not return all at once."""
        for retry in range(self.endpoint.max_retries):
            longest = min(self.endpoint.first_wait_s * 2.0**retry, self.endpoint.longest_wait_s)
            yield random.uniform(longest / 2, longest)

    def _send(self, body: Mapping[str, Any]) -> Answer:
        with self._lock:
            self.usage.requests += 1
        try:
            response, content = self._exchange("POST", self._url, seconds=self.endpoint.timeout_s, json=body)
        except httpx.RequestError as error:
            raise _PassingFaultError(f"{type(error).__name__} ({error})") from error
        status = response.status_code
        if status in PASSING_STATUSES or status >= 500:
            asked = _retry_after(response.headers.get("Retry-After", ""))
            wish = f", asking to wait {asked:.0f} s" if asked else ""
            raise _PassingFaultError(f"HTTP {status}{wish} ({self._excerpt(content)})", asked)
        if status != 200:
            cure = CURES.get(status, OTHER_CURE)
            if self._served and self.endpoint.model not in self._served:
                cure += f"; it lists the models {', '.join(self._served[:10])}"
            raise UserError(f"{self._url} refuses the request: HTTP {status} ({self._excerpt(content)}); {cure}")
        try:
            return _read_completion(content)
        except (ValueError, ArithmeticError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise _PassingFaultError(f"it answered with no chat completion ({self._excerpt(content)})") from error

    def _exchange(self, method: str, url: str, *, seconds: float, **body: Any) -> tuple[httpx.Response, bytes]:
        """Send a request and read its answer to the end, within the time and size that an answer may take.

        httpx limits the time between two pieces only: an endpoint that sends a byte now and then would be read for ever.
        """
        deadline = time.monotonic() + seconds
        content = bytearray()
        with self._http.stream(method, url, timeout=seconds, **body) as response:
            for piece in response.iter_bytes():
                content += piece
                if time.monotonic() > deadline:
                    raise _PassingFaultError(f"its answer was not complete after {seconds} s")
                if len(content) > LARGEST_BODY:
                    raise _PassingFaultError(f"its answer is longer than {LARGEST_BODY} bytes")
        return response, bytes(content)

    def _excerpt(self, content: bytes) -> str:
        """Put the beginning of a body into one line; endpoints are known to repeat the key they refuse."""
        text = content.decode("utf-8", "replace")
        if self._key:
            text = text.replace(self._key, "***")
        return " ".join(text.split())[:200]


def _read_key(variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        raise UserError(
            f"the environment variable {variable}, named by api_key_env, holds no key; set it, or leave api_key_env out"
        )
    return key


def _read_completion(content: bytes) -> Answer:
    completion = json.loads(content)
    choice = completion["choices"][0]
    text = choice["message"]["content"]
    if not isinstance(text, str | None):
        raise TypeError("content is no text")
    usage = completion.get("usage") or {}
    return Answer(
        text=text or "",
        prompt_tokens=int(usage.get("prompt_tokens") or 0),
        completion_tokens=int(usage.get("completion_tokens") or 0),
        finish_reason=str(choice.get("finish_reason") or ""),
    )


def _retry_after(value: str) -> float:
    """Read a Retry-After header, seconds or a date (RFC 9110, 10.2.3); 0 for one that is neither."""
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", value.strip()):
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0
