import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from definemed_pipeline.artifacts.manifest import Identity, Manifest
from definemed_pipeline.errors import UserError
from definemed_pipeline.existing_models import FolderModelSettings, HubModelSettings
from definemed_pipeline.payload import Spec
from definemed_pipeline.training.provide_base_model import provide_base_model
from definemed_pipeline_tests.conftest import RECIPE, build_artifact, identity_of

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "institute/tiny-instruct"


@pytest.fixture
def base(store, base_model) -> Manifest:
    return base_model()


@pytest.fixture
def folder(tmp_path, store, base) -> Path:
    """A downloaded model folder, with what a repository holds beside the model."""
    target = tmp_path / "downloaded"
    target.mkdir()
    for path in (store.folder(base) / "model").iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    (target / "pytorch_model.bin").write_bytes(b"a pickle")
    (target / "modeling_own.py").write_text("raise SystemExit('this ran')")
    return target


@pytest.fixture
def provide(store, folder) -> Callable[[], Manifest]:
    def build() -> Manifest:
        section = FolderModelSettings(kind="folder", path=str(folder))
        return build_artifact(store, "base_models", provide_base_model, section, partition="own", sources=section.sources())

    return build


def change_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_folder_is_taken_over_byte_by_byte_without_pickles_and_code(base, provide) -> None:
    provided = provide()
    assert [(file.path, file.sha256) for file in provided.files] == [(file.path, file.sha256) for file in base.files]
    assert {name: provided.metrics[name] for name in ("parameters", "vocabulary_size", "architecture")} == {
        name: base.metrics[name] for name in ("parameters", "vocabulary_size", "architecture")
    }


def test_other_weights_in_the_folder_make_another_version(folder, provide) -> None:
    before = provide()
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert provide().version != before.version


def test_a_model_that_asks_for_code_of_its_own_is_refused(folder, provide) -> None:
    change_json(folder / "config.json", auto_map={"AutoModelForCausalLM": "modeling_own.Own"})
    with pytest.raises(UserError, match="auto_map"):
        provide()


def test_a_model_without_a_chat_template_is_refused_as_no_instruct_model(folder, provide) -> None:
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match="no chat template"):
        provide()


def test_a_chat_template_kept_in_the_tokenizers_config_will_do(folder, provide) -> None:
    (folder / "chat_template.jinja").rename(folder / "chat_template.txt")
    change_json(folder / "tokenizer_config.json", chat_template="{{ messages }}")
    assert provide().metrics["parameters"] > 0


def test_pickled_weights_alone_are_refused(folder, provide) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="safetensors weights missing"):
        provide()


def test_an_index_that_names_an_absent_file_is_refused(folder, provide) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="model-00002-of-00002"):
        provide()


def test_a_folder_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(UserError, match="/nowhere is no model folder"):
        FolderModelSettings(kind="folder", path="/nowhere").sources()


@pytest.fixture
def hub(folder) -> Iterator[str]:
    """A server that answers like the Hub for one repository at one commit."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == f"/api/models/{REPOSITORY}/tree/{COMMIT}":
                files = [
                    {"type": "file", "path": path.name, "size": path.stat().st_size, "oid": "0" * 40} for path in folder.iterdir()
                ]
                self.answer(json.dumps(files).encode())
            elif path.startswith(f"/{REPOSITORY}/resolve/{COMMIT}/"):
                self.answer((folder / path.rsplit("/", 1)[1]).read_bytes())
            else:
                self.answer(b"{}", status=404, error="RepoNotFound")

        def answer(self, content: bytes, status: int = 200, error: str | None = None) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", f'"{hash(content):x}"')
            self.send_header("X-Repo-Commit", COMMIT)
            if error:
                self.send_header("X-Error-Code", error)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def log_message(self, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def fetch(store, tmp_path: Path, hub: str, repository: str) -> tuple[Identity, subprocess.CompletedProcess[str]]:
    identity = identity_of(
        "base_models", HubModelSettings(kind="hub", repository=repository, revision=COMMIT), partition="fetched"
    )
    spec = Spec(lake=store.url, scratch=str(store.scratch), recipe=RECIPE, run_id="test", force=False, identities=(identity,))
    (tmp_path / "spec.json").write_text(json.dumps(spec.to_json()))
    command = [sys.executable, "-m", "definemed_pipeline.training.provide_base_model", "--spec", str(tmp_path / "spec.json")]
    environment = {**os.environ, "HF_ENDPOINT": hub, "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
    return identity, subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_a_hub_model_is_fetched_at_its_revision_without_pickles_and_code(store, tmp_path, base, hub) -> None:
    identity, done = fetch(store, tmp_path, hub, REPOSITORY)
    assert done.returncode == 0, done.stderr
    fetched = store.manifest("base_models", "fetched", identity.version)
    assert [(file.path, file.sha256) for file in fetched.files] == [(file.path, file.sha256) for file in base.files]


def test_a_repository_the_hub_does_not_show_is_an_error_the_user_can_cure(store, tmp_path, hub) -> None:
    _, done = fetch(store, tmp_path, hub, "institute/misspelt")
    assert done.returncode == 64
    assert "institute/misspelt" in done.stderr
    assert "Traceback" not in done.stderr
