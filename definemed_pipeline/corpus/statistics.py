"""What the corpus is made of, asked in SQL over its written files.

Only counts and sums of integers are taken, in a stated order, so that the same corpus gives the same bytes.
"""

from pathlib import Path
from typing import Any

import duckdb

from definemed_pipeline.corpus.parquet import write_parquet

BINS = 20
TABLES = {
    "by_dump": "SELECT coalesce(dump, 'unknown') AS dump, count(*) AS documents, sum(words)::BIGINT AS words FROM corpus GROUP BY 1 ORDER BY 1",
    "by_host": r"""
        SELECT coalesce(nullif(regexp_extract(lower(url), '^[a-z]+://(?:www\.)?([^/:?#]+)', 1), ''), 'unknown') AS host,
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


def write_statistics(data: Path, folder: Path) -> dict[str, Any]:
    """Write one parquet file per table of `TABLES` into a folder and return the totals over the corpus' files in `data`."""
    folder.mkdir()
    with duckdb.connect() as connection:
        connection.execute("SET enable_progress_bar = false")
        connection.execute(f"CREATE VIEW corpus AS SELECT * FROM read_parquet('{_quoted(data)}/*.parquet')")
        for name, query in TABLES.items():
            write_parquet(connection.sql(query).pl(), folder / f"{name}.parquet")
        totals: dict[str, Any] = connection.sql(TOTALS).pl().row(0, named=True)
    low, median, high = totals.pop("words_quantiles")
    return {**totals, "words_10_percent": low, "words_median": median, "words_90_percent": high}


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
