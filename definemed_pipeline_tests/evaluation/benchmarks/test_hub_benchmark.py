"""Questions that lie on the Hub: listed, identified and read at a commit, and asked with the development split's examples."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from definemed_pipeline_tests.corpus.sources.hub_server import FOLDER, REPOSITORY, running_hub
from definemed_pipeline_tests.evaluation.benchmarks.test_questions import mmlu_rows

CODE = """
import sys
from definemed_pipeline.artifacts.sources import identify
from definemed_pipeline.evaluation.benchmarks.questions import read_examples
from definemed_pipeline.evaluation.benchmarks.settings import BenchmarkScoresSettings
from definemed_pipeline.evaluation.benchmarks.tasks import tasks_of
from definemed_pipeline.evaluation.splits import questions_of
one = {"questions": sys.argv[1], "examples": sys.argv[2], "prompt": "{{question}}", "num_fewshot": 1, "subjects": ["anatomy"],
       "columns": {"id": "sample_id", "choices": ["option_a", "option_b", "option_c", "option_d"]}}
section = BenchmarkScoresSettings.parse({"benchmarks": {"mmlu": one}})
sources = {name: identify(name, location) for name, location in section.sources().items()}
settings = section.benchmarks["mmlu"]
questions = questions_of("test", sources["benchmark/mmlu"], settings)
(task,) = tasks_of("mmlu", settings, questions, read_examples(sources["examples/mmlu"], settings))
print(task.name, [one.id for one in task.questions], [one.id for one in task.examples], sources["benchmark/mmlu"].digest)
"""


@pytest.mark.slow
def test_a_benchmark_of_the_hub_is_read_at_its_commit(tmp_path: Path) -> None:
    examples = [
        {**row, "sample_id": f"dev/{number}", "question": f"Beispiel {number}?"} for number, row in enumerate(mmlu_rows())
    ]
    with running_hub() as hub:
        commit = hub.commit({"test.parquet": parquet(mmlu_rows()), "dev.parquet": parquet(examples)})
        hub.commit({"test.parquet": b"a later commit"})
        folder = f"hf://datasets/{REPOSITORY}@{commit}/{FOLDER}"
        environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
        command = [sys.executable, "-c", CODE, f"{folder}/test.parquet", f"{folder}/dev.parquet"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("mmlu_anatomy ['anatomy/test/0', 'anatomy/test/2'] ['dev/0'] ")


def parquet(rows: list[dict[str, str]]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()
