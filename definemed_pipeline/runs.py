"""Run the graph from a shell: which Dagster runs a selection needs, in which order, and how to follow them.

Every run is an ordinary Dagster run in the ordinary instance, executed in a worker process; the UI shows it like any other. What is
decided here is only what a person would otherwise click: assets with the same partitions that follow each other go into one run per
partition (of shards: per so many as the recipe says), and a run starts when the runs it reads from have succeeded.
"""

import logging
import multiprocessing
import os
import shutil
import threading
import time
import uuid
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import dagster as dg
from filelock import FileLock

from definemed_pipeline.errors import UserError

POLL_SECONDS = 0.25
SHARDS = "fineweb2_shard"  # the partitions definition


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """One Dagster run: assets in topological order, for some partitions (none: unpartitioned). `after` are positions in the plan."""

    assets: tuple[str, ...]
    partitions: tuple[str, ...]
    after: tuple[int, ...]

    @property
    def partition_name(self) -> str | None:
        """Return what a person reads: the partition, or the first and the last of several."""
        if not self.partitions:
            return None
        first, last = self.partitions[0], self.partitions[-1]
        return first if first == last else f"{first} … {last}"

    @property
    def name(self) -> str:
        first, last = self.assets[0], self.assets[-1]
        assets = first if first == last else f"{first} … {last}"
        return assets if self.partition_name is None else f"{assets} [{self.partition_name}]"


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something a person following the runs wants to know."""

    kind: str  # progress | built | reused | check_warned | check_failed | failed
    asset: str
    partition: str | None
    text: str = ""
    seconds: float = 0.0
    trace: str = ""


def prepare_instance(working_directory: Path, shards: Iterable[str]) -> list[str]:
    """Make the Dagster instance in DAGSTER_HOME ready: its folder, its databases, and the shards as partitions.

    Return all shards that the instance knows, in its order, other recipes' among them. Two commands started at once take turns here, since Dagster's SQLite databases cannot be created by two processes together.
    """
    home = Path(os.environ["DAGSTER_HOME"])
    try:
        home.mkdir(parents=True, exist_ok=True)
        if (working_directory / "dagster.yaml").exists() and not (home / "dagster.yaml").exists():
            shutil.copyfile(working_directory / "dagster.yaml", home / "dagster.yaml")
    except OSError as error:
        raise UserError(f"DAGSTER_HOME {home} cannot be written: {error}. Set DAGSTER_HOME to a writable folder") from error
    with FileLock(home / ".lock"), dg.DagsterInstance.get() as instance:
        instance.get_runs_count()  # creates the database of runs
        known = set(instance.get_dynamic_partitions(SHARDS))
        instance.add_dynamic_partitions(SHARDS, [shard for shard in shards if shard not in known])
        return list(instance.get_dynamic_partitions(SHARDS))


def plan_runs(
    definitions: dg.Definitions,
    partitions: Mapping[str, Sequence[str]],
    selection: Sequence[str],
    only: str | None,
    *,
    registered: Sequence[str],
) -> list[PlannedRun]:
    """Return the runs that materialize a selection (Dagster's selection syntax; empty: everything), parents first.

    `partitions` maps the name of a partitions definition to its keys, `only` keeps a single key, `registered` are the shards the instance
    knows, in its order. Raise UserError where the selection or the partition is unknown.
    """
    graph = definitions.resolve_asset_graph()
    selected = _select(definitions, selection)
    kind = {
        asset: _partitions_name(graph.get(dg.AssetKey(asset)).partitions_def) for asset in _names(graph.toposorted_asset_keys)
    }
    shares = _shares(_narrow(partitions, {kind[asset] for asset in selected}, only), registered, _shards_per_run(definitions))
    parents = {asset: _names(graph.get(dg.AssetKey(asset)).parent_keys) for asset in kind}
    depth: dict[str, int] = {}
    for asset, own in kind.items():  # a run ends where the partitioning changes
        depth[asset] = max((depth[parent] + (kind[parent] != own) for parent in parents[asset]), default=0)
    height = dict.fromkeys(kind, 0)
    for asset in reversed(kind):
        for parent in parents[asset]:
            height[parent] = max(height[parent], height[asset] + (kind[parent] != kind[asset]))
    groups: dict[tuple[int, str | None], list[str]] = defaultdict(list)
    for asset, own in kind.items():
        if asset in selected:
            groups[depth[asset], own].append(asset)

    def longest_way_first(group: tuple[tuple[int, str | None], list[str]]) -> tuple[int, int]:
        """Order by what still waits behind a group, which also puts parents first."""
        (level, _), assets = group
        return -max(height[asset] for asset in assets), level

    runs: list[PlannedRun] = []
    position: dict[tuple[str, tuple[str, ...]], int] = {}
    for (_, name), assets in sorted(groups.items(), key=longest_way_first):
        for share in shares[name]:
            after = {
                position[parent, parents_share]
                for asset in assets
                for parent in parents[asset]
                if parent in selected and parent not in assets
                for parents_share in ([share] if kind[parent] == name else shares[kind[parent]])
            }
            position.update({(asset, share): len(runs) for asset in assets})
            runs.append(PlannedRun(assets=tuple(assets), partitions=share, after=tuple(sorted(after))))
    return runs


@contextmanager
def worker_processes(number: int) -> Iterator[Executor]:
    """Start the processes in which runs are executed.

    While this process has a single thread they are forked, and Dagster need not be imported again; else each is an interpreter of its
    own, since what another thread holds at the moment of a fork is never let go.
    """
    forks = _has_one_thread()
    context = multiprocessing.get_context("fork" if forks else "spawn")
    with ProcessPoolExecutor(number, mp_context=context, initializer=_prepare_worker) as workers:
        if forks:
            workers.submit(os.getpid)  # at the first task all of them are forked
        yield workers


def execute(runs: Sequence[PlannedRun], workers: Executor, *, concurrency: int, force: bool) -> Iterator[Event]:
    """Execute runs, several at once where they do not wait for each other, and yield what happens.

    After a failure no further run is started; those under way are followed to their end.
    """
    instance = dg.DagsterInstance.get()
    waiting, done = dict(enumerate(runs)), set[int]()
    following: dict[Future[list[Event]], tuple[int, _Follower]] = {}
    failed = False
    while following or (waiting and not failed):
        for index in [i for i, run in waiting.items() if not failed and done.issuperset(run.after)]:
            if len(following) >= concurrency:
                break
            run, run_id = waiting.pop(index), str(uuid.uuid4())
            future = _submit(workers, run, run_id, force)
            following[future] = index, _Follower(instance, run_id, run)
        time.sleep(POLL_SECONDS)
        for future, (index, follower) in list(following.items()):
            finished = future.done()
            yield from follower.new_events()
            if finished:
                del following[future]
                done.add(index)
                failures = _outcome(future, runs[index])
                failed = failed or bool(failures)
                yield from failures


def _select(definitions: dg.Definitions, selection: Sequence[str]) -> set[str]:
    graph = definitions.resolve_asset_graph()
    known = _names(graph.toposorted_asset_keys)
    chosen = set(known) if not selection else set[str]()
    for expression in selection:
        try:
            with warnings.catch_warnings(action="ignore"):  # the syntax is announced as beta at every use
                found = _names(dg.AssetSelection.from_string(expression).resolve(graph))
        except dg.DagsterError as error:
            raise UserError(f"--select {expression!r} matches no asset; assets: {', '.join(known)}") from error
        chosen.update(found)
    return chosen


def _shards_per_run(definitions: dg.Definitions) -> int:
    """Return the backfill policy that all assets partitioned by shard share, so that runs are the same from a shell and from the UI."""
    graph = definitions.resolve_asset_graph()
    policies = {
        graph.get(key).backfill_policy
        for key in graph.get_all_asset_keys()
        if _partitions_name(graph.get(key).partitions_def) == SHARDS
    }
    (policy,) = policies
    assert policy is not None
    assert policy.max_partitions_per_run is not None
    return policy.max_partitions_per_run


def _shares(
    keys: Mapping[str, Sequence[str]], registered: Sequence[str], shards_per_run: int
) -> dict[str | None, list[tuple[str, ...]]]:
    """Return the partitions of each run, by partitions definition."""
    from definemed_pipeline.defs.partitions import neighbours

    alone: dict[str | None, list[tuple[str, ...]]] = {
        name: [(key,) for key in own] for name, own in keys.items() if name != SHARDS
    }
    return {None: [()], SHARDS: neighbours(keys[SHARDS], registered, shards_per_run), **alone}


def _narrow(partitions: Mapping[str, Sequence[str]], used: set[str | None], only: str | None) -> dict[str, Sequence[str]]:
    """Keep a single key of the partitions definition it belongs to; assets partitioned otherwise are not narrowed."""
    if only is None:
        return dict(partitions)
    home = [name for name in used if name is not None and only in partitions[name]]
    if not home:
        known = [key for name in used if name is not None for key in partitions[name]]
        raise UserError(
            f"--partition {only!r} is not a partition of the selected assets; there are: {', '.join(known) or 'none'}"
        )
    return {name: [only] if name in home else keys for name, keys in partitions.items()}


def _names(keys: Iterable[dg.AssetKey]) -> list[str]:
    return [key.path[-1] for key in keys]


def _partitions_name(partitions: dg.PartitionsDefinition | None) -> str | None:
    if partitions is None:
        return None
    return partitions.name if isinstance(partitions, dg.DynamicPartitionsDefinition) else "base_model"


def _has_one_thread() -> bool:
    """Ask the kernel, which also knows the threads of libraries; where it cannot be asked (it is not Linux), say no."""
    threads = Path("/proc/self/task")
    return threads.exists() and len(list(threads.iterdir())) == 1


def _prepare_worker() -> None:
    """Keep a worker's output out of the terminal (Dagster captures it into the run's logs) and let it end with its parent."""
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (1, 2):
        os.dup2(null, stream)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@cache
def _instance() -> dg.DagsterInstance:
    """Return the instance that a worker uses for all of its runs: each that is opened checks the databases' versions anew."""
    return dg.DagsterInstance.get()


