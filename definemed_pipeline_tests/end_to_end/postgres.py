"""A PostgreSQL of one's own for a test: Debian's binaries, a fresh cluster in a temporary folder, as a user that is not root."""

import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2

from definemed_pipeline_tests.end_to_end.ui import free_port

USER = "postgres"  # of the machine, made by Debian's package; PostgreSQL refuses to run as root


def find_binaries() -> Path | None:
    """Return the folder with initdb and postgres, the newest where there are several."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    return next((folder for folder in folders if (folder / "initdb").exists() and (folder / "postgres").exists()), None)


@contextmanager
def running_postgres(binaries: Path) -> Iterator[dict[str, str]]:
    """Start a server with an empty database on a free port of 127.0.0.1; yield the environment by which docker/dagster.yaml finds it."""
    user = USER if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))  # pytest's own folders are closed to other users
    password, port = secrets.token_hex(16), free_port()
    (folder / "password").write_text(password)
    if user is not None:
        for path in (folder, folder / "password"):
            shutil.chown(path, user)
    create = [binaries / "initdb", "--pgdata", folder / "data", "--username", "dagster", "--auth", "scram-sha-256"]
    subprocess.run(
        [*create, "--pwfile", folder / "password", "--encoding", "UTF8", "--no-sync"],
        user=user,
        cwd=folder,
        check=True,
        capture_output=True,
    )
    options = {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"}
    server = subprocess.Popen(
        [binaries / "postgres", "-D", folder / "data", *(f"--{name}={value}" for name, value in options.items())],
        user=user,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _create_database(port, password)
        yield {
            "DAGSTER_PG_HOST": "127.0.0.1",
            "DAGSTER_PG_PORT": str(port),
            "DAGSTER_PG_USERNAME": "dagster",
            "DAGSTER_PG_PASSWORD": password,
            "DAGSTER_PG_DB": "dagster",
        }
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(folder)


def _create_database(port: int, password: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            connection = psycopg2.connect(host="127.0.0.1", port=port, user="dagster", password=password, dbname="postgres")
            break
        except psycopg2.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE dagster")
    connection.close()
