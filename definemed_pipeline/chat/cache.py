"""Answers that were paid for, kept in a SQLite file, so that nobody asks for one of them twice.

The file outlives the artifacts made from it: a killed run, a forced rebuild and a larger sample find what was answered before. An
answer is known by the digest of its whole request, which holds the model, the prompt with the document in it, and the sampling.
"""

import dataclasses
import json
import sqlite3
import threading
from dataclasses import dataclass
from pathlib import Path

from definemed_pipeline.errors import UserError

SECONDS_FOR_ANOTHER = 60.0  # how long to wait for another process that is writing


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model answered, the tokens it is billed for (0 where the endpoint does not say), and why it stopped ("" likewise)."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    finish_reason: str = ""  # "stop", "length", ...; of answers kept before it was, "" too


class AnswerCache:
    """Answers by the digest of their request. Each is on disk when `put` returns; many threads and processes may use one cache.

    Raise UserError where the file cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "answers.sqlite"
        self._lock = threading.Lock()
        self._database = sqlite3.connect(path, timeout=SECONDS_FOR_ANOTHER, check_same_thread=False, isolation_level=None)
        try:
            # A write-ahead log without a sync per answer outlives a killed process, which is what it is for.
            self._database.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;")
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS answers (request TEXT PRIMARY KEY, answer TEXT NOT NULL) WITHOUT ROWID"
            )
        except sqlite3.Error as error:
            self._database.close()
            raise UserError(f"the cache of answers {path} cannot be used ({error}); move it away to ask anew") from error

    def get(self, request: str) -> Answer | None:
        """Return the answer kept for a request's digest."""
        with self._lock:
            row = self._database.execute("SELECT answer FROM answers WHERE request = ?", (request,)).fetchone()
        return Answer(**json.loads(row[0])) if row else None

    def put(self, request: str, answer: Answer) -> None:
        """Keep an answer. It is written as ASCII JSON, since models emit lone surrogates and NULs too."""
        with self._lock:
            self._database.execute(
                "INSERT OR REPLACE INTO answers VALUES (?, ?)", (request, json.dumps(dataclasses.asdict(answer)))
            )

    def close(self) -> None:
        """Close the file."""
        self._database.close()
