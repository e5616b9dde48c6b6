"""Payloads as processes of this machine, through Dagster Pipes.

Dagster's own PipesSubprocessClient hides the exit status and the messages of a process that failed; the payload contract needs
both (64 is never retried), so the process is started here, within `open_pipes_session`.
"""

import json
import os
import signal
import subprocess
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from definemed_pipeline.compute.environment import payload_environment
from definemed_pipeline.compute.forking import ForkedProcess, start_payload
from definemed_pipeline.payload import BAD_INPUT, DIES_WITH_PARENT, Spec

GRACE_SECONDS = 30
TAIL_LINES = 15


@dataclass(frozen=True, kw_only=True)
class LocalCompute:
    """Run each payload as a process with a fixed number of threads."""

    threads: int

    def run(self, context: dg.AssetExecutionContext, module: str, spec: Spec) -> None:
        """Run a payload to its end. Raise dagster.Failure: final for bad input, retryable for anything else."""
        log_path = _log_path(spec)
        log_path.with_suffix(".spec.json").write_text(json.dumps(spec.to_json(), indent=2), "utf-8")  # to run it by hand
        with (
            dg.open_pipes_session(
                context=context,
                context_injector=dg.PipesTempFileContextInjector(),
                message_reader=dg.PipesTempFileMessageReader(),
                extras={"spec": spec.to_json()},
            ) as session,
            log_path.open("wb") as log,
        ):
            environment = {
                **os.environ,
                **session.get_bootstrap_env_vars(),
                **payload_environment(self.threads),
                DIES_WITH_PARENT: "1",  # which its standard input tells
            }
            process = start_payload([module], environment, log)
            try:
                status = process.wait()
            finally:
                _stop(process)
        if status != 0:
            raise _failure(module, status, session.get_custom_messages(), log_path)


def _log_path(spec: Spec) -> Path:
    path = Path(spec.scratch) / "payloads" / f"{spec.name}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _stop(process: ForkedProcess | subprocess.Popen[bytes]) -> None:
    """End a process that is still running because the run was cancelled: first asked, then killed."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _failure(module: str, status: int, messages: Any, log_path: Path) -> dg.Failure:
    told = [message["error"] for message in messages if isinstance(message, dict) and "error" in message]
    reason = told[-1] if told else f"payload {module} {_end(status)}; its output, which names what it was building: {log_path}"
    with log_path.open(encoding="utf-8", errors="replace") as log:
        tail = "".join(deque(log, maxlen=TAIL_LINES))
    return dg.Failure(
        description=reason,
        metadata={
            "exit_status": status,
            "log": dg.MetadataValue.path(str(log_path)),
            "tail": dg.MetadataValue.md(f"```\n{tail}\n```"),
        },
        allow_retries=status != BAD_INPUT,
    )


def _end(status: int) -> str:
    """Say how a process ended that could not tell itself."""
    if status >= 0:
        return f"ended with status {status}"
    name = signal.Signals(-status).name
    return f"was killed ({name}), most likely for want of memory" if name == "SIGKILL" else f"crashed ({name})"
