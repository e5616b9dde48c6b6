from typing import Any

import pytest

from definemed_pipeline.existing_models import FolderModelSettings
from definemed_pipeline.merging.settings import MergedModelsSettings
from definemed_pipeline.settings import as_json, section_digest

SCHEDULE = [{"filter": "self_attn", "value": [0, 0.5, 1]}, {"filter": "mlp", "value": 0.2}, {"value": 0.5}]
THIRD = {"third": FolderModelSettings(kind="folder", path="/models/third")}


@pytest.mark.parametrize(
    ("section", "said"),
    [
        (
            {"method": "passthrough"},
            "method is 'passthrough'; allowed: arcee_fusion, breadcrumbs, .*, slerp, task_arithmetic, ties",
        ),
        ({"parameters": {}}, "lacks 't', which slerp needs"),
        ({"method": "ties", "parameters": {"t": 0.5}}, "'t', which ties does not take; allowed: density, int8_mask, lambda"),
        ({"parameters": {"t": 1.5}}, "parameters.t is 1.5; allowed: a number of at least 0 and at most 1"),
        ({"parameters": {"t": "0.5"}}, "parameters.t is '0.5'; allowed: a number"),
        ({"parameters": {"t": True}}, "parameters.t is True; allowed: a number"),
        ({"parameters": {"t": [0, 2]}}, "parameters.t is 2; allowed"),
        ({"parameters": {"t": []}}, "parameters.t is an empty list"),
        ({"parameters": {"t": {"cpt": 0.5}}}, "parameters.t differs by model, but is one for the whole merge"),
        ({"parameters": {"t": SCHEDULE[:2]}}, "the last has no filter"),
        ({"parameters": {"t": [{"filter": "", "value": 1}, {"value": 0}]}}, "the filter ''; allowed: a part of a tensor's name"),
        ({"parameters": {"t": [{"filter": "mlp", "value": [3]}, {"value": 0}]}}, "parameters.t is 3"),
        ({"method": "karcher", "parameters": {"max_iter": 0.5}}, "max_iter is 0.5; allowed: a whole number of at least 1"),
        ({"method": "sce", "parameters": {"int8_mask": 1}}, "int8_mask is 1; allowed: true or false"),
        ({"method": "linear", "parameters": {"weight": {"cpt": 1}}}, "weight lacks the model 'base'"),
        ({"method": "ties", "parameters": {"weight": {"cpt": 1, "base": 1}}}, "names 'base', from which ties measures"),
        ({"method": "ties", "parameters": {"weight": {"ctp": 1}}}, "names the model 'ctp'; allowed: base, cpt"),
        ({"method": "model_stock"}, "model_stock merges 3 or more models, and there are base, cpt"),
        ({"method": "nuslerp", "parameters": {"weight": 1}}, "merges 3 models.*or give 'base' a weight"),
        ({"parameters": {"t": 0.5}, "others": THIRD}, "slerp merges 2 models, and there are base, cpt, third"),
        ({"parameters": {"t": 0.5}, "others": {"cpt": THIRD["third"]}}, "others names a model 'cpt'"),
        ({"parameters": {"t": 0.5}, "for_base_models": {"small": {"t": 1}}}, "for_base_models.small: t is not a known key"),
        (
            {"parameters": {"t": 0.5}, "for_base_models": {"small": {"parameters": {"t": 2}}}},
            "for_base_models.small: parameters.t is 2",
        ),
    ],
)
def test_what_does_not_fit_a_method_is_refused_with_what_is_allowed(section: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        MergedModelsSettings(**section)


@pytest.mark.parametrize(
    "section",
    [
        {"parameters": {"t": SCHEDULE}},
        {"method": "linear", "parameters": {"weight": {"base": [1, 0], "cpt": SCHEDULE}}},
        {"method": "nuslerp", "parameters": {"weight": {"base": 0.3, "cpt": 0.7}}},
        {"method": "nuslerp", "parameters": {"weight": 1}, "others": THIRD},
        {"method": "dare_ties", "parameters": {"weight": {"cpt": 1, "third": 0.5}, "density": 0.5}, "others": THIRD},
        {"method": "model_stock", "others": THIRD},
        {"method": "karcher"},
    ],
)
def test_what_fits_survives_the_way_through_json(section: dict[str, Any]) -> None:
    chosen = MergedModelsSettings(**section)
    assert section_digest(MergedModelsSettings.parse(as_json(chosen))) == section_digest(chosen)


def test_a_base_model_may_be_merged_in_its_own_way() -> None:
    chosen = MergedModelsSettings(parameters={"t": 0.5}, for_base_models={"small": {"parameters": {"t": 0.7}}})
    assert chosen.of("small") == MergedModelsSettings(parameters={"t": 0.7})
    assert chosen.of("large") == MergedModelsSettings(parameters={"t": 0.5})
    assert section_digest(chosen.of("large")) != section_digest(chosen.of("small"))


def test_another_models_files_are_sources_under_its_name(tmp_path) -> None:
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (tmp_path / name).touch()
    other = FolderModelSettings(kind="folder", path=str(tmp_path))
    sources = MergedModelsSettings(method="karcher", others={"third": other}).sources()
    assert list(sources) == [f"others/third/model/{name}" for name in ("config.json", "model.safetensors", "tokenizer.json")]
