import itertools
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from definemed_pipeline.errors import StoppedError, UserError
from definemed_pipeline.training.batches import collate
from definemed_pipeline.training.blocks import IGNORED, PackedBlocks
from definemed_pipeline.training.checkpoints import Checkpoints
from definemed_pipeline.training.packing import pack
from definemed_pipeline.training.perplexity import mean_loss
from definemed_pipeline.training.settings import TrainingExecutionSettings
from definemed_pipeline.training.telemetry import Pace, Telemetry
from definemed_pipeline.training.trainer import BlockSequence, Evaluation, Optimisation, prepare_process, train
from definemed_pipeline_tests.training.micro_training import LENGTH, VOCABULARY, write_base, write_blocks

OPTIMISATION = {
    "steps": 8,
    "global_batch_size": 4,
    "learning_rate": 1e-2,
    "warmup_steps": 2,
    "weight_decay": 0.1,
    "adam_beta1": 0.9,
    "adam_beta2": 0.95,
    "max_grad_norm": 1.0,
    "seed": 1,
}


def rows(items):
    return collate(items, flattened=False)


@pytest.fixture
def blocks(tmp_path) -> PackedBlocks:
    return PackedBlocks(write_blocks(tmp_path / "blocks"))


@pytest.fixture
def held_out(tmp_path) -> PackedBlocks:
    return PackedBlocks(write_blocks(tmp_path / "held_out", documents=9))


@pytest.fixture
def base(tmp_path):
    prepare_process()
    return write_base(tmp_path / "base")


@pytest.fixture
def model(base):
    return AutoModelForCausalLM.from_pretrained(base)


@pytest.fixture(params=[False, True], ids=["plain", "evaluated"])
def evaluation(request, held_out) -> Evaluation | None:
    return Evaluation(held_out={"corpus": held_out}, every=3, blocks=2) if request.param else None


def trained(model, blocks, folder, *, execution=None, said=None, telemetry=True, evaluation=None, stop=lambda: False, **changes):
    """Train a few steps; keywords replace single values of the optimisation."""
    optimisation = Optimisation(**{**OPTIMISATION, **changes})
    report = (said if said is not None else []).append
    folder.mkdir(parents=True, exist_ok=True)
    return train(
        model,
        BlockSequence(blocks, range(len(blocks)), items=optimisation.steps * optimisation.global_batch_size, seed=1),
        optimisation,
        TrainingExecutionSettings(
            **{"micro_batch_size": 4, "activation_checkpointing": "none", "checkpoint_every": 100, **(execution or {})}
        ),
        checkpoints=Checkpoints(folder, mirror=None, kept=2, report=report),
        telemetry=Telemetry(Pace(tokens_per_step=4 * LENGTH), rows=folder / "rows.jsonl", report=report) if telemetry else None,
        evaluation=evaluation,
        collate=rows,
        stop=stop,
    )


@settings(deadline=None, max_examples=50)
@given(count=st.integers(1, 30), passes=st.integers(1, 4), seed=st.integers(0, 1000))
def test_every_pass_sees_each_block_once_in_an_order_of_its_own(count, passes, seed) -> None:
    choice = list(range(100, 100 + count))
    order = BlockSequence(None, choice, items=count * passes, seed=seed).order.reshape(passes, count)
    assert all(sorted(one_pass) == choice for one_pass in order.tolist())
    again = BlockSequence(None, choice, items=count * passes, seed=seed).order
    assert (order.reshape(-1) == again).all()


def test_training_lowers_the_loss_and_logs_every_step(model, blocks, tmp_path) -> None:
    before = mean_loss(model, blocks, range(len(blocks)), collate=rows)
    log = trained(model, blocks, tmp_path / "run", steps=30).log
    assert mean_loss(model, blocks, range(len(blocks)), collate=rows) < before
    assert [row["step"] for row in log] == list(range(1, 31))
    assert set(log[0]) == {"step", "loss", "learning_rate", "grad_norm"}


def test_the_loss_of_fifty_steps_is_that_of_a_plain_loop(model, base, blocks, tmp_path) -> None:
    log = trained(model, blocks, tmp_path / "run", steps=50, execution={"micro_batch_size": 2}).log
    expected = plain_loop(AutoModelForCausalLM.from_pretrained(base), blocks, steps=50)
    assert [row["loss"] for row in log] == pytest.approx(expected, abs=1e-6)


