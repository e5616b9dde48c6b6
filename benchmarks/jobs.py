"""Payloads as Kubernetes Jobs: what the path costs beside local processes, and whether hundreds of Jobs under random faults all end right.

    PYTHONPATH=$PWD python benchmarks/jobs.py --json OUT                     overhead on the demo, and a soak of 200 Jobs
    PYTHONPATH=$PWD python benchmarks/jobs.py --skip-overhead --jobs 50 --json OUT

The cluster is the tests' API server: its scheduling, image pulls and network cost nothing, so `overhead_s` is what this project adds (claim, watches,
messages and logs through the lake, a pod's first process), not what a cluster adds.

Overhead: `definemed run` of the recipe in a fresh folder with either backend; `overhead_s` is the mean over all payload steps of the difference of their
durations, as Dagster has them.

Soak: each Job is a Dagster run of its own, four at a time, whose pod is evicted, pre-empted, killed for memory or deleted, whose Job is deleted, whose payload
crashes or refuses its input, or whose API requests, watches and logs are cut: by a seed. An outcome is right where the run succeeded or failed as that
fault demands, with one artifact or none. Afterwards threads, open files and objects must be as many as before.
"""

import argparse
import gc
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import yaml
from processes import commit

from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.recipe import PAYLOADS
from definemed_pipeline_tests.compute.kubernetes.dagster_run import run
from definemed_pipeline_tests.kubernetes_server import KubernetesServer

