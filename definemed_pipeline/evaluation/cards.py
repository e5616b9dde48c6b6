"""The model card of a merged model: a README.md as the Hugging Face Hub shows it, every number read from artifacts."""

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.artifacts.manifest import UNPARTITIONED, Manifest
from definemed_pipeline.evaluation.benchmarks.accuracy import MACRO
from definemed_pipeline.evaluation.effect import read_effect
from definemed_pipeline.evaluation.failures.diagnosis import FAILURES
from definemed_pipeline.evaluation.settings import ModelCardsSettings
from definemed_pipeline.evaluation.stages import STAGES
from definemed_pipeline.intervals import Estimate

TEMPLATE = "model_card.md.jinja"
UNKNOWN = "unknown"  # the Hub's identifier of a licence that nobody named
CONTROLLED = {"value": "length_controlled", "low": "length_controlled_low", "high": "length_controlled_high"}


def write_card(draft: Draft[ModelCardsSettings]) -> None:
    """Write the card of a base model's merged model as `README.md`."""
    base_model = draft.identity.partition
    scores_folder, failures_folder = draft.input("benchmark_scores", base_model), draft.input("failure_modes")
    scores = json.loads((scores_folder / "scores.json").read_text("utf-8"))
    name = draft.settings.name.format(base_model=base_model)
    card = _template().render(
        front_matter=_front_matter(draft, name, scores),
        name=name,
        license=_license(draft),
        unknown=UNKNOWN,
        base_model=base_model,
        base_name=_base_name(draft),
        field=draft.settings.field,
        intended_use=draft.settings.intended_use,
        limits=draft.settings.limits,
        stages=STAGES,
        metric=scores["metric"],
        accuracy=_accuracy_rows(scores),
        differences=_difference_rows(scores),
        **_win_rates(draft.input("win_rates"), base_model),
        **_judge(draft.input_manifest("win_rates")),
        failures=_failure_rows(failures_folder, base_model),
        effect=read_effect(base_model, benchmark_scores=scores_folder, failure_modes=failures_folder),
        corpus=_corpus(draft),
        merge_recipe=(draft.input("merged_models", base_model) / "merge.yaml").read_text("utf-8"),
        inputs=_inputs(draft),
    )
    (draft.folder / "README.md").write_text(card, "utf-8")
    merged = scores["accuracy"]["merged"][MACRO]
    draft.metrics |= {key: merged[key] for key in ("accuracy", "accuracy_low", "accuracy_high")}


def _template() -> Any:
    import jinja2

    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    environment.filters |= {"percent": _percent, "points": _points}
    return environment.from_string(resources.files(__package__).joinpath(TEMPLATE).read_text("utf-8"))


def _percent(estimate: Estimate) -> str:
    return f"{100 * estimate.value:.1f} % ({100 * estimate.low:.1f}–{100 * estimate.high:.1f})"


def _points(difference: Estimate) -> str:
    return f"{100 * difference.value:+.1f} points ({100 * difference.low:+.1f} to {100 * difference.high:+.1f})"


def _front_matter(draft: Draft[ModelCardsSettings], name: str, scores: Mapping[str, Any]) -> str:
    settings = draft.settings
    checked = draft.input_manifest("benchmark_scores", draft.identity.partition).identity.settings["instruction_following"]
    results = [
        {
            "task": {"type": "text-generation" if benchmark in checked else "multiple-choice"},
            "dataset": {"name": benchmark, "type": benchmark},
            "metrics": [
                {
                    "type": "accuracy",
                    "name": "all rules kept" if benchmark in checked else scores["metric"],
                    "value": round(values["accuracy"], 4),
                }
            ],
        }
        for benchmark, values in scores["accuracy"]["merged"].items()
        if benchmark != MACRO
    ]
    front = {
        "language": list(settings.languages),
        "license": _license(draft),
        "base_model": _base_name(draft),
        "base_model_relation": "merge",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["merge", "mergekit", *settings.tags],
        "model-index": [{"name": name, "results": results}],
    }
    return yaml.safe_dump(front, sort_keys=False, allow_unicode=True)