def _execute_run(run: PlannedRun, run_id: str, force: bool) -> list[Event]:
    """Execute one run in this worker process and return its failures."""
    from definemed_pipeline.definitions import defs
    from definemed_pipeline.defs.materialization import FORCE_TAG
    from definemed_pipeline.defs.partitions import range_tags

    keys = [dg.AssetKey(asset) for asset in run.assets]
    job = defs.resolve_implicit_job_def_def_for_assets(keys)
    assert job is not None
    several = range_tags(run.partitions) if len(run.partitions) > 1 else {}
    result = job.execute_in_process(
        instance=_instance(),
        asset_selection=keys,
        partition_key=run.partitions[0] if len(run.partitions) == 1 else None,
        run_id=run_id,
        tags={**several, **({FORCE_TAG: "true"} if force else {})},
        raise_on_error=False,
    )
    return [_failure(run, event) for event in result.all_events if event.is_step_failure]


def _submit(workers: Executor, run: PlannedRun, run_id: str, force: bool) -> "Future[list[Event]]":
    try:
        return workers.submit(_execute_run, run, run_id, force)
    except BrokenProcessPool as error:  # a worker was killed while it had nothing to do
        future: Future[list[Event]] = Future()
        future.set_exception(error)
        return future


def _failure(run: PlannedRun, event: dg.DagsterEvent) -> Event:
    data = event.step_failure_data
    asset = (event.step_key or run.assets[-1]).split("[")[0]
    trace = data.error.to_string() if data.error else ""
    if data.user_failure_data and data.user_failure_data.description:
        text = data.user_failure_data.description
    else:
        error = data.error
        while error and error.cause:
            error = error.cause
        text = error.message.strip() if error else "unknown error"
    return Event(kind="failed", asset=asset, partition=run.partition_name, text=text, trace=trace)