AT_ONCE = 4
SECONDS = 120
SECONDS_TO_END = 60  # of a connection whose other side is gone
BUILT = re.compile(r"✓ (\S+?)(?:\[(.+?)\])?  built, ([0-9.]+) s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, help="where the figures go")
    parser.add_argument("--recipe", default="demo", help="of which the overhead is measured")
    parser.add_argument("--skip-overhead", action="store_true", help="soak only")
    parser.add_argument("--jobs", type=int, default=200, help="how many Jobs soak (0: none)")
    parser.add_argument("--seed", type=int, default=0, help="of the faults")
    arguments = parser.parse_args()
    figures: dict[str, Any] = {"commit": commit(), "cores": os.cpu_count()}
    if not arguments.skip_overhead:
        figures |= overhead(arguments.recipe)
    if arguments.jobs:
        figures |= soak(arguments.jobs, arguments.seed)
    arguments.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    print(json.dumps(figures, indent=2))
    if figures.get("wrong") or figures.get("left"):
        raise SystemExit(1)


def overhead(recipe: str) -> dict[str, Any]:
    """Run a recipe with either backend and compare the durations of its payload steps."""
    with tempfile.TemporaryDirectory() as folder:
        local = durations(recipe, Path(folder) / "local", server=None)
    with tempfile.TemporaryDirectory() as folder, KubernetesServer(Path(folder)) as server:
        jobs = durations(recipe, Path(folder) / "jobs", server=server)
        count = len(server.jobs())
    added = [jobs[step] - seconds for step, seconds in local.items() if step.partition("[")[0] in PAYLOADS]
    return {
        "payloads": count,
        "overhead_s": round(sum(added) / len(added), 2),
        "local": local,
        "jobs": jobs,
    }


def durations(recipe: str, folder: Path, *, server: KubernetesServer | None) -> dict[str, float]:
    """Run a recipe in a fresh folder; return the seconds of each step, by what is printed."""
    folder.mkdir()
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("DAGSTER", "DEFINEMED"))}
    path = folder / "recipe.yaml"
    own: dict[str, Any] = {"extends": recipe if recipe.isalnum() else str(Path(recipe).resolve()), "name": "measured"}
    if server is not None:
        environment["KUBECONFIG"] = str(server.kubeconfig)
        places = {name: str(folder / name) for name in ("lake", "scratch")}
        volumes = {name: {"mount_path": place, "source": {"hostPath": {"path": place}}} for name, place in places.items()}
        for place in places.values():
            Path(place).mkdir()
        pod = {"image": "definemed", "scratch": places["scratch"], "volumes": volumes}
        own["compute"] = {"backend": "kubernetes", "kubernetes": {"defaults": pod}}
    path.write_text(yaml.safe_dump(own), "utf-8")
    command = [sys.executable, "-m", "definemed_pipeline.cli", "run", "--recipe", str(path)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout[-3000:] + done.stderr[-3000:])
    return {
        f"{asset}[{partition}]" if partition else asset: float(seconds)
        for asset, partition, seconds in BUILT.findall(done.stdout)
    }


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What happens to one Job, and whether its run must succeed all the same."""

    act: Callable[["Soaked"], None] = lambda _: None
    succeeds: bool = True
    ending: str = "published"


@dataclass(frozen=True, kw_only=True)
class Soaked:
    """One Job of the soak, at work."""

    server: KubernetesServer
    job: str
    pod: str


def delete_job(one: Soaked) -> None:
    """Delete a Job by hand, and see it go before its payload would be done."""
    one.server.delete_job(one.job, policy="Foreground")
    one.server.wait_for(lambda: one.job not in [job["metadata"]["name"] for job in one.server.jobs()])


FAULTS = {
    "none": Fault(),
    "evicted": Fault(act=lambda one: one.server.evict(one.pod)),
    "evicted without statuses": Fault(act=lambda one: one.server.evict(one.pod, container_statuses=False)),
    "preempted": Fault(act=lambda one: one.server.preempt(one.pod)),
    "pod deleted": Fault(act=lambda one: one.server.delete_pod(one.pod)),
    "out of memory": Fault(act=lambda one: one.server.out_of_memory(one.pod)),  # once: another try may do
    "job deleted": Fault(act=delete_job, succeeds=False),
    "errors of the server": Fault(act=lambda one: one.server.fail_requests(500, times=3)),
    "too many requests": Fault(act=lambda one: one.server.fail_requests(429, times=3, retry_after=0)),
    "cut connections": Fault(act=lambda one: one.server.drop_connections(3)),
    "cut watches": Fault(act=lambda one: one.server.cut_watches()),
    "expired watches": Fault(act=lambda one: one.server.expire_watches()),
    "cut logs": Fault(act=lambda one: one.server.cut_logs()),
    "crash": Fault(ending="crash", succeeds=False),
    "bad input": Fault(ending="bad input", succeeds=False),
}


def soak(jobs: int, seed: int) -> dict[str, Any]:
    """Run so many Jobs under faults; return how many of each, what came out wrong and what is left over."""
    started, drawn = time.monotonic(), random.Random(seed)
    names = [drawn.choice(list(FAULTS)) for _ in range(jobs)]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        os.environ["DAGSTER_HOME"] = str(folder / "dagster")
        for name in ("dagster", "lake", "scratch"):
            (folder / name).mkdir()
        with KubernetesServer(folder) as server, dg.DagsterInstance.get() as instance:
            os.environ["KUBECONFIG"] = str(server.kubeconfig)
            soaked(server, instance, folder, "none")  # what is made once and kept is no leak
            before = standing()
            with ThreadPoolExecutor(AT_ONCE) as pool:
                wrong = [told for told in pool.map(lambda name: soaked(server, instance, folder, name), names) if told]
            server.skew_clock(24 * 3600)
            server.wait_for(lambda: not server.jobs() and not server.pods() and not server.services())
            left = left_over(before)
    return {
        "jobs_soaked": jobs,
        "faults": Counter(names),
        "wrong": wrong,
        "left": left,
        "soak_seconds": round(time.monotonic() - started),
    }


def left_over(before: dict[str, int]) -> dict[str, tuple[int, int]]:
    """Return what is more than before, once what was only ending has had time to end."""
    deadline = time.monotonic() + SECONDS_TO_END
    while True:
        gc.collect()
        left = {name: (before[name], count) for name, count in standing().items() if count > before[name]}
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.5)


def standing() -> dict[str, int]:
    """Count the threads, open files and child processes of this process."""
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text("ascii").split()
    return {"threads": threading.active_count(), "files": len(os.listdir("/proc/self/fd")), "processes": len(children)}


def soaked(server: KubernetesServer, instance: dg.DagsterInstance, folder: Path, name: str) -> str | None:
    """Run one Job under a fault; say what came out wrong, or None."""
    fault, run_id = FAULTS[name], str(uuid.uuid4())
    gate, places = folder / run_id, [folder / "lake", folder / "scratch"]
    gate.mkdir()
    pod = {
        "backoff_limit": 0 if fault.ending == "crash" else 3,
        "grace_seconds": 5,
        "scratch": str(folder / "scratch"),
        "volumes": {path.name: {"mount_path": str(path), "source": {"hostPath": {"path": str(path)}}} for path in places},
    }
    steps = {"gate": str(gate), "ending": fault.ending}
    config = {"lake": str(folder / "lake"), "run_id": run_id, "steps": steps, "pod": pod}
    with ThreadPoolExecutor(1) as alone:
        running = alone.submit(run, instance, config)
        begun = gate / "begun"
        server.wait_for(lambda: begun.exists() and begun.read_text().split(), seconds=SECONDS)
        worker = begun.read_text().split()[0]
        fault.act(Soaked(server=server, job=worker.rsplit("-", 1)[0], pod=worker))
        (gate / "go").touch()
        result = running.result(SECONDS)
    store = Store(str(folder / "lake"))
    found = [path.parent.name for path in Path(store.root).glob("thing/_/*/manifest.json")]
    own = [version for version in found if str(gate) in json.dumps(store.manifest("thing", "_", version).identity.settings)]  # type: ignore[union-attr]
    if result.success != fault.succeeds or len(own) != fault.succeeds:
        return f"{name}: {'succeeded' if result.success else 'failed'} with {len(own)} artifacts"
    return None


if __name__ == "__main__":
    main()
