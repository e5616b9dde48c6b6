"""What becomes of a damaged file: it is taken whole or refused in a line or two, and anything else is told as a fault."""

import re
import resource
import signal
import tempfile
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from definemed_pipeline.artifacts.manifest import Manifest
from definemed_pipeline.artifacts.store import Store, describe_files
from definemed_pipeline.corpus.annotation.lexicon import lexicon_location, read_lexicon
from definemed_pipeline.corpus.classifier.features import features_of
from definemed_pipeline.corpus.classifier.settings import LinearSettings
from definemed_pipeline.corpus.quality.filters import drop_reasons
from definemed_pipeline.corpus.quality.settings import read_rules, rules_location
from definemed_pipeline.corpus.register import register_shard
from definemed_pipeline.corpus.shards import ASSET, FINEWEB2_SCHEMA
from definemed_pipeline.corpus.sources import html
from definemed_pipeline.corpus.sources.extraction import PageReader
from definemed_pipeline.corpus.sources.html_settings import HtmlSource
from definemed_pipeline.corpus.sources.listing import list_source
from definemed_pipeline.corpus.sources.workers import IDLE_FACTOR, Workers
from definemed_pipeline.errors import UserError
from definemed_pipeline_tests.conftest import build_artifact
from definemed_pipeline_tests.corpus.damaged_shards import parquet_case
from definemed_pipeline_tests.corpus.shard_files import collect, list_frames, opened, register, score_by_word
from definemed_pipeline_tests.corpus.sources.damaged_crawls import html_case, warc_case

CURE = re.compile(r"fetch it again|[Cc]orrect|give them|leave .* out|put it back")
READ, REFUSED, FAULT = "read", "refused", "fault"
SECONDS = 60.0  # of processor time for a case; the longest takes some five
MEMORY = 6 << 30  # bytes of address space that a process may fill, some three times what it then holds
LINEAR = LinearSettings(buckets_power=16)
HTML = HtmlSource(files=("x",), seconds_per_page=2.0)


@dataclass(frozen=True)
class Outcome:
    """`kind` is `READ`, `REFUSED` or `FAULT`; `detail` the message, or what happened instead."""

    kind: str
    detail: str = ""


def examined(build: Callable[[Store], Manifest], follow: Callable[[Store, Manifest], str], file: str, folder: Path) -> Outcome:
    """Build a shard's artifact in a new lake, let later stages follow, and hold what is left in the lake against what may be."""
    store = Store(str(folder / "lake"))
    try:
        manifest = build(store)
    except UserError as error:
        message = str(error)
        sound = message.count("\n") <= 1 and Path(file).name in message and CURE.search(message)
        left = sorted(str(path) for path in Path(store.root).glob("[!.]*"))
        return Outcome(REFUSED, message) if sound and not left else Outcome(FAULT, f"{left} {message}")
    except BaseException:  # a panic of polars is no Exception
        return Outcome(FAULT, traceback.format_exc())
    try:
        _is_whole(store, manifest)
        return Outcome(READ, follow(store, manifest))
    except BaseException:
        return Outcome(FAULT, traceback.format_exc())


def _is_whole(store: Store, manifest: Manifest) -> None:
    """Hold every version in the lake against its manifest."""
    (version,) = Path(store.root).glob("[!.]*/*/*/")
    assert Manifest.from_json((version / "manifest.json").read_text("utf-8")) == manifest
    found = {file for file in describe_files(version) if file.path != "manifest.json"}
    assert found == set(manifest.files)


class ParquetExaminer:
    """Examines parquet cases; made once a process, whose memory it bounds."""

    def __init__(self) -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        self._lexicon = read_lexicon(lexicon_location("de_medical"))
        self._rules = read_rules(rules_location("deu_Latn"))

    def __call__(self, number: int) -> Outcome:
        """Examine one case."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "s.parquet"
            file.write_bytes(parquet_case(number))
            return examined(lambda store: register(store, str(file))[0], self._follow, str(file), Path(folder))

    def _follow(self, store: Store, manifest: Manifest) -> str:
        """Do with a shard what later stages do, on all of its rows and columns."""
        shard = opened(store, manifest)
        documents = 0
        for frame in shard.row_groups([*FINEWEB2_SCHEMA, *shard.extra_columns]):
            assert frame["id"].null_count() == 0
            text = frame["text"]
            assert np.isfinite(self._lexicon.score(text.fill_null("").str.head(2_000)).to_numpy()).all()
            assert len(features_of(text.head(2_000), LINEAR)) == min(frame.height, 2_000)
            pages = text.filter(text.str.len_bytes() <= HTML.max_page_bytes)  # the rules are for what was extracted from pages
            assert len(drop_reasons(pages, self._rules)) == len(pages)
            documents += frame.height
        assert documents == shard.record.documents == manifest.metrics["documents"]
        assert sum(manifest.metrics["documents_by_dump"].values()) == documents
        list_frames(store, [manifest])
        scores = score_by_word(store, [manifest])
        (segment,) = collect(store, [manifest], scores)
        assert pq.read_table(store.folder(segment) / "documents.parquet").num_rows == segment.metrics["medical_documents"]
        return f"{documents} {segment.metrics['medical_documents']}"


class CrawlExaminer:
    """Examines crawl cases; made once a process, so that the processes that extract pages, which load language models, start once."""

    def __init__(self) -> None:
        self._workers = Workers(partial(PageReader, HTML), number=1, seconds=HTML.seconds_per_page, lost=html._lost)
        html.Workers = lambda *_, **__: nullcontext(self._workers)  # type: ignore[misc, assignment]

    def __call__(self, kind: str, number: int) -> Outcome:
        """Examine one case, a WARC file or a folder with one HTML file. The kernel ends the process where that takes too long."""
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        signal.setitimer(signal.ITIMER_REAL, IDLE_FACTOR * SECONDS)
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            if kind == "warc":
                place = folder / "klinik.warc.gz"
                place.write_bytes(warc_case(number))
            else:
                place = folder / "klinik"
                place.mkdir()
                (place / "seite.html").write_bytes(html_case(number))
            return examined(lambda store: self._build(store, place), self._follow, str(place), folder)

    def close(self) -> None:
        """End the processes that extract pages, and the kernel's watch."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        self._workers.__exit__(None, None, None)

    def _build(self, store: Store, place: Path) -> Manifest:
        source = replace(HTML, files=(str(place),))
        files = list_source(source)
        return build_artifact(
            store,
            ASSET,
            register_shard,
            source,
            partition="klinik",
            sources=source.sources(),
            known_sources=[files["klinik"].identify(None)],
        )

    def _follow(self, store: Store, manifest: Manifest) -> str:
        shard = opened(store, manifest)
        documents = sum(len(frame["text"].to_list()) for frame in shard.row_groups([*FINEWEB2_SCHEMA, *shard.extra_columns]))
        metrics = manifest.metrics
        skipped = {name: number for name, number in metrics.items() if name.startswith("skipped:")}
        assert documents == metrics["documents"] == metrics["records"] - sum(skipped.values())
        return f"{documents} {skipped}"
