"""A merge in mergekit's own words, from the recipe's section. No model is touched here."""

from collections.abc import Mapping
from typing import Any

from definemed_pipeline.merging.methods import METHODS
from definemed_pipeline.merging.parameters import base_is_merged
from definemed_pipeline.merging.settings import BASE, MergedModelsSettings


def merge_configuration(chosen: MergedModelsSettings, references: Mapping[str, Any]) -> dict[str, Any]:
    """Return mergekit's configuration of a merge; `references` are the models, each as mergekit reads a reference.

    There is no `tokenizer_source`: with one, mergekit cuts the vocabulary's padding off (Qwen2.5: 152,064 to 151,665 rows).
    """
    known = METHODS[chosen.method].parameters
    by_model = {name: value for name, value in chosen.parameters.items() if known[name].per_model and isinstance(value, Mapping)}
    models = []
    for name in chosen.models:
        own = {parameter: values[name] for parameter, values in by_model.items() if name in values}
        models.append({"model": references[name], **({"parameters": own} if own else {})})
    configuration: dict[str, Any] = {"merge_method": chosen.method, "dtype": chosen.dtype, "models": models}
    if METHODS[chosen.method].base != "merged" and not base_is_merged(chosen.method, chosen.parameters, BASE):
        configuration["base_model"] = references[BASE]
    if shared := {name: value for name, value in chosen.parameters.items() if name not in by_model}:
        configuration["parameters"] = shared
    return configuration