def plain_loop(model, blocks, *, steps) -> list[float]:
    """Train as the docstrings say, in as few words as possible: each document by itself, nothing packed, nothing accumulated."""
    order = BlockSequence(blocks, range(len(blocks)), items=steps * 4, seed=1).order.tolist()
    decayed = [weight for name, weight in model.named_parameters() if "norm" not in name and "bias" not in name]
    optimizer = torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": 0.1},
            {
                "params": [weight for name, weight in model.named_parameters() if "norm" in name or "bias" in name],
                "weight_decay": 0.0,
            },
        ],
        lr=1e-2,
        betas=(0.9, 0.95),
    )
    losses = []
    for step in range(steps):
        summed, predicted = torch.zeros(()), 0
        for block in order[4 * step : 4 * step + 4]:
            ids = torch.from_numpy(blocks[block]["input_ids"])
            labels = torch.from_numpy(blocks[block]["labels"])
            starts = [*torch.nonzero(torch.from_numpy(blocks[block]["position_ids"]) == 0).flatten().tolist(), len(ids)]
            for first, last in itertools.pairwise(starts):
                logits = model(ids[None, first:last]).logits[0, :-1]
                wanted = labels[first + 1 : last]
                summed = summed + torch.nn.functional.cross_entropy(logits, wanted, ignore_index=IGNORED, reduction="sum")
                predicted += int((wanted != IGNORED).sum())
        loss = summed / predicted
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * (step / 2 if step < 2 else (steps - step) / (steps - 2))
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_the_learning_rate_warms_up_and_decays_linearly_to_zero(model, blocks, tmp_path) -> None:
    log = trained(model, blocks, tmp_path / "run", steps=8, warmup_steps=2, learning_rate=6e-3).log
    assert [row["learning_rate"] for row in log] == pytest.approx([0, 3e-3, 6e-3, 5e-3, 4e-3, 3e-3, 2e-3, 1e-3])


@pytest.mark.parametrize("micro_batch_size", [1, 2, 3])
def test_a_step_is_the_same_however_many_blocks_are_taken_at_once(model, base, blocks, tmp_path, micro_batch_size) -> None:
    whole = trained(model, blocks, tmp_path / "whole").log
    parts = trained(
        AutoModelForCausalLM.from_pretrained(base), blocks, tmp_path / "parts", execution={"micro_batch_size": micro_batch_size}
    ).log
    assert [row["loss"] for row in parts] == pytest.approx([row["loss"] for row in whole], rel=1e-4)


@pytest.mark.parametrize("changes", [{"precision": "bfloat16"}])
def test_half_precision_and_activation_checkpointing_train_the_same_task(model, base, blocks, tmp_path, changes) -> None:
    plain = trained(model, blocks, tmp_path / "plain").log
    other = AutoModelForCausalLM.from_pretrained(base)
    changed = trained(other, blocks, tmp_path / "changed", **changes).log
    assert [row["loss"] for row in changed] == pytest.approx([row["loss"] for row in plain], rel=1e-2)
    assert other.dtype == torch.float32


def test_a_loss_that_is_no_number_stops_training_naming_step_and_documents(model, blocks, tmp_path) -> None:
    with torch.no_grad():
        model.get_input_embeddings().weight[5] = math.nan
    with pytest.raises(UserError, match=r"the loss became nan in step 1, on blocks \d.* of documents document-"):
        trained(model, blocks, tmp_path / "run")


def test_of_a_step_only_the_blocks_that_gave_no_number_are_named(model, blocks, tmp_path) -> None:
    rare = next(
        token for token in range(39, 0, -1) if 0 < sum(token in blocks[block]["input_ids"] for block in range(len(blocks))) < 4
    )
    holding = {block for block in range(len(blocks)) if rare in blocks[block]["input_ids"]}
    with torch.no_grad():
        model.get_input_embeddings().weight[rare] = math.nan
    with pytest.raises(UserError) as stopped:
        trained(model, blocks, tmp_path / "run", steps=20, execution={"micro_batch_size": 1})
    named = str(stopped.value).split("on blocks ")[1].split(" of documents")[0]
    assert {int(block) for block in named.split(", ")} <= holding


