"""The lake for people who ask in SQL: a duckdb view per table of a recipe's latest artifacts, made from manifests alone.

A table is a parquet file of an asset, or the numbered files of one. It has the asset's name where it is called like it
(`finemed_de`, `classifier_scores`), else its own behind it (`finemed_de_dropped`). Partitioned assets show all partitions, told apart by a column
`partition`. Nothing is copied: views read the lake's files.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import duckdb

from definemed_pipeline.artifacts.files import written_whole
from definemed_pipeline.artifacts.manifest import UNPARTITIONED, Manifest
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.errors import UserError

NUMBER = re.compile(r"-\d{5}-of-\d{5}$")
READING = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)


@dataclass(frozen=True, kw_only=True)
class Table:
    """A view to be: its name, its asset, the locations of its files, their rows, and whether the asset has partitions."""

    name: str
    asset: str
    files: tuple[str, ...]
    rows: int
    is_partitioned: bool

    @property
    def query(self) -> str:
        """Return what the view selects. A column that some files lack is null there."""
        files = ", ".join(map(_quoted, self.files))
        if not self.is_partitioned:
            return f"SELECT * FROM read_parquet([{files}], union_by_name = true)"
        partition = f"regexp_extract(_file, '/{self.asset}/([^/]+)/[0-9a-f]{{16}}/', 1) AS partition"
        return f"SELECT {partition}, * EXCLUDE (_file) FROM read_parquet([{files}], union_by_name = true, filename = '_file')"


def list_tables(store: Store, recipe: str) -> list[Table]:
    """Return the tables of a recipe's latest artifacts, by name; raise UserError where there is none yet."""
    files: dict[tuple[str, str], list[tuple[str, int]]] = {}
    partitioned: set[str] = set()
    for manifest in store.all_latest(recipe):
        if manifest.partition != UNPARTITIONED:
            partitioned.add(manifest.asset)
        for name, location, rows in _files(store, manifest):
            files.setdefault((name, manifest.asset), []).append((location, rows))
    if not files:
        raise UserError(f"the lake {store.url} has no table of recipe {recipe!r} yet: definemed run")
    return [
        Table(
            name=name,
            asset=asset,
            files=tuple(location for location, _ in found),
            rows=sum(rows for _, rows in found),
            is_partitioned=asset in partitioned,
        )
        for (name, asset), found in sorted(files.items())
    ]


def _files(store: Store, manifest: Manifest) -> Iterable[tuple[str, str, int]]:
    """Yield the table, the location and the rows of every parquet file of an artifact."""
    for file in manifest.files:
        if file.path.endswith(".parquet"):
            own = NUMBER.sub("", PurePosixPath(file.path).stem)
            is_main = own == manifest.asset or manifest.asset.endswith(f"_{own}")
            name = manifest.asset if is_main else f"{manifest.asset}_{own}"
            yield name, f"{store.uri(manifest)}/{file.path}", file.rows or 0


@contextmanager
def asked(store: Store, recipe: str, sql: str) -> Iterator[duckdb.DuckDBPyRelation]:
    """Give the answer to one statement that reads, to be fetched inside.

    Raise UserError where the statement does not fit, fails while it is answered, or names what is not in the lake.
    """
    tables = list_tables(store, recipe)
    with _connect(store, ":memory:") as connection:
        try:
            statements = connection.extract_statements(sql)
            if len(statements) != 1 or statements[0].type not in READING:
                raise UserError(
                    "one statement that reads is answered, such as SELECT, DESCRIBE or SHOW TABLES; for more write --database FILE"
                )
            # Making a view reads the footers of all its files, so only those are made that the statement may ask for.
            named = [table for table in tables if re.search(rf"\b{table.name}\b", sql, re.IGNORECASE)]
            _make_views(connection, named or tables)
            yield connection.sql(sql)
        except duckdb.CatalogException as error:
            known = ", ".join(table.name for table in tables)
            raise UserError(
                f"{_told(error)}\nTables of recipe {recipe!r} in {store.url}: {known}. What is missing here was not built yet: definemed run"
            ) from error
        except duckdb.Error as error:
            raise UserError(_told(error)) from error


def write_database(store: Store, recipe: str, path: Path) -> list[Table]:
    """Write a duckdb database with a view per table and return the tables; an older one is replaced whole.

    Raise UserError where the lake has no table yet or the place cannot be written.
    """
    tables = list_tables(store, recipe)
    try:
        with written_whole(path) as unfinished, _connect(store, str(unfinished)) as connection:
            _make_views(connection, tables)
    except (OSError, duckdb.Error) as error:
        raise UserError(f"the database {path} cannot be written: {_told(error)}") from error
    return tables


def _connect(store: Store, path: str) -> duckdb.DuckDBPyConnection:
    """Open a database that reads a remote lake through the lake's own file system, hence with its credentials."""
    connection = duckdb.connect(path)
    connection.execute("SET enable_progress_bar = false")
    if not store.is_local:
        connection.register_filesystem(store.filesystem)
    return connection


def _make_views(connection: duckdb.DuckDBPyConnection, tables: Iterable[Table]) -> None:
    for table in tables:
        connection.execute(f'CREATE VIEW "{table.name}" AS {table.query}')


def _told(error: Exception) -> str:
    """Return the lines of an error that say something, without the drawing of the place."""
    return " ".join(line.strip() for line in str(error).splitlines() if line.strip() and not set(line.strip()) <= {"^"})


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
