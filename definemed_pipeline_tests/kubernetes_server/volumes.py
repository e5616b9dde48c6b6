"""A pod's volumes as folders: an emptyDir a temporary one, a claim and a hostPath the one they name, a Secret its files.

Nothing can be mounted for a plain process. A mount path inside the test's own folder becomes a link to the volume while the pod
lives, so that it is right wherever it is written down; any other one is replaced where the container is told it (`pod_spec.py`).
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from definemed_pipeline_tests.kubernetes_server.pod_spec import ConfigError, Secrets
from definemed_pipeline_tests.kubernetes_server.store import Object


class Volumes:
    """The volumes of one pod."""

    def __init__(self, pod: Object, home: Path, *, claims: Mapping[str, Path], secrets: Secrets) -> None:
        self.pod, self.home = pod, home
        self.claims, self.secrets = claims, secrets
        self._own = home / "volumes" / pod["metadata"]["uid"]
        self._links: list[Path] = []

    @property
    def working_folder(self) -> Path:
        """Return where containers start that name no working directory."""
        return self._own

    def mount(self) -> None:
        """Make the folders. Raise ConfigError where a volume cannot be had."""
        self._own.mkdir(parents=True, exist_ok=True)
        for volume in self.pod["spec"].get("volumes", []):
            self._folder(volume).mkdir(parents=True, exist_ok=True)
            if "secret" in volume:
                self._write_secret(volume)
        for container in self.pod["spec"]["containers"]:
            for path, folder in self._mounts(container).items():
                if self._is_inside(path) and path.resolve() != folder.resolve():
                    self._link(path, folder)

    def unmount(self) -> None:
        """Remove what is the pod's own."""
        for link in self._links:
            link.unlink(missing_ok=True)
        self._links.clear()
        shutil.rmtree(self._own, ignore_errors=True)

    def replaced(self, container: Object) -> dict[str, str]:
        """Return the mount paths that a container must be told as other paths."""
        return {str(path): str(folder) for path, folder in self._mounts(container).items() if not self._is_inside(path)}

    def _mounts(self, container: Object) -> dict[Path, Path]:
        folders = {volume["name"]: self._folder(volume) for volume in self.pod["spec"].get("volumes", [])}
        mounts = container.get("volumeMounts", [])
        return {Path(one["mountPath"]): folders[one["name"]] / one.get("subPath", "") for one in mounts}

    def _folder(self, volume: Object) -> Path:
        if "hostPath" in volume:
            return Path(volume["hostPath"]["path"])
        if "persistentVolumeClaim" in volume:
            return Path(self.claims[volume["persistentVolumeClaim"]["claimName"]])
        return self._own / volume["name"]

    def _write_secret(self, volume: Object) -> None:
        name = volume["secret"]["secretName"]
        if name not in self.secrets:
            raise ConfigError(f'MountVolume.SetUp failed for volume "{volume["name"]}" : secret "{name}" not found')
        for key, value in self.secrets[name].items():
            (self._folder(volume) / key).write_text(value, "utf-8")

    def _is_inside(self, path: Path) -> bool:
        return path.is_relative_to(self.home.parent)

    def _link(self, path: Path, folder: Path) -> None:
        if path in self._links:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.symlink(folder, path, target_is_directory=True)
        except FileExistsError as error:
            raise ConfigError(
                f"{path} is there already, or another pod's volume is there: no two can be on one machine"
            ) from error
        self._links.append(path)