def test_a_loss_that_runs_away_stops_training_before_all_steps_are_paid_for(model, blocks, tmp_path) -> None:
    with pytest.raises(UserError, match=r"the loss of the last steps rose 0.5 above its lowest mean, to .* lower learning_rate"):
        trained(model, blocks, tmp_path / "run", steps=400, learning_rate=1.0, warmup_steps=60, divergence=0.5)


def test_what_the_model_keeps_for_generating_is_as_before(model, blocks, tmp_path) -> None:
    trained(model, blocks, tmp_path / "run")
    assert model.config.use_cache


def test_held_out_sets_are_looked_at_before_after_and_between(model, blocks, held_out, tmp_path) -> None:
    said: list[str] = []
    evaluation = Evaluation(held_out={"corpus": held_out, "general": blocks}, every=3, blocks=4)
    found = trained(model, blocks, tmp_path / "run", steps=8, said=said, evaluation=evaluation).perplexities
    assert [row["step"] for row in found] == [0, 3, 6, 8]
    expected = math.exp(mean_loss(model, held_out, range(4), collate=rows))
    assert found[-1]["corpus"] == pytest.approx(expected, rel=1e-5)
    assert any("step 3/8 · held-out perplexity: corpus" in line for line in said)


def test_the_best_weights_are_kept_where_they_are_wanted(model, blocks, tmp_path) -> None:
    noise = [
        ("noise", np.random.default_rng(1).integers(0, VOCABULARY, 6 * LENGTH).astype(np.uint32))
    ]  # the more is learnt, the worse
    (tmp_path / "noise").mkdir()
    pack([noise], tmp_path / "noise", sequence_length=LENGTH, vocabulary_size=VOCABULARY, padding_id=0)
    held_out = PackedBlocks(tmp_path / "noise")
    evaluation = Evaluation(held_out={"corpus": held_out}, every=2, blocks=4, keep_best=True)
    found = trained(model, blocks, tmp_path / "run", steps=20, evaluation=evaluation).perplexities
    best = min(found[1:], key=lambda row: row["corpus"])
    assert best["step"] < 20, "the last weights are the best ones, so this shows nothing"
    assert math.exp(mean_loss(model, held_out, range(4), collate=rows)) == pytest.approx(best["corpus"], rel=1e-5)


def test_a_training_that_is_asked_to_stop_goes_on_to_the_same_weights(base, blocks, tmp_path, evaluation) -> None:
    model = AutoModelForCausalLM.from_pretrained(base)
    undisturbed = trained(model, blocks, tmp_path / "whole", steps=12, evaluation=evaluation)
    answers = iter([False] * 3 + [True])
    with pytest.raises(StoppedError, match="stopped at step 4/12; its checkpoint is saved"):
        trained(
            AutoModelForCausalLM.from_pretrained(base), blocks, tmp_path / "parts", steps=12, evaluation=evaluation,
            stop=lambda: next(answers),
        )  # fmt: skip
    other = AutoModelForCausalLM.from_pretrained(base)
    said: list[str] = []
    continued = trained(other, blocks, tmp_path / "parts", steps=12, evaluation=evaluation, said=said)
    assert said[0] == "going on from checkpoint-4"
    assert (continued.log, continued.perplexities) == (undisturbed.log, undisturbed.perplexities)
    assert all(torch.equal(one, two) for one, two in zip(model.parameters(), other.parameters(), strict=True))


def test_the_speed_of_every_step_is_told_and_survives_a_stop(model, base, blocks, tmp_path) -> None:
    answers = iter([False] * 2 + [True])
    with pytest.raises(StoppedError):
        trained(model, blocks, tmp_path / "run", stop=lambda: next(answers))
    speed = trained(AutoModelForCausalLM.from_pretrained(base), blocks, tmp_path / "run").speed
    assert [row["step"] for row in speed] == list(range(1, 9))
    assert all(row["tokens_per_s"] > 0 for row in speed)
    lines = (tmp_path / "run" / "rows.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 9))
