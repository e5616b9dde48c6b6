"""The report: one HTML page without a server or a script, every number on it read from an artifact and marked with its place."""

from importlib import resources
from typing import Any

import jinja2

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.artifacts.lineage import lineage_of
from definemed_pipeline.evaluation.report.benchmarks import read_benchmarks
from definemed_pipeline.evaluation.report.charts import scatter
from definemed_pipeline.evaluation.report.comparisons import read_win_rates
from definemed_pipeline.evaluation.report.corpus import read_corpus
from definemed_pipeline.evaluation.report.failures import read_examples, read_failed_answers, read_failures
from definemed_pipeline.evaluation.report.lineage import branches_of
from definemed_pipeline.evaluation.report.marking import Marks
from definemed_pipeline.evaluation.report.measures import STAGE_NAMES
from definemed_pipeline.evaluation.report.models import read_models
from definemed_pipeline.evaluation.report.settings import ReportSettings
from definemed_pipeline.evaluation.report.sweep import read_sweeps
from definemed_pipeline.evaluation.report.tracing import MANIFEST, Place, TracedFiles, trace
from definemed_pipeline.evaluation.report.tradeoffs import read_tradeoffs
from definemed_pipeline.evaluation.report.verdict import read_verdict
from definemed_pipeline.evaluation.stages import STAGE_PAIRS, STAGES

PAGE = "index.html"
ASSET = "report"


def write_report(draft: Draft[ReportSettings]) -> None:
    """Write the page as `index.html`."""
    files = TracedFiles(draft.input, draft.input_manifest)
    base_models = draft.partitions("benchmark_scores")
    said = trace(draft.identity.settings, Place(asset=ASSET, partition="_", file=MANIFEST, key="/identity/settings"))
    draft.report(f"reading what was measured of {', '.join(base_models)}")
    marks = Marks()
    failures = read_failures(files, base_models)
    page = _environment(marks).get_template("page.html.jinja").render(
        settings=draft.settings,
        said=said,
        base_models=base_models,
        verdict=read_verdict(files, base_models),
        benchmarks=read_benchmarks(files, base_models, said["published"]),
        win_rates=read_win_rates(files),
        failures=failures,
        failed_answers=read_failed_answers(files, failures),
        examples=read_examples(files, base_models, examples=draft.settings.examples),
        tradeoffs=read_tradeoffs(files),
        sweeps=read_sweeps(files, draft.partitions("merge_sweep")),
        corpus=read_corpus(files),
        models=read_models(files, base_models),
        lineage=branches_of([lineage_of(draft.store, draft.input_manifest(i.asset, i.partition)) for i in draft.identity.inputs]),
        version=draft.identity.version,
        inputs={(i.asset, i.partition): i for i in draft.identity.inputs},
    )  # fmt: skip
    (draft.folder / PAGE).write_text(page, "utf-8")
    draft.metrics |= {"numbers": page.count("<data "), "files_cited": len(marks.files())}


def _environment(marks: Marks) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"number": marks.number, "traced": marks.text, "place": _place}
    functions: dict[str, Any] = {"cite": marks.cite, "cited_files": marks.files, "scatter": scatter, "marks": marks}
    environment.globals |= {**functions, "STAGES": STAGES, "PAIRS": STAGE_PAIRS, "NAMES": STAGE_NAMES}
    return environment


def _template(name: str) -> str:
    return resources.files(__package__).joinpath("templates", name).read_text("utf-8")


def _place(share: float) -> str:
    """Return where a share stands on a scale from 0 to 100 %, for a style attribute."""
    return f"{100 * float(share):.1f}%"
