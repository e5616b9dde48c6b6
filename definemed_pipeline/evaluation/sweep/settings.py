"""The recipe's section for the sweep, and what its payload is given. Standard library only, as in all settings.

It imports merging's section, because a candidate is one and is checked as one.
"""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any, Literal

from definemed_pipeline.evaluation.benchmarks.settings import BenchmarkScoresSettings
from definemed_pipeline.evaluation.failures.settings import FailureModesSettings
from definemed_pipeline.evaluation.settings import ResponsesSettings, TransformersGenerator
from definemed_pipeline.merging.settings import MergedModelsSettings
from definemed_pipeline.settings import as_json, from_json, setting, settings

Maximised = Literal["balance", "accuracy_kept", "instruction_following_recovered"]
LIMITED = ("accuracy_kept", "instruction_following_recovered")


@settings
class CandidateSettings:
    """A merge to try: a method with its parameters (see `merging/settings.py`); without `method` that of `merged_models`."""

    parameters: dict[str, Any] = setting(factory=dict)
    method: str | None = None


@settings
class RuleSettings:
    """Which candidate is taken: the one with the most of what is maximised, among those that keep the limits.

    `accuracy_kept` is the share of CPT's gain in accuracy that a merge keeps, `instruction_following_recovered` the share of CPT's loss of proper
    answers that it takes back: 0 is the one model's value and 1 the other's. `balance` is the smaller of the two: with it no
    goal is bought with the other. `at_least` sets least values of the two shares, `most_language_mixing` the greatest share of answers with foreign
    passages. Where no candidate keeps the limits, all compete, and a check warns. How ties are settled stands in `choose.py`.
    """

    maximise: Maximised = "balance"
    at_least: dict[str, float] = setting(factory=dict)
    most_language_mixing: float = setting(default=1.0, at_least=0, at_most=1)

    def __post_init__(self) -> None:
        if unknown := sorted(self.at_least.keys() - set(LIMITED)):
            raise ValueError(f"at_least names {unknown[0]!r}; allowed: {', '.join(LIMITED)}")


@settings
class MergeSweepSettings:
    """Which merges are tried, and how one of them is chosen; with neither `candidates` nor `grid`, `merged_models` says how to merge.

    `grid` maps parameters of `merged_models`' method to values: each combination is a candidate.
    """

    candidates: tuple[CandidateSettings, ...] = ()
    grid: dict[str, tuple[Any, ...]] = setting(factory=dict)
    rule: RuleSettings = setting(factory=RuleSettings)
    resamples: int = setting(default=10_000, at_least=100)
    seed: int = setting(default=0, at_least=0)

    def __post_init__(self) -> None:
        if empty := [name for name, values in self.grid.items() if not values]:
            raise ValueError(f"grid.{empty[0]} is empty; allowed: a list of one or more values")

    def merges(self, merge: MergedModelsSettings) -> list[MergedModelsSettings]:
        """Return what is tried for a base model that is otherwise merged by `merge`. Raise ValueError where a candidate does not fit or stands twice."""
        combinations = itertools.product(*self.grid.values()) if self.grid else ()
        in_grid = (CandidateSettings(parameters=dict(zip(self.grid, values, strict=True))) for values in combinations)
        found: list[MergedModelsSettings] = []
        for number, candidate in enumerate((*self.candidates, *in_grid), start=1):
            own = {"parameters": candidate.parameters} | ({"method": candidate.method} if candidate.method else {})
            try:
                tried = MergedModelsSettings.parse({**as_json(merge), **own})
            except ValueError as error:
                raise ValueError(f"candidate {number}: {error}") from None
            if tried in found:
                raise ValueError(f"candidate {number} stands twice; take one out")
            found.append(tried)
        return found


@settings
class SweptMergeSettings:
    """What a sweep of one base model depends on: the merge that is varied, and how models are asked and their answers diagnosed."""

    merge_sweep: MergeSweepSettings
    merged_models: MergedModelsSettings
    benchmark_scores: BenchmarkScoresSettings
    responses: ResponsesSettings
    failure_modes: FailureModesSettings

    @classmethod
    def of(
        cls,
        merge_sweep: MergeSweepSettings,
        merged_models: MergedModelsSettings,
        benchmark_scores: BenchmarkScoresSettings,
        responses: ResponsesSettings,
        failure_modes: FailureModesSettings,
    ) -> "SweptMergeSettings":
        """Compose the settings from a recipe's sections, less what a sweep does not read: a change of that is no reason to measure anew.

        Raise ValueError where candidates do not fit, or where nothing is kept for validation.
        """
        if not merge_sweep.merges(merged_models):
            return cls(
                merge_sweep=merge_sweep,
                merged_models=merged_models,
                benchmark_scores=benchmark_scores,
                responses=responses,
                failure_modes=failure_modes,
            )
        benchmarks = {name: one for name, one in benchmark_scores.benchmarks.items() if one.in_average and one.validation_share}
        sets = {name: one for name, one in responses.instruction_sets.items() if one.validation_share}
        for kept, place in ((benchmarks, "benchmark_scores.benchmarks"), (sets, "responses.instruction_sets")):
            if not kept:
                raise ValueError(f"there are candidates, and none of {place} has a validation_share to measure them on; set one")
        # Candidates are served by nobody: their own weights answer, also where the published models answer through an endpoint.
        generator = responses.generator if isinstance(responses.generator, TransformersGenerator) else TransformersGenerator()
        resamples, seed = merge_sweep.resamples, merge_sweep.seed
        return cls(
            merge_sweep=merge_sweep,
            merged_models=merged_models,
            benchmark_scores=dataclasses.replace(
                benchmark_scores, benchmarks=benchmarks, instruction_following={}, resamples=resamples, seed=seed
            ),
            responses=dataclasses.replace(responses, instruction_sets=sets, generator=generator),
            failure_modes=dataclasses.replace(failure_modes, examples=0, resamples=resamples, seed=seed),
        )

    @classmethod
    def parse(cls, section: Mapping[str, Any]) -> "SweptMergeSettings":
        """Build the settings from a payload's JSON."""
        parsed: SweptMergeSettings = from_json(cls, section)
        return parsed

    def sources(self) -> dict[str, str]:
        """Return the files of questions, instructions, lexicons and other models, by the names under which a draft finds them."""
        parts = (self.benchmark_scores, self.responses, self.failure_modes, self.merged_models)
        return {name: location for part in parts for name, location in part.sources().items()}
