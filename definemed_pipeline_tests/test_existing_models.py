import pytest

from definemed_pipeline.existing_models import FolderModelSettings, HubModelSettings, parse_existing_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize("revision", ["main", "v1.0", COMMIT[:-1], COMMIT.upper()])
def test_a_hub_revision_that_may_move_is_refused(revision: str) -> None:
    with pytest.raises(ValueError, match="commit hash of 40 hexadecimal digits"):
        HubModelSettings(kind="hub", repository="a/b", revision=revision)


def test_a_hub_model_is_named_by_its_revision_and_has_no_sources() -> None:
    assert HubModelSettings(kind="hub", repository="a/b", revision=COMMIT).sources() == {}


def test_a_folder_names_each_model_file_as_a_source(tmp_path) -> None:
    for name in ("config.json", "model.safetensors", "tokenizer.json", "training_args.bin", "modeling_own.py"):
        (tmp_path / name).touch()
    section = FolderModelSettings(kind="folder", path=str(tmp_path))
    assert list(section.sources()) == ["model/config.json", "model/model.safetensors", "model/tokenizer.json"]


def test_a_model_that_is_to_be_trained_does_not_exist_already() -> None:
    with pytest.raises(ValueError, match="kind is 'pretrain'; allowed: hub, folder"):
        parse_existing_model({"kind": "pretrain"})