def _license(draft: Draft[ModelCardsSettings]) -> str:
    return draft.settings.licenses.get(draft.identity.partition, UNKNOWN)


def _base_name(draft: Draft[ModelCardsSettings]) -> str:
    """Return the Hub repository the base model came from, else its name in the recipe."""
    base_model = draft.identity.partition
    origin = draft.input_manifest("base_models", base_model).identity.settings
    return str(origin.get("repository") or base_model)


def _accuracy_rows(scores: Mapping[str, Any]) -> list[dict[str, Any]]:
    accuracy = scores["accuracy"]
    return [
        {
            "benchmark": _title(benchmark),
            "questions": accuracy["merged"][benchmark]["questions"],
            "stages": [_estimate(accuracy[stage][benchmark], "accuracy") for stage in STAGES],
        }
        for benchmark in sorted(accuracy["merged"], key=lambda benchmark: (benchmark == MACRO, benchmark))
    ]


def _title(benchmark: str) -> str:
    return "average" if benchmark == MACRO else benchmark


def _difference_rows(scores: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "before": row["before"],
            "after": row["after"],
            "benchmark": _title(row["benchmark"]),
            "estimate": _estimate(row, "difference"),
            "p": row["mcnemar_p_holm"],
        }
        for row in scores["differences"]
    ]


def _win_rates(folder: Path, base_model: str) -> dict[str, Any]:
    """Return the stages' win rates against the recipe's opponent, which is the one the differences were measured against."""
    opponent = pl.read_parquet(folder / "win_rate_differences.parquet").row(0, named=True)
    against = pl.read_parquet(folder / "win_rates.parquet").filter(
        base_model=base_model,
        opponent_base_model=opponent["opponent_base_model"],
        opponent_stage=opponent["opponent_stage"],
    )
    rows = [
        {
            **row,
            "estimate": Estimate(value=row["win_rate"], low=row["low"], high=row["high"]),
            "controlled": None
            if row["length_controlled"] is None
            else Estimate(**{part: row[name] for part, name in CONTROLLED.items()}),
        }
        for stage in STAGES
        for row in against.filter(stage=stage).iter_rows(named=True)
    ]
    return {
        "win_rates": rows,
        "opponent": f"{opponent['opponent_base_model']}, {opponent['opponent_stage']}",
        "instructions": rows[0]["wins"] + rows[0]["ties"] + rows[0]["losses"],
    }


def _judge(win_rates: Manifest) -> dict[str, Any]:
    return {"judge": win_rates.identity.settings["judge"], "kin_of_judge": win_rates.metrics.get("kin_of_judge", "")}


def _failure_rows(folder: Path, base_model: str) -> list[dict[str, Any]]:
    rates = pl.read_parquet(folder / "failure_rates.parquet").filter(base_model=base_model)
    found = {
        (row["failure"], row["stage"]): Estimate(value=row["rate"], low=row["low"], high=row["high"])
        for row in rates.iter_rows(named=True)
    }
    measured = [failure for failure in FAILURES if (failure, STAGES[0]) in found]
    return [{"failure": failure, "stages": [found[failure, stage] for stage in STAGES]} for failure in measured]


def _corpus(draft: Draft[ModelCardsSettings]) -> dict[str, Any]:
    documents = pl.scan_parquet(draft.input("finemed_de") / "data" / "*.parquet")
    counts = documents.select(pl.len().alias("documents"), pl.col("words").sum()).collect().row(0, named=True)
    manifest = draft.input_manifest("finemed_de")
    return {**counts, "version": manifest.version, "name": manifest.identity.settings["card"]["name"]}


def _inputs(draft: Draft[ModelCardsSettings]) -> list[dict[str, str]]:
    return [
        {
            "name": item.asset if item.partition == UNPARTITIONED else f"{item.asset}[{item.partition}]",
            "version": item.version,
            "digest": item.digest,
        }
        for item in sorted(draft.identity.inputs, key=lambda item: (item.asset, item.partition))
    ]


def _estimate(values: Mapping[str, float], name: str) -> Estimate:
    return Estimate(value=values[name], low=values[f"{name}_low"], high=values[f"{name}_high"])
