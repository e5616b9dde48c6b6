"""The inner side of the payload contract: how a module becomes a process that builds artifacts of one asset.

A payload module defines a work function over a `Draft` and ends with

    if __name__ == "__main__":
        run_payload(Settings, work)

It is started as `python -m definemed_pipeline.<package>.<payload>`, by `compute` with its spec in the Dagster Pipes context, or by
hand with `--spec file.json`. A spec may name several partitions, which are built one after the other in one process, so that its
start is paid once; each is published as soon as it is done. Exit status: 0 done, 64 the spec or an input is wrong (never to be retried),
anything else may be retried: work goes on from the checkpoints of the killed try. Needs dagster-pipes and the standard library only.
"""

import argparse
import contextlib
import dataclasses
import faulthandler
import json
import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from dagster_pipes import open_dagster_pipes

from definemed_pipeline import pod
from definemed_pipeline.artifacts.build import Built, Draft, assist, build
from definemed_pipeline.artifacts.manifest import Identity
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.errors import StoppedError, UserError

BAD_INPUT = 64
MAY_RETRY = 75
DIES_WITH_PARENT = "DEFINEMED_DIES_WITH_PARENT"  # set by a launcher that holds the payload's standard input open
S = TypeVar("S")


@dataclass(frozen=True, kw_only=True)
class Spec:
    """Everything a payload needs: which artifacts of one asset to build, from what, into which lake.

    `execution` says how the work uses the machine it runs on; it changes no version.
    """

    lake: str
    scratch: str
    recipe: str
    run_id: str
    force: bool
    identities: tuple[Identity, ...]
    execution: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return what tells this payload from others of the same lake: asset, first partition and its version."""
        first = self.identities[0]
        more = f"+{len(self.identities) - 1}" if len(self.identities) > 1 else ""
        return f"{first.asset}/{first.partition}{more}-{first.version}"

    def to_json(self) -> dict[str, Any]:
        """Return the spec as plain JSON values."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return plain

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Spec":
        """Read a spec back; raise UserError where a key is missing, unknown or of the wrong shape."""
        try:
            return cls(**{**data, "identities": tuple(Identity.from_json(identity) for identity in data["identities"])})
        except (TypeError, KeyError, AttributeError) as error:
            raise UserError(f"the payload's spec does not fit: {error}") from error


def run_payload(
    settings_type: type[S],
    work: Callable[[Draft[S]], None],
    *,
    parse: Callable[[Mapping[str, Any]], S] | None = None,
) -> None:
    """Run a payload's process from its spec to its exit status. `parse` builds settings that nest (default: keywords)."""
    faulthandler.enable()  # a crash in a library written in C says where it happened
    if DIES_WITH_PARENT in os.environ:
        threading.Thread(target=exit_with_parent, daemon=True).start()
    with _channel() as (spec_json, report, report_error):
        try:
            spec = Spec.from_json(spec_json)
            _build_all(spec, work, parse or (lambda section: settings_type(**section)), report)
        except UserError as error:
            _fail(str(error), BAD_INPUT, report_error)
        except StoppedError as stop:
            _fail(str(stop), MAY_RETRY, report_error)
        except BaseException as error:
            traceback.print_exc()
            _fail(f"{type(error).__name__}: {error}", 1, report_error)


def _build_all(
    spec: Spec,
    work: Callable[[Draft[S]], None],
    parse: Callable[[Mapping[str, Any]], S],
    report: Callable[[str], None],
) -> None:
    """Build every artifact of the spec; one that a user must cure does not keep the others from being built."""
    faults = []
    for identity in spec.identities:
        try:
            print(f"building {identity.asset}[{identity.partition}] version {identity.version}", flush=True)  # read after a crash
            built = _build(spec, identity, work, parse, report)
            did = "helped to build" if built is None else "reused" if built.reused else "built"
            report(f"{did} {identity.asset} version {identity.version}")
        except UserError as error:
            faults.append(str(error))
    if faults:
        raise UserError("\n".join(faults))


def _build(
    spec: Spec,
    identity: Identity,
    work: Callable[[Draft[S]], None],
    parse: Callable[[Mapping[str, Any]], S],
    report: Callable[[str], None],
) -> Built | None:
    try:
        section = parse(identity.settings)
    except (TypeError, ValueError) as error:
        raise UserError(f"the settings of {identity.asset} do not fit: {error}") from error
    store = Store(spec.lake, scratch=Path(spec.scratch))
    if not pod.leads():
        assist(
            store, identity, work, settings=section, force=spec.force, recipe=spec.recipe, execution=spec.execution, report=report
        )
        return None
    return build(
        store,
        identity,
        work,
        settings=section,
        recipe=spec.recipe,
        run_id=spec.run_id,
        force=spec.force,
        execution=spec.execution,
        report=report,
    )


@contextlib.contextmanager
def _channel() -> Iterator[tuple[Mapping[str, Any], Callable[[str], None], Callable[[str, int], None]]]:
    """Yield the spec and the ways to report: over Pipes where Dagster launched us, else to the terminal."""
    if "DAGSTER_PIPES_CONTEXT" in os.environ:
        with pod.open_channel() if pod.runs_in_a_pod() else open_dagster_pipes() as pipes:
            yield (
                pipes.get_extra("spec"),
                pipes.log.info,
                lambda message, status: pipes.report_custom_message({"error": message, "exit_status": status}),
            )
        return
    parser = argparse.ArgumentParser(description="Build artifacts from their spec, as Dagster would.")
    parser.add_argument(
        "--spec", type=Path, required=True, help="JSON; a launched payload leaves its own in <lake>/.scratch/payloads"
    )
    spec_file = parser.parse_args().spec
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        spec_json = json.loads(spec_file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        print(f"the spec {spec_file} cannot be read: {error}", file=sys.stderr)
        sys.exit(BAD_INPUT)
    yield spec_json, logging.getLogger(__name__).info, lambda message, _: print(message, file=sys.stderr)


def exit_with_parent() -> None:
    """Stop at once when the launcher is gone: nobody would record the result, and a rerun goes on from the checkpoints."""
    while os.read(0, 1):  # not through sys.stdin, whose lock a daemon thread would still hold when the interpreter shuts down
        pass
    os._exit(MAY_RETRY)


def _fail(message: str, status: int, report_error: Callable[[str, int], None]) -> None:
    report_error(message, status)
    sys.exit(status)
