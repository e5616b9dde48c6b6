import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from definemed_pipeline.training.telemetry import DIVERGENCE_STEPS, DivergenceWatch, Pace, Telemetry, duration


def test_tokens_and_flops_per_second_follow_from_the_pace() -> None:
    pace = Pace(tokens_per_step=1000, flops_per_token=6e9, peak_flops=1e13)
    assert pace.tokens_per_s(2.0, steps=4) == 2000
    assert pace.mfu(2.0, steps=4) == pytest.approx(1.2)


@pytest.mark.parametrize("known", [{}, {"flops_per_token": 6e9}, {"peak_flops": 1e13}])
def test_where_something_is_not_known_no_utilisation_is_told(known) -> None:
    assert Pace(tokens_per_step=1000, **known).mfu(1.0) is None


def test_every_step_leaves_a_row_and_the_last_a_line(tmp_path) -> None:
    said: list[str] = []
    telemetry = Telemetry(Pace(tokens_per_step=128), rows=tmp_path / "rows.jsonl", report=said.append)
    telemetry.start(0, 3)
    for step in (1, 2, 3):
        telemetry.step({"step": step, "loss": 2.5, "grad_norm": 0.5, "learning_rate": 1e-4})
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert all(row["tokens_per_s"] > 0 and row["memory_gib"] > 0 and row["mfu"] is None for row in rows)
    assert len(said) == 1
    assert said[0].startswith("step 3/3 · loss 2.500 · gradient norm 0.50 · learning rate 0.0001 · ")
    assert said[0].endswith("0 s left")


def test_what_is_done_between_steps_does_not_count_as_training(tmp_path, monkeypatch) -> None:
    clock = iter([0.0, 1.0, 50.0, 52.0, 60.0, 61.0])
    monkeypatch.setattr("definemed_pipeline.training.telemetry.time.monotonic", lambda: next(clock))
    telemetry = Telemetry(Pace(tokens_per_step=10), rows=tmp_path / "rows.jsonl", report=lambda _: None)
    row = {"loss": 1.0, "grad_norm": 1.0, "learning_rate": 0.0}
    telemetry.start(0, 9)  # at 0
    telemetry.step_is_over()  # at 1; an evaluation follows
    assert telemetry.step({"step": 1, **row})["tokens_per_s"] == 10  # at 50
    assert telemetry.step({"step": 2, **row})["tokens_per_s"] == 5  # at 52; a checkpoint follows
    telemetry.resume()  # at 60
    assert telemetry.step({"step": 3, **row})["tokens_per_s"] == 10


@given(st.lists(st.floats(0, 10), max_size=100))
def test_a_loss_that_never_rises_above_the_limit_does_not_diverge(losses) -> None:
    watch = DivergenceWatch(limit=10.1)
    assert not any(watch.has_diverged(loss) for loss in losses)


@given(low=st.floats(0, 5), rise=st.floats(1.1, 5))
def test_a_loss_that_stays_high_has_diverged_and_a_single_spike_has_not(low, rise) -> None:
    watch = DivergenceWatch(limit=1.0)
    assert not any(watch.has_diverged(low) for _ in range(DIVERGENCE_STEPS))
    assert not watch.has_diverged(low + rise)  # one of twenty
    assert not any(watch.has_diverged(low) for _ in range(DIVERGENCE_STEPS))
    assert any(watch.has_diverged(low + rise) for _ in range(DIVERGENCE_STEPS))


def test_without_a_limit_nothing_diverges() -> None:
    watch = DivergenceWatch(limit=math.inf)
    assert not any(watch.has_diverged(float(loss)) for loss in range(100))


@pytest.mark.parametrize(("seconds", "told"), [(5, "5 s"), (99.4, "99 s"), (600, "10 min"), (36000, "10.0 h")])
def test_durations_read_as_people_say_them(seconds, told) -> None:
    assert duration(seconds) == told
