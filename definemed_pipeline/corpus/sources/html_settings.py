"""The recipe's declaration of the `html` source: web pages as a crawl left them."""

import re
from typing import Literal

from definemed_pipeline.settings import setting, settings


@settings
class HtmlSource:
    """Where the pages lie and which of them become documents; one location is one shard."""

    kind: Literal["html"] = "html"
    files: tuple[str, ...] = setting(location=True)  # WARC files, or folders of HTML files: paths, globs or fsspec URLs
    dump: str | None = None  # the crawl's name; None: each location's own name
    language: str = "deu_Latn"  # ISO 639-3 and ISO 15924, as in FineWeb2
    min_language_score: float = setting(default=0.8, at_least=0, at_most=1)
    quality_rules: str = setting(default="deu_Latn", location=True)  # the name of packaged rules, or the path or URL of others
    max_page_bytes: int = setting(default=5_000_000, at_least=1)  # of HTML, decompressed
    seconds_per_page: float = setting(default=20.0, above=0)  # of processor time, so that a busy machine drops no more pages
    processes: int = setting(default=1, at_least=1, location=True)  # how, not what: any number gives the same bytes

    def __post_init__(self) -> None:
        if not self.files:
            raise ValueError(
                "files is empty; allowed: one or more paths, globs or URLs of WARC files or of folders of HTML files"
            )
        if not re.fullmatch(r"[a-z]{3}_[A-Z][a-z]{3}", self.language):
            raise ValueError(f"language is {self.language!r}; allowed: a language and its script in the form deu_Latn")

    def sources(self) -> dict[str, str]:
        """Return the files beside its own that a shard is made with, by name."""
        from definemed_pipeline.corpus.quality.settings import rules_location

        return {"quality_rules": rules_location(self.quality_rules)}

    def environment(self) -> dict[str, str]:
        """Return what processes that read the shards must know beyond each file's location: nothing."""
        return {}

    @property
    def language_code(self) -> str:
        """The language's ISO 639-3 code, such as `deu`."""
        return self.language.split("_")[0]

    @property
    def script(self) -> str:
        """The script's ISO 15924 code, such as `Latn`."""
        return self.language.split("_")[1]
