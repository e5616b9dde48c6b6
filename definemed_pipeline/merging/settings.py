"""The recipe's section for merging. Standard library only, as in all settings."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from definemed_pipeline.existing_models import ExistingModelSettings, FolderModelSettings
from definemed_pipeline.merging.methods import METHODS
from definemed_pipeline.merging.parameters import check_parameters
from definemed_pipeline.settings import as_json, from_json, setting, settings

BASE, CPT = "base", "cpt"


@settings
class MergedModelsSettings:
    """How a base model, its CPT checkpoint and `others` become one.

    `method` is one of mergekit's and `parameters` are its own (see `methods.py` and `parameters.py`); there the models are named `base`,
    `cpt` and as in `others`. `seed` is of the methods that draw at random. `for_base_models` gives single base models values of their
    own: a key replaces the section's.
    """

    method: str = "slerp"
    parameters: dict[str, Any] = setting(factory=dict)
    others: dict[str, ExistingModelSettings] = setting(factory=dict)
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    seed: int = setting(default=0, at_least=0)
    for_base_models: dict[str, dict[str, Any]] = setting(factory=dict)

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method is {self.method!r}; allowed: {', '.join(METHODS)}")
        if reserved := {BASE, CPT} & self.others.keys():
            raise ValueError(f"others names a model {reserved.pop()!r}; allowed: any name but {BASE} and {CPT}")
        check_parameters(self.method, self.parameters, self.models)
        for name in self.for_base_models:
            self.of(name)

    @property
    def models(self) -> tuple[str, ...]:
        """Return the names of the models that take part, the base first."""
        return BASE, CPT, *self.others

    def of(self, base_model: str) -> "MergedModelsSettings":
        """Return the section as it holds for one base model. Raise ValueError where its own values do not fit."""
        own = self.for_base_models.get(base_model, {})
        try:
            return MergedModelsSettings.parse({**as_json(self), **own, "for_base_models": {}})
        except (TypeError, ValueError) as error:
            raise ValueError(f"for_base_models.{base_model}: {error}") from None

    def sources(self) -> dict[str, str]:
        """Return the files of the other models that lie in folders, by the names under which a draft finds them."""
        return {
            f"others/{name}/{path}": location
            for name, model in self.others.items()
            if isinstance(model, FolderModelSettings)
            for path, location in model.sources().items()
        }

    @classmethod
    def parse(cls, section: Mapping[str, Any]) -> "MergedModelsSettings":
        """Build the settings from a payload's JSON. Raise ValueError or TypeError where a key or value does not fit."""
        known = [field.name for field in dataclasses.fields(cls)]
        if unknown := sorted(section.keys() - set(known)):
            raise ValueError(f"{unknown[0]} is not a known key; allowed: {', '.join(known)}")
        parsed: MergedModelsSettings = from_json(cls, section)
        return parsed
