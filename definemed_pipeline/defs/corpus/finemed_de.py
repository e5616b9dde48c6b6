"""Asset `finemed_de`: the medical corpus."""

import dagster as dg
import polars as pl

from definemed_pipeline.artifacts.manifest import Manifest
from definemed_pipeline.corpus.assembly.assemble import assemble_corpus
from definemed_pipeline.defs import plots
from definemed_pipeline.defs.corpus.annotations import annotations
from definemed_pipeline.defs.corpus.benchmark_leaks import benchmark_leaks, evaluation_sources
from definemed_pipeline.defs.corpus.cascade_certificate import cascade_certificate
from definemed_pipeline.defs.corpus.medical_classifier import medical_classifier
from definemed_pipeline.defs.corpus.medical_documents import medical_documents
from definemed_pipeline.defs.materialization import OWNERS, blocking, build_here, check, code_version, result
from definemed_pipeline.defs.resources import Lake
from definemed_pipeline.recipe import active_recipe

SECTION = active_recipe().finemed_de
CHECKS = active_recipe().checks
SHOWN = 12  # of the largest domains


@dg.asset(
    group_name="corpus",
    kinds={"polars", "duckdb", "parquet"},
    owners=OWNERS,
    deps=[annotations, medical_classifier, cascade_certificate, medical_documents, benchmark_leaks],
    code_version=code_version("2", SECTION),
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
        inputs=[
            lake.artifact("annotations"),
            lake.artifact("medical_classifier"),
            lake.artifact("cascade_certificate"),
            *lake.artifacts("medical_documents", shards),
            *lake.artifacts("benchmark_leaks", shards),
        ],
        sources=lake.sources(evaluation_sources()),
    )
    kept, documents = manifest.metrics["kept"], manifest.metrics["documents"]
    dropped = {name: count for name, count in manifest.metrics.items() if name == "not_medical" or name.startswith("dropped_")}
    return result(
        context,
        lake,
        manifest,
        table="data/*.parquet",
        plots=_pictures(lake, manifest),
        checks=[
            check("enough_documents", kept >= CHECKS.corpus_documents, kept=kept, floor=CHECKS.corpus_documents),
            check("counts_add_up", kept + sum(dropped.values()) == documents, kept=kept, dropped=dropped, documents=documents),
        ],
    )


def _pictures(lake: Lake, manifest: Manifest) -> dict[str, str]:
    """Return what people look at: pictures, and the same numbers as tables."""
    folder = lake.store.folder(manifest)
    names = ("probability_histogram", "by_dump", "by_domain", "by_host", "by_fate")
    histogram, dumps, domains, hosts, fates = (pl.read_parquet(folder / "statistics" / f"{name}.parquet") for name in names)
    leaks = pl.read_parquet(folder / "leaks.parquet", columns=["benchmark", "leaked_documents"])
    leaked = leaks.group_by("benchmark").agg(questions=pl.len(), leaked=(pl.col("leaked_documents") > 0).sum()).sort("benchmark")
    return {
        "fate_of_documents": plots.bars(
            {fate.replace("_", " "): count for fate, count in fates.iter_rows()}, label="documents", logarithmic=True
        ),
        "probabilities": plots.histogram(
            [*histogram["low"].to_list(), histogram["high"][-1]],
            histogram["documents"].to_list(),
            label="medical probability of the kept documents",
        ),
        "documents_by_dump": plots.columns(dict(dumps.select("dump", "documents").iter_rows()), label="documents"),
        "largest_domains": plots.bars(dict(domains.head(SHOWN).select("domain", "documents").iter_rows()), label="documents"),
        "by_dump": plots.table(dumps),
        "by_domain": plots.table(domains.head(SHOWN)),
        "by_host": plots.table(hosts.head(SHOWN)),
        "leaks_by_benchmark": plots.table(leaked),
        "dataset_card": (folder / "README.md").read_text("utf-8").split("---\n", 2)[2],
    }
