"""Measure the `html` source: pages/s and peak memory with one and with two processes, on the same folder of generated pages.

    python benchmarks/html_source.py --pages 2000 --json OUT

A page is German prose of the demo's world, about 430 words long, in some 36 kB of HTML: navigation, teasers, a table, scripts and styles like those of a
clinic's content management system. There is no peer: nearly all of the time is trafilatura's. Time includes the start of the processes (2 to 3 s
each); memory is the proportional set size (PSS) of all processes together, sampled twice a second. On a machine with
other work the processor time a page is the figure that holds. Both runs must write the same bytes.
"""

import argparse
import hashlib
import json
import os
import platform
import random
import resource
import tempfile
import threading
import time
from pathlib import Path

import fsspec
import polars as pl
import psutil
from processes import commit, tree_memory

from definemed_pipeline.corpus.sources.html import extract_pages
from definemed_pipeline.corpus.sources.html_settings import HtmlSource

WORDS_PER_PAGE = 430
MENU = "".join(
    f'<li class="menu-item level-2"><a href="/bereich/{number}" title="Bereich">Bereich {number}</a></li>'
    for number in range(120)
)
STYLE = "".join(f".teaser-{number} {{ margin: {number}px; padding: 0 {number}px; color: #0a5; }}\n" for number in range(300))
TEASER = '<div class="teaser"><a href="/aktuelles/{0}"><img src="/bild/{0}.jpg" alt=""><span>Aktuelles {0}</span></a></div>'


def write_site(folder: Path, pages: int) -> int:
    """Write the pages and return their bytes."""
    files = fsspec.open_files("demo://web/*.parquet")
    texts = [text for file in files for text in pl.read_parquet(file.open(), columns=["text"])["text"] if text]
    dice, size = random.Random(0), 0
    for number in range(pages):
        paragraphs: list[str] = []
        while sum(paragraph.count(" ") + 1 for paragraph in paragraphs) < WORDS_PER_PAGE:
            paragraphs += dice.choice(texts).split("\n")
        rows = "".join(f"<tr><td>Wert {row}</td><td>{dice.randrange(999)} mg</td></tr>" for row in range(5))
        body = "".join(f"<p>{paragraph}</p>" for paragraph in paragraphs)
        html = (
            f'<!DOCTYPE html><html lang="de"><head><meta charset="utf-8"><title>Seite {number}</title><style>{STYLE}</style></head><body>'
            f"<nav><ul>{MENU}</ul></nav><main><article><h1>Seite {number}</h1>{body}<table>{rows}</table></article></main>"
            f"<aside>{''.join(TEASER.format(teaser) for teaser in range(30))}</aside><footer>Impressum</footer></body></html>"
        )
        size += (folder / f"{number:06d}.html").write_text(html, "utf-8")
    return size


def measure(site: Path, processes: int) -> tuple[dict[str, float], str]:
    """Extract the site once; return the figures and the digest of the file."""
    with tempfile.TemporaryDirectory() as name:
        folder, peak, done = Path(name), [0], threading.Event()

        def watch() -> None:
            while not done.wait(0.5):
                peak[0] = max(peak[0], tree_memory(psutil.Process()))

        watcher = threading.Thread(target=watch)
        watcher.start()
        started, worked = time.monotonic(), processor_seconds()
        source = HtmlSource(files=(str(site),), processes=processes)
        counts = extract_pages(str(site), source, folder / "pages.parquet", checkpoints=folder, report=print)
        seconds, work = time.monotonic() - started, processor_seconds() - worked
        done.set()
        watcher.join()
        digest = hashlib.sha256((folder / "pages.parquet").read_bytes()).hexdigest()
    figures = {
        "seconds": round(seconds, 1),
        "pages_per_s": round(counts["records"] / seconds, 1),
        "processor_ms_per_page": round(1000 * work / counts["records"], 1),
        "peak_gib": round(peak[0] / 2**30, 2),
        "documents": counts["documents"],
    }
    return figures, digest


def processor_seconds() -> float:
    """Return the processor time of this process and its ended children."""
    return sum(
        usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=2_000)
    parser.add_argument("--json", type=Path, required=True, help="where the figures go")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        size = write_site(Path(name), arguments.pages)
        runs = {processes: measure(Path(name), processes) for processes in (1, 2)}
    if len({digest for _, digest in runs.values()}) != 1:
        raise SystemExit("the runs wrote different bytes")
    figures = {
        "pages": arguments.pages,
        "mean_page_kb": round(size / arguments.pages / 1000, 1),
        **{f"processes_{processes}": figures for processes, (figures, _) in runs.items()},
        "load_before": round(os.getloadavg()[1], 1),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "commit": commit(),
    }
    arguments.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
