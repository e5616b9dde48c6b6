"""Answers that were paid for, kept in a SQLite file, so that a killed run asks for none of them twice."""

import dataclasses
import json
import sqlite3
import threading
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model answered, and the tokens it is billed for (0 where the endpoint does not say)."""

    text: str
    prompt_tokens: int
    completion_tokens: int


class AnswerCache:
    """Answers by the digest of their request. Each is on disk when `put` returns; many threads may use one cache."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._database = sqlite3.connect(folder / "answers.sqlite", check_same_thread=False, isolation_level=None)
        # A write-ahead log without a sync per answer outlives a killed process, which is what it is for.
        self._database.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS answers (request TEXT PRIMARY KEY, answer TEXT NOT NULL) WITHOUT ROWID"
        )

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