def _outcome(future: "Future[list[Event]]", run: PlannedRun) -> list[Event]:
    try:
        return future.result()
    except BrokenProcessPool:
        return [Event(kind="failed", asset=run.name, partition=None, text="the worker process was killed; run the command again")]


class _Follower:
    """Reads a run's event log as it grows."""

    def __init__(self, instance: dg.DagsterInstance, run_id: str, run: PlannedRun) -> None:
        self.instance, self.run_id, self.run = instance, run_id, run
        self.cursor: str | None = None
        self.started: dict[str, float] = {}
        self.reused: dict[str, bool] = {}
        self.rows: dict[str, int] = {}

    def new_events(self) -> Iterator[Event]:
        """Yield what happened since the last call."""
        if not self.instance.has_run(self.run_id):
            return
        connection = self.instance.get_records_for_run(self.run_id, self.cursor)
        self.cursor = connection.cursor
        for record in connection.records:
            if event := self._translate(record.event_log_entry):
                yield event

    def _translate(self, entry: dg.EventLogEntry) -> Event | None:
        asset = (entry.step_key or "").split("[")[0]
        event = entry.dagster_event
        if event is None:
            told = asset and int(entry.level) >= logging.INFO and not entry.user_message.startswith("[pipes]")
            return self._event("progress", asset, entry.user_message) if told else None
        if event.is_step_start:
            self.started[asset] = entry.timestamp
        if event.is_step_materialization:
            metadata = event.step_materialization_data.materialization.metadata
            # of several partitions: reused where all are, and their rows together
            self.reused[asset] = self.reused.get(asset, True) and bool(metadata["reused"].value)
            if isinstance(count := metadata.get("dagster/row_count"), dg.IntMetadataValue):
                self.rows[asset] = self.rows.get(asset, 0) + (count.value or 0)
        data = event.event_specific_data
        if isinstance(data, dg.AssetCheckEvaluation) and not data.passed:
            found = ", ".join(f"{name} {value.value}" for name, value in data.metadata.items())
            warned = data.severity == dg.AssetCheckSeverity.WARN  # stops nothing, in Dagster and here
            kind, said = ("check_warned", "says") if warned else ("check_failed", "failed")
            return self._event(kind, asset, f"check {data.check_name} {said}: {found}")
        if event.is_step_success:
            seconds = entry.timestamp - self.started[asset]
            rows = f"{self.rows[asset]:,} rows" if asset in self.rows else ""
            return self._event("reused" if self.reused.get(asset) else "built", asset, rows, seconds)
        return None

    def _event(self, kind: str, asset: str, text: str = "", seconds: float = 0.0) -> Event:
        return Event(kind=kind, asset=asset, partition=self.run.partition_name, text=text, seconds=seconds)
