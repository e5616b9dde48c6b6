"""The chat judge: show a chat model an instruction with two answers, in both orders, and read which it prefers.

A verdict is the value of the verdict key in the answer's JSON object; where the answer is no JSON, what `chat/verdicts.py` finds in it. An
answer without a verdict leaves its game open and is counted.
"""

import contextlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from definemed_pipeline.artifacts.sources import packaged_location
from definemed_pipeline.chat.client import ChatClient, Conversation
from definemed_pipeline.chat.progress import Progress
from definemed_pipeline.chat.verdicts import VerdictReader, response_format, spoken
from definemed_pipeline.evaluation.pairwise.settings import ChatJudgeSettings
from definemed_pipeline.evaluation.pairwise.verdicts import ORDERS, Contest, Verdicts

RUBRIC_VARIABLES = frozenset({"instruction", "reference", "first", "second"})
Game = tuple[int, str, str]  # instruction, the answer shown first, the answer shown second


def rubric_location(name: str) -> str:
    """Return the location of a rubric: a packaged one by its name, any other by its path or URL; raise UserError for neither."""
    return packaged_location("evaluation/pairwise/prompts", name, "win_rates.judge.rubric", suffix=".jinja")


def judge_by_chat(
    contest: Contest,
    judge: ChatJudgeSettings,
    *,
    rubric: jinja2.Template,
    cache_folder: Path,
    report: Callable[[str], None],
) -> tuple[Verdicts, dict[str, float]]:
    """Judge every pair on every instruction in both orders; return the verdicts and the accounting of the client.

    Games with the same texts are asked once, whoever plays them.
    """
    shape = (len(contest.pairs), contest.instructions.height, len(ORDERS))
    games = {
        (pair, instruction, order): game
        for pair, (one, other) in enumerate(contest.pairs)
        for instruction in range(shape[1])
        for order, game in enumerate(_games(contest, contest.index(one), contest.index(other), instruction))
    }
    asked = [game for game in dict.fromkeys(games.values()) if game[1] != game[2]]
    report(f"judging {len(games):,} games of {len(contest.models)} models, {len(asked):,} of them different")
    with ChatClient(judge.endpoint, cache_folder) as client:
        said = dict(zip(asked, _ask(client, contest, asked, judge=judge, rubric=rubric, report=report), strict=True))
        accounting = {**asdict(client.usage), **client.cost()}
    read = JudgeReader(judge)
    verdicts = {game: read(text) for game, text in said.items()}
    scores, words = np.full(shape, np.nan), np.full(shape, None, dtype=object)
    for place, game in games.items():
        if game in said:
            words[place] = said[game]
            if (score := verdicts[game]) is not None:
                scores[place] = score if place[2] == 0 else 1 - score
        else:
            scores[place] = 0.5
    is_asked = np.array([game in said for game in games.values()]).reshape(shape)
    return Verdicts(contest=contest, scores=scores, said=words, is_asked=is_asked), accounting


def _games(contest: Contest, one: int, other: int, instruction: int) -> tuple[Game, Game]:
    first, second = contest.texts[one, instruction], contest.texts[other, instruction]
    return (instruction, first, second), (instruction, second, first)


def _ask(
    client: ChatClient,
    contest: Contest,
    games: list[Game],
    *,
    judge: ChatJudgeSettings,
    rubric: jinja2.Template,
    report: Callable[[str], None],
) -> list[str]:
    asked = contest.instructions.select("instruction", "reference").rows()

    def conversation(game: Game) -> Conversation:
        instruction, reference = asked[game[0]]
        text = rubric.render(instruction=instruction, reference=reference, first=game[1], second=game[2])
        return [{"role": "user", "content": text}]

    read, progress, said = JudgeReader(judge), Progress(client, report, of="games"), []
    asking = client.answers(
        (conversation(game) for game in games),
        temperature=judge.temperature,
        max_tokens=judge.max_tokens,
        response_format=response_format(judge.response_format, _properties(judge)),
    )
    with contextlib.closing(asking) as answers:
        for answer in answers:
            said.append(answer.text)
            progress.count(verdict=read(answer.text) is not None)
    return said


def _properties(judge: ChatJudgeSettings) -> dict[str, dict[str, Any]]:
    allowed = [words[0] for words in (judge.first_verdicts, judge.second_verdicts, judge.tie_verdicts)]
    return {judge.reason_key: {"type": "string"}, judge.verdict_key: {"type": "string", "enum": allowed}}


class JudgeReader:
    """Reads the score of the answer shown first from a judge's words: 1, 0.5 or 0; None where they hold no verdict."""

    def __init__(self, judge: ChatJudgeSettings) -> None:
        words = {1.0: judge.first_verdicts, 0.0: judge.second_verdicts, 0.5: judge.tie_verdicts}
        self._key = judge.verdict_key
        self._scores = {word.casefold(): score for score, given in words.items() for word in given}
        self._read = VerdictReader(judge.verdict_key, words)

    def __call__(self, answer: str) -> float | None:
        """Return the score. A JSON object with the key decides, also where it says something else: its reason may quote anything."""
        found = _json_object(spoken(answer))
        if self._key in found:
            return self._scores.get(str(found[self._key]).strip(" .*\"'").casefold())
        return self._read(answer)


def _json_object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text[text.index("{") : text.rindex("}") + 1])
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
