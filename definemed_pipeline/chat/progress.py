"""What is told while answers come in: how many, how quickly, and what they cost so far."""

import time
from collections.abc import Callable

from definemed_pipeline.chat.client import ChatClient

SECONDS_BETWEEN_REPORTS = 5.0


class Progress:
    """Tells now and then how many answers came. `of` names what is answered, in the plural."""

    def __init__(self, client: ChatClient, report: Callable[[str], None], *, of: str) -> None:
        self._client, self._report, self._of = client, report, of
        self._answered = self._open = 0
        self._started = self._reported = time.monotonic()

    def count(self, *, verdict: bool = True) -> None:
        """Count one answer, and whether a verdict was found in it."""
        self._answered += 1
        self._open += not verdict
        now = time.monotonic()
        if now - self._reported < SECONDS_BETWEEN_REPORTS:
            return
        self._reported = now
        without = f", {self._open:,} of them without a verdict" if self._open else ""
        rate = self._answered / (now - self._started)
        cost = "".join(f", cost so far {cost:,.2f}" for cost in self._client.cost().values())
        self._report(f"{self._answered:,} answers{without}, {rate:,.1f} {self._of}/s{cost}")
