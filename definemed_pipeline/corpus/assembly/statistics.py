"""What the corpus is made of, asked in SQL over its written files.

Only counts and sums of integers are taken, in a stated order, so that the same corpus gives the same bytes.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import tld

from definemed_pipeline.corpus.parquet import write_parquet

BINS = 20
TABLES = {
    "by_dump": "SELECT coalesce(dump, 'unknown') AS dump, count(*) AS documents, sum(words)::BIGINT AS words FROM corpus GROUP BY 1 ORDER BY 1",
    "by_host": r"""
        SELECT coalesce(nullif(regexp_extract(lower(url), '^[a-z]+://(?:[^/?#@]*@)?(?:www\.)?([^/:?#]+)', 1), ''), 'unknown') AS host,
               count(*) AS documents, sum(words)::BIGINT AS words
        FROM corpus GROUP BY host ORDER BY documents DESC, host""",
    "probability_histogram": f"""
        WITH bins AS (SELECT unnest(range({BINS})) AS bin),
             filled AS (SELECT least(floor(medical_probability * {BINS}), {BINS - 1})::BIGINT AS bin, count(*) AS documents
                        FROM corpus GROUP BY 1)
        SELECT bin / {BINS}::DOUBLE AS low, (bin + 1) / {BINS}::DOUBLE AS high, coalesce(documents, 0) AS documents
        FROM bins LEFT JOIN filled USING (bin) ORDER BY bin""",
}
TOTALS = """
    SELECT count(*) AS documents, sum(words)::BIGINT AS words, sum(strlen(text))::BIGINT AS text_bytes,
           count(DISTINCT dump) AS dumps, quantile_disc(words, [0.1, 0.5, 0.9]) AS words_quantiles,
           min(medical_probability) AS lowest_probability
    FROM corpus"""


def write_statistics(artifact: Path, counts: Mapping[str, int], *, temporary: Path) -> dict[str, Any]:
    """Write the tables of an artifact's corpus into its folder `statistics` and return the totals.

    Tables: by_dump, by_host, by_domain, probability_histogram, by_fate (from `counts`). `temporary` takes what does not fit into memory.
    """
    folder = artifact / "statistics"
    folder.mkdir()
    with duckdb.connect() as connection:
        connection.execute("SET enable_progress_bar = false; SET memory_limit = '1GB'")
        connection.execute(f"SET temp_directory = '{_quoted(temporary)}'")
        connection.execute(f"CREATE VIEW corpus AS SELECT * FROM read_parquet('{_quoted(artifact)}/data/*.parquet')")
        tables = {name: connection.sql(query).pl() for name, query in TABLES.items()}
        totals: dict[str, Any] = connection.sql(TOTALS).pl().row(0, named=True)
    tables["by_domain"] = _by_domain(tables["by_host"])
    tables["by_fate"] = pl.DataFrame(
        [(name.removeprefix("dropped_"), count) for name, count in counts.items() if name != "documents"],
        schema={"fate": pl.String, "documents": pl.Int64},
        orient="row",
    )
    for name, table in tables.items():
        write_parquet(table, folder / f"{name}.parquet")
    low, median, high = totals.pop("words_quantiles")
    totals |= {"hosts": tables["by_host"].height, "domains": tables["by_domain"].height}
    return {**totals, "words_10_percent": low, "words_median": median, "words_90_percent": high}


def _by_domain(by_host: pl.DataFrame) -> pl.DataFrame:
    """Add up the hosts of one registered domain, by the public suffix list that comes with `tld`; other hosts stand for themselves."""
    domains = [  # a loop over rows: the library takes one at a time
        tld.get_fld(host, fix_protocol=True, fail_silently=True) or host for host in by_host["host"]
    ]
    grouped = by_host.with_columns(domain=pl.Series(domains, dtype=pl.String)).group_by("domain")
    sums = grouped.agg(hosts=pl.len().cast(pl.Int64), documents=pl.col("documents").sum(), words=pl.col("words").sum())
    return sums.sort("documents", "domain", descending=[True, False])


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
