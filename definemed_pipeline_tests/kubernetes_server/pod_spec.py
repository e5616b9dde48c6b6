"""What a container's process is told: environment, command and paths, read from the pod's spec as the kubelet reads it.

Three things that a node gives and a plain process lacks are told in words instead:
- Mount paths. A mount path at the start of an environment value or an argument is replaced by the folder that stands for the
  volume, unless `volumes.py` can put the volume there.
- Names of pods. `<hostname>.<subdomain>[:<port>]` becomes 127.0.0.1, and the port a free one, the same for all pods that name it.
- `python` is the interpreter of the tests.
"""

import os
import re
import socket
import sys
import threading
from collections.abc import Mapping

from definemed_pipeline_tests.kubernetes_server.store import Object

REFERENCE = re.compile(r"\$(\$)?\(([-._a-zA-Z][-._a-zA-Z0-9]*)\)")
LABEL = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
OF_THE_MACHINE = ("PATH", "HOME", "PYTHONPATH", "LANG")
Secrets = Mapping[str, Mapping[str, str]]


class ConfigError(Exception):
    """A container that the kubelet cannot make as its spec asks (CreateContainerConfigError)."""


class Addresses:
    """What names of pods and their ports stand for on this machine."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ports: dict[str, int] = {}

    def told(self, value: str, pod: Object) -> str:
        """Return a value with every name of a pod of the same subdomain as the address it has here."""
        subdomain, namespace = pod["spec"].get("subdomain"), re.escape(pod["metadata"]["namespace"])
        if not subdomain:
            return value
        host, end = rf"\b({LABEL}\.{re.escape(subdomain)})", rf"(?:\.{namespace}(?:\.svc(?:\.cluster\.local)?)?)?"
        return re.sub(rf"{host}{end}(?::(\d+))?(?![-\w])", lambda found: self._address(namespace, found[1], found[2]), value)

    def _address(self, namespace: str, host: str, port: str | None) -> str:
        if port is None:
            return "127.0.0.1"
        key = f"{namespace}/{host}:{port}"
        with self._lock:
            if key not in self._ports:
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", 0))
                    self._ports[key] = probe.getsockname()[1]
            return f"127.0.0.1:{self._ports[key]}"


class Told:
    """Translates what one container is told."""

    def __init__(
        self, pod: Object, container: Object, *, secrets: Secrets, paths: Mapping[str, str], addresses: Addresses
    ) -> None:
        self.pod, self.container = pod, container
        self.secrets, self.paths, self.addresses = secrets, paths, addresses

    def environment(self) -> dict[str, str]:
        """Return the environment. Raise ConfigError where it refers to what is not there."""
        told: dict[str, str] = {}
        for source in self.container.get("envFrom", []):
            reference = source["secretRef"]
            if (secret := self._secret(reference)) is not None:
                told.update({source.get("prefix", "") + key: value for key, value in secret.items()})
        for variable in self.container.get("env", []):
            value = self._value(variable, told)
            if value is not None:
                told[variable["name"]] = value
        machine = {name: os.environ[name] for name in OF_THE_MACHINE if name in os.environ}
        host = self.pod["spec"].get("hostname", self.pod["metadata"]["name"])
        return {**machine, "HOSTNAME": host, **{name: self.here(value) for name, value in told.items()}}

    def command(self, environment: Mapping[str, str]) -> list[str]:
        """Return the command and its arguments."""
        words = [*self.container["command"], *self.container.get("args", [])]
        told = [self.here(_expanded(word, environment)) for word in words]
        return [sys.executable if told[0] in ("python", "python3") else told[0], *told[1:]]

    def here(self, value: str) -> str:
        """Return a value with paths and names as they are on this machine."""
        for path, folder in sorted(self.paths.items(), reverse=True):
            if value == path or value.startswith(f"{path}/"):
                return folder + value[len(path) :]
        return self.addresses.told(value, self.pod)

    def _value(self, variable: Object, told: Mapping[str, str]) -> str | None:
        source = variable.get("valueFrom")
        if source is None:
            return _expanded(variable.get("value", ""), told)
        if "fieldRef" in source:
            return self._field(source["fieldRef"]["fieldPath"])
        reference = source["secretKeyRef"]
        secret = self._secret(reference)
        if secret is not None and reference["key"] not in secret and not reference.get("optional"):
            raise ConfigError(
                f"couldn't find key {reference['key']} in Secret {self.pod['metadata']['namespace']}/{reference['name']}"
            )
        return None if secret is None else secret.get(reference["key"])

    def _secret(self, reference: Object) -> Mapping[str, str] | None:
        if reference["name"] not in self.secrets and not reference.get("optional"):
            raise ConfigError(f'secret "{reference["name"]}" not found')
        return self.secrets.get(reference["name"])

    def _field(self, path: str) -> str:
        if found := re.fullmatch(r"metadata\.(labels|annotations)\['([^']+)'\]", path):
            return str(self.pod["metadata"].get(found[1], {}).get(found[2], ""))
        part, _, name = path.partition(".")
        return str(self.pod[part].get(name, ""))


def _expanded(value: str, known: Mapping[str, str]) -> str:
    """Replace $(NAME) by what is known by that name; $$(NAME) stands for $(NAME)."""
    return REFERENCE.sub(lambda found: found[0][1:] if found[1] else known.get(found[2], found[0]), value)
