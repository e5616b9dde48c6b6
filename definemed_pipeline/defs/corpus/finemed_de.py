"""Asset `finemed_de`: the medical corpus."""

import dagster as dg
import polars as pl

from definemed_pipeline.artifacts.manifest import Manifest
from definemed_pipeline.corpus.assemble import assemble_corpus
from definemed_pipeline.defs import plots
from definemed_pipeline.defs.corpus.classifier_scores import classifier_scores
from definemed_pipeline.defs.corpus.fineweb2_shards import fineweb2_shards
from definemed_pipeline.defs.materialization import OWNERS, blocking, build_here, check, code_version, result
from definemed_pipeline.defs.resources import Lake
from definemed_pipeline.recipe import active_recipe

SECTION = active_recipe().finemed_de
CHECKS = active_recipe().checks


@dg.asset(
    group_name="corpus",
    kinds={"polars", "duckdb", "parquet"},
    owners=OWNERS,
    deps=[fineweb2_shards, classifier_scores],
    code_version=code_version("1", SECTION),
    check_specs=blocking(
        "finemed_de",
        enough_documents="The corpus holds at least the recipe's number of documents.",
        counts_add_up="Every document is kept or dropped for one stated reason.",
    ),
)
def finemed_de(context: dg.AssetExecutionContext, lake: Lake) -> dg.MaterializeResult:
    """FineMed-de: the medical documents without copies, near copies and benchmark text, sorted, with FineWeb2's columns and ours."""
    shards = lake.shards()
    manifest = build_here(
        context,
        lake,
        assemble_corpus,
        section=SECTION,
        inputs=[*lake.artifacts("fineweb2_shards", shards), *lake.artifacts("classifier_scores", shards)],
        sources=lake.sources({"gold": active_recipe().annotations.gold, **evaluation_sources()}),
    )
    kept, documents = manifest.metrics["kept"], manifest.metrics["documents"]
    dropped = {name: count for name, count in manifest.metrics.items() if name == "not_medical" or name.startswith("dropped_")}
    return result(
        context,
        lake,
        manifest,
        table="data/*.parquet",
        plots=_pictures(lake, manifest, dropped, kept),
        checks=[
            check("enough_documents", kept >= CHECKS.corpus_documents, kept=kept, floor=CHECKS.corpus_documents),
            check("counts_add_up", kept + sum(dropped.values()) == documents, kept=kept, dropped=dropped, documents=documents),
        ],
    )


def evaluation_sources() -> dict[str, str | None]:
    """Return every file of questions and instructions the models will be tested on: none of it may be in the corpus."""
    return {**active_recipe().benchmark_scores.sources(), **active_recipe().responses.sources()}


def _pictures(lake: Lake, manifest: Manifest, dropped: dict[str, int], kept: int) -> dict[str, str]:
    statistics = lake.store.folder(manifest) / "statistics"
    histogram = pl.read_parquet(statistics / "probability_histogram.parquet").sort("low")
    hosts = pl.read_parquet(statistics / "by_host.parquet").head(12)
    return {
        "probabilities": plots.histogram(
            [*histogram["low"].to_list(), histogram["high"][-1]],
            histogram["documents"].to_list(),
            label="medical probability of the kept documents",
        ),
        "top_hosts": plots.bars(dict(hosts.select("host", "documents").iter_rows()), label="documents"),
        "fate_of_documents": plots.bars(dropped | {"kept": kept}, label="documents"),
    }
