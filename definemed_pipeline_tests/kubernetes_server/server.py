"""The server as tests use it: a cluster that is reached over HTTP by a kubeconfig file, and what can go wrong on the way to it."""

import secrets
import shutil
import threading
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Self

import yaml

from definemed_pipeline_tests.kubernetes_server.cluster_faults import FaultyCluster
from definemed_pipeline_tests.kubernetes_server.connections import LOGS, WATCHES, Listener
from definemed_pipeline_tests.kubernetes_server.trouble import Fault, Trouble


class KubernetesServer(FaultyCluster):
    """A cluster and its API server; use as a context manager.

    `folder` is the test's own. `requests` counts requests by verb and path. What cannot be pulled, scheduled and so on stands in
    `cluster_faults.py`; what happens between server and client stands here.
    """

    def __init__(self, folder: Path, *, namespace: str = "definemed", backoff_seconds: float = 0.05) -> None:
        super().__init__(folder / "kubernetes", namespace=namespace, backoff_seconds=backoff_seconds)
        self.token = secrets.token_hex(16)
        self.trouble = Trouble(self.token, self.closing)
        self.requests: Counter[tuple[str, str]] = Counter()
        self.listener = Listener(self)
        self._server_thread = threading.Thread(target=self.listener.serve_forever, args=(0.02,), name="API server")

    def __enter__(self) -> Self:
        super().__enter__()
        self._write_kubeconfig()
        self._server_thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.closing.set()
        self.store.ring()
        self.listener.close()
        self._server_thread.join()
        try:
            super().__exit__(kind, error, trace)
        finally:
            shutil.rmtree(self.home / "volumes", ignore_errors=True)

    @property
    def kubeconfig(self) -> Path:
        """Return the file by which clients find this server."""
        return self.home / "kubeconfig.yaml"

    @property
    def url(self) -> str:
        """Return where the server listens."""
        return f"http://127.0.0.1:{self.listener.server_port}"

    def count_requests(self, verb: str | None = None, path_contains: str = "") -> int:
        """Return how many requests there were, of one verb or with some word in the path."""
        asked = self.requests.copy().items()
        return sum(count for (one, path), count in asked if verb in (None, one) and path_contains in path)

    def fail_requests(
        self,
        status: int,
        *,
        times: int = 1,
        retry_after: int | None = None,
        verb: str | None = None,
        path_contains: str | None = None,
    ) -> None:
        """Answer the next requests, of a verb or with some word in the path, with an error (500, 429, 503 …) and nothing else.

        Verbs are Kubernetes' own: get, list, watch, create, patch, delete, deletecollection.
        """
        self.trouble.faults.append(Fault(times, verb, path_contains, status=status, retry_after=retry_after))

    def drop_connections(
        self, times: int = 1, *, verb: str | None = None, path_contains: str | None = None, after_the_deed: bool = False
    ) -> None:
        """Hang up on the next requests instead of answering; with `after_the_deed` only the answer is lost."""
        self.trouble.faults.append(Fault(times, verb, path_contains, is_late=after_the_deed))

    def end_trouble(self) -> None:
        """Answer every request again, and at once."""
        self.trouble.faults.clear()
        self.trouble.seconds = 0
        self.trouble.token = self.token

    def slow(self, seconds: float) -> None:
        """Let every request wait so long before it is looked at, as an overloaded server does."""
        self.trouble.seconds = seconds

    def refuse_access(self) -> None:
        """Refuse everyone (401), as when the credentials have expired."""
        self.trouble.token = "renewed"

    def cut_watches(self) -> None:
        """Hang up on everyone who watches, as a load balancer or a restarted API server does."""
        self.listener.cut(WATCHES)

    def expire_watches(self) -> None:
        """Forget all earlier versions, as when etcd compacts: open watches, and those from one of them, end with an error (410)."""
        self.store.forget_history()

    def cut_logs(self) -> None:
        """Hang up on everyone who follows a log, as a restarted kubelet does."""
        self.listener.cut(LOGS)

    def _write_kubeconfig(self) -> None:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "tests", "cluster": {"server": self.url}}],
            "users": [{"name": "tests", "user": {"token": self.token}}],
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests", "namespace": self.namespace}}],
            "current-context": "tests",
        }
        self.kubeconfig.write_text(yaml.safe_dump(config), "utf-8")
