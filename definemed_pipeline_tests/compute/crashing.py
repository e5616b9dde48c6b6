"""A payload that a library written in C brings down at its second artifact."""

import os
import signal
from typing import Any

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.corpus.sources.settings import ParquetSource
from definemed_pipeline.payload import run_payload


def work(draft: Draft[Any]) -> None:
    if draft.identity.partition == "second":
        os.kill(os.getpid(), signal.SIGSEGV)
    draft.write_json("a.json", {})


if __name__ == "__main__":
    run_payload(ParquetSource, work)
