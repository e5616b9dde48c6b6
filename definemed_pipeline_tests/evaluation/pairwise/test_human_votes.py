import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from definemed_pipeline.artifacts.manifest import Manifest, Source
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.errors import UserError
from definemed_pipeline.evaluation.pairwise.compare import compare_responses, judge_sources
from definemed_pipeline.evaluation.pairwise.human_votes import _kappa_and_share, read_votes
from definemed_pipeline.evaluation.pairwise.settings import WinRatesSettings
from definemed_pipeline_tests.conftest import build_artifact
from definemed_pipeline_tests.evaluation.conftest import REFERENCE, Say, write_lines

OTHER = "Kiel liegt am Meer."
ANSWERS = {
    "qwen2": {
        stage: dict.fromkeys("abcd", (REFERENCE if stage == "base" else OTHER, True)) for stage in ("base", "cpt", "merged")
    }
}


def vote(instruction: str, response: str, opponent: str, said: str) -> dict[str, str]:
    named = {"instruction_set": "fragen", "instruction_id": instruction}
    return {**named, "response": response, "opponent_response": opponent, "vote": said}


@pytest.fixture
def compare(store: Store, say: Say, tmp_path: Path) -> Callable[[list[dict[str, str]]], Manifest]:
    def build(votes: list[dict[str, str]]) -> Manifest:
        file = write_lines(tmp_path / "votes.jsonl", votes)
        section = WinRatesSettings(opponent_base_model="qwen2", resamples=200, human_votes=str(file))
        sources = {name: place for name, place in judge_sources(section).items() if place is not None}
        return build_artifact(store, "win_rates", compare_responses, section, inputs=say(ANSWERS), sources=sources)

    return build


def test_votes_count_for_whoever_gave_the_answers_in_either_order(compare: Callable[..., Manifest], store: Store) -> None:
    votes = [
        vote("a", REFERENCE, OTHER, "win"),
        vote("b", OTHER, REFERENCE, "loss"),
        vote("c", REFERENCE, OTHER, "loss"),
        vote("d", OTHER, OTHER, "tie"),
        vote("d", "Was niemand mehr sagt.", OTHER, "win"),
    ]
    manifest = compare(votes)
    metrics = manifest.metrics
    assert (metrics["human_votes"], metrics["human_votes_outdated"], metrics["human_votes_unread"]) == (4, 1, 0)
    assert metrics["human_agreement"] == 0.75
    assert metrics["human_agreement_low"] <= 0.75 <= metrics["human_agreement_high"]
    written = json.loads((store.folder(manifest) / "human_agreement.json").read_text("utf-8"))
    assert written["kappa"] == metrics["kappa"] == pytest.approx((0.75 - 0.3125) / (1 - 0.3125))


def test_votes_that_are_all_out_of_date_leave_the_agreement_unknown(compare: Callable[..., Manifest]) -> None:
    metrics = compare([vote("a", "Was niemand mehr sagt.", OTHER, "win")]).metrics
    assert (metrics["human_votes"], metrics["human_votes_outdated"], metrics["kappa"]) == (0, 1, None)


def test_kappa_is_the_one_that_scikit_learn_computes() -> None:
    from sklearn.metrics import cohen_kappa_score

    generator = np.random.default_rng(0)
    judged, voted = generator.integers(0, 3, 200), generator.integers(0, 3, 200)
    voted = np.where(generator.random(200) < 0.5, judged, voted)
    table = np.zeros((1, 3, 3))
    np.add.at(table[0], (judged, voted), 1)
    kappa, share = _kappa_and_share(table)[0]
    assert kappa == pytest.approx(cohen_kappa_score(judged, voted))
    assert share == pytest.approx((judged == voted).mean())
    assert math.isnan(_kappa_and_share(np.array([[[5.0, 0, 0], [0, 0, 0], [0, 0, 0]]]))[0, 0])


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ({**vote("a", "x", "y", "win"), "vote": "besser"}, r"line 1: vote is 'besser'; allowed: win, tie, loss"),
        ({"vote": "win"}, r"line 1: a vote holds the texts instruction_set, instruction_id"),
    ],
)
def test_a_vote_that_does_not_fit_is_told_with_its_line(tmp_path: Path, line: dict[str, str], told: str) -> None:
    file = write_lines(tmp_path / "votes.jsonl", [line])
    with pytest.raises(UserError, match=told):
        read_votes(Source(name="human_votes", location=str(file), digest=""))
