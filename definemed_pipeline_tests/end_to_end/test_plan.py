"""The plan of what has been built is what was built: the micro graph, planned from its own lake."""

from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.plan.planner import Given, plan_recipe
from definemed_pipeline.recipe import load_recipe
from definemed_pipeline.training.gpus import gpu_named
from definemed_pipeline_tests.end_to_end.conftest import Workplace


def test_blocks_steps_tokens_and_parameters_are_those_of_the_training(finished: Workplace) -> None:
    plans = plan_recipe(Store(str(finished.lake)), load_recipe(finished.recipe), Given(gpu=gpu_named("h100")))
    artifacts = finished.artifacts()
    assert plans
    for plan in plans:
        trained = artifacts["cpt_checkpoints", plan.name].metrics
        planned = (plan.schedule.blocks, plan.schedule.steps, plan.schedule.trained_tokens, plan.shape.value.parameters)
        assert planned == tuple(trained[name] for name in ("blocks", "steps", "trained_tokens", "parameters"))
        assert plan.rate is not None
        assert plan.rate.value == trained["tokens_per_s"] / trained["processes"]
        assert not plan.corpus.attended_length.is_assumed


def test_the_command_says_that_it_read_the_lake(finished: Workplace) -> None:
    done = finished.definemed("plan", finished.recipe)
    assert "assumed: one GPU" in done.stdout
    assert done.stdout.count("cpt_corpus in the lake") >= 2
    assert done.stdout.count("measured on CPU, cpt_checkpoints in the lake") == 2
