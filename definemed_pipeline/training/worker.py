"""One of several training processes, started by torchrun: `python -m definemed_pipeline.training.worker JOB` (see `processes.py`)."""

import dataclasses
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from definemed_pipeline.errors import StoppedError, UserError
from definemed_pipeline.payload import MAY_RETRY, exit_with_parent
from definemed_pipeline.training.job import TrainingJob
from definemed_pipeline.training.train_model import train_model


def main() -> None:
    """Do this process' part of the job; the first one tells the payload what happens, by lines of JSON beside the checkpoints."""
    threading.Thread(target=exit_with_parent, daemon=True).start()
    job = TrainingJob.from_json(Path(sys.argv[1]).read_text("utf-8"))
    leads = os.environ["RANK"] == "0"

    def tell(message: dict[str, Any]) -> None:
        with (job.checkpoints / "told.jsonl").open("a", encoding="utf-8") as told:
            told.write(json.dumps(message) + "\n")

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        outcome = train_model(job, lambda text: tell({"report": text}) if leads else None)
    except UserError as error:
        tell({"error": str(error)})
        os._exit(1)  # the others may be waiting for this one
    except StoppedError as stop:
        if leads:
            tell({"stopped": str(stop)})
        dist.destroy_process_group()
        sys.exit(MAY_RETRY)
    if outcome is not None:
        tell({"outcome": dataclasses.asdict(outcome)})
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
