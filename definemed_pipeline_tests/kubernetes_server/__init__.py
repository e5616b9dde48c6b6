"""A Kubernetes API server for tests, in this process: real HTTP, real semantics, pods as local processes, and faults by name.

    with KubernetesServer(folder) as server:
        ...  # any Kubernetes client, by the kubeconfig file server.kubeconfig

What Kubernetes would do and this server does not is refused with 501 instead of ignored. `server.py` is what tests use.
"""

from definemed_pipeline_tests.kubernetes_server.server import KubernetesServer

__all__ = ["KubernetesServer"]
