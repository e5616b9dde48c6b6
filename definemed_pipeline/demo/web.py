"""How a text becomes a row of FineWeb2: identifiers, crawl, address, dates and language scores."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from definemed_pipeline.demo.randomness import Dice, digest

_HOSTS = (
    "ratgeber-nord", "stadtblatt", "forum-alltag", "lesezimmer", "heimatbote", "wissen-kompakt", "marktplatz", "blogkiste", "rundschau",
    "portal-mitte", "notizbuch", "fundgrube", "tagesthema", "infothek", "werkbank", "zeitzeichen",
)  # fmt: skip
_SECTIONS = ("artikel", "beitrag", "thema", "archiv", "seite", "magazin")


@dataclass(frozen=True)
class Crawl:
    """One Common Crawl dump and the days it took."""

    dump: str
    segment: int
    start: datetime
    days: int


CRAWLS = (
    Crawl("CC-MAIN-2023-40", 1695233505362, datetime(2023, 9, 21, tzinfo=UTC), 14),
    Crawl("CC-MAIN-2024-10", 1707947473360, datetime(2024, 2, 20, tzinfo=UTC), 14),
)


@dataclass(frozen=True)
class WebDocument:
    """One row of FineWeb2, its columns in FineWeb2's order."""

    text: str | None
    id: str
    dump: str
    url: str
    date: str
    file_path: str
    language: str
    language_score: float
    language_script: str
    minhash_cluster_size: int
    top_langs: str


class WebPublisher:
    """Give texts the columns of FineWeb2."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._dice = Dice(seed, "web", "publishing")

    def publish(self, number: int, text: str | None, variant: str) -> WebDocument:
        """Return the row of the numbered text; ``variant`` decides the language score and the cluster size."""
        dice = self._dice
        name = digest(self._seed, "document", number)
        crawl = dice.choose(CRAWLS)
        moment = crawl.start + timedelta(seconds=dice.number(0, crawl.days * 86400 - 1))
        span = f"{moment:%Y%m%d%H}0000-{moment + timedelta(hours=3):%Y%m%d%H}0000"
        english = variant == "english"
        score = round(0.822 + dice.fraction() * 0.06 if english else 0.93 + dice.fraction() * 0.0699, 6)
        languages = {"deu_Latn_score": score, "eng_Latn_score": round(1 - score, 6)} if english else {"deu_Latn_score": score}
        return WebDocument(
            text=text,
            id=f"<urn:uuid:{name[:8]}-{name[8:12]}-{name[12:16]}-{name[16:20]}-{name[20:32]}>",
            dump=crawl.dump,
            url=f"https://www.{dice.choose(_HOSTS)}.example/{dice.choose(_SECTIONS)}/{name[32:40]}",
            date=f"{moment:%Y-%m-%dT%H:%M:%SZ}",
            file_path=(
                f"s3://commoncrawl/crawl-data/{crawl.dump}/segments/{crawl.segment}.{dice.number(10, 99)}/warc/"
                f"CC-MAIN-{span}-{dice.number(0, 899):05d}.warc.gz"
            ),
            language="deu",
            language_score=score,
            language_script="Latn",
            minhash_cluster_size=dice.number(2, 40) if variant.endswith("copy") or dice.chance(0.2) else 1,
            top_langs=json.dumps(languages),
        )
