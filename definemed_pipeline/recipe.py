"""The recipe: one YAML file that says everything that may differ between two runs of the graph.

Each section carries the name of the asset that takes it (`source` belongs to `fineweb2_shards`), and the digest of a section is part of
that asset's version. `compute`, `checks`, `plan` and `refresh` change no bytes and belong to no version.
"""

import dataclasses
import difflib
import functools
import importlib.resources
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import pydantic
import yaml

from definemed_pipeline.artifacts.sources import YamlLoader
from definemed_pipeline.compute.settings import ComputeSettings
from definemed_pipeline.corpus.classifier.settings import (
    CascadeCertificateSettings,
    ClassifierScoresSettings,
    MedicalClassifierSettings,
)
from definemed_pipeline.corpus.settings import (
    AnnotationSettings,
    BenchmarkLeaksSettings,
    FinemedDeSettings,
    MedicalDocumentsSettings,
    SamplingFrameSettings,
)
from definemed_pipeline.corpus.sources.settings import SourceSettings
from definemed_pipeline.errors import UserError
from definemed_pipeline.evaluation.benchmarks.settings import BenchmarkScoresSettings
from definemed_pipeline.evaluation.failures.settings import FailureModesSettings
from definemed_pipeline.evaluation.pairwise.settings import WinRatesSettings
from definemed_pipeline.evaluation.report.settings import ReportSettings
from definemed_pipeline.evaluation.settings import (
    ModelCardsSettings,
    ResponsesSettings,
)
from definemed_pipeline.evaluation.sweep.settings import MergeSweepSettings, SweptMergeSettings
from definemed_pipeline.merging.settings import MergedModelsSettings
from definemed_pipeline.settings import setting, settings
from definemed_pipeline.training.settings import (
    BaseModelSettings,
    CptCheckpointsSettings,
    CptCorpusSettings,
)

PACKAGED = importlib.resources.files("definemed_pipeline") / "recipes"
ENVIRONMENT_VARIABLE = "DEFINEMED_RECIPE"
DEFAULT = "demo"
# The assets that are built in a process of their own; `defs` launches it.
PAYLOADS = (
    "fineweb2_shards",
    "sampling_frames",
    "medical_classifier",
    "cascade_certificate",
    "classifier_scores",
    "medical_documents",
    "benchmark_leaks",
    "base_models",
    "cpt_corpus",
    "cpt_checkpoints",
    "merge_sweep",
    "merged_models",
    "benchmark_scores",
    "responses",
)
Name = Annotated[str, pydantic.StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]*$")]


@settings
class ChecksSettings:
    """What an artifact must reach before the next stage may spend money on it."""

    annotator_f1: float = setting(0.8, at_least=0, at_most=1)  # against gold labels, where there are any
    classifier_precision: float = setting(0.8, at_least=0, at_most=1)
    classifier_recall: float = setting(0.5, at_least=0, at_most=1)
    unreadable_verdicts: float = setting(0.05, at_least=0, at_most=1)  # the greatest share of a judge's; more gives a warning
    corpus_documents: int = setting(100, at_least=1)


@settings
class PlanSettings:
    """What `definemed plan` assumes of what is not built yet: words of the corpus, and by base model the tokens its tokenizer makes of a word."""

    corpus_words: int | None = setting(default=None, at_least=1)
    tokens_per_word: dict[str, float] = setting(factory=dict)


@settings
class RefreshSettings:
    """When the source is listed anew, once a person has switched the schedule on."""

    cron: str = setting(default="0 3 * * 1")  # Monday at three
    timezone: str = setting(default="Europe/Berlin")


class Recipe(pydantic.BaseModel):
    """A validated recipe; the sections are frozen dataclasses declared by the packages that use them."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    name: Name
    description: str = ""
    source: SourceSettings
    sampling_frames: SamplingFrameSettings
    annotations: AnnotationSettings
    medical_classifier: MedicalClassifierSettings
    cascade_certificate: CascadeCertificateSettings
    classifier_scores: ClassifierScoresSettings
    medical_documents: MedicalDocumentsSettings
    benchmark_leaks: BenchmarkLeaksSettings
    finemed_de: FinemedDeSettings
    base_models: Annotated[
        dict[Name, Annotated[BaseModelSettings, pydantic.Field(discriminator="kind")]], pydantic.Field(min_length=1)
    ]
    cpt_corpus: CptCorpusSettings
    cpt_checkpoints: CptCheckpointsSettings
    merge_sweep: MergeSweepSettings = pydantic.Field(default_factory=MergeSweepSettings)
    merged_models: MergedModelsSettings
    benchmark_scores: BenchmarkScoresSettings
    responses: ResponsesSettings
    win_rates: WinRatesSettings
    failure_modes: FailureModesSettings
    model_cards: ModelCardsSettings
    report: ReportSettings
    checks: ChecksSettings
    compute: ComputeSettings
    plan: PlanSettings = pydantic.Field(default_factory=PlanSettings)
    refresh: RefreshSettings = pydantic.Field(default_factory=RefreshSettings)

    @pydantic.model_validator(mode="after")
    def _every_score_bin_has_its_share(self) -> "Recipe":
        bins, shares = self.sampling_frames.bin_names, self.annotations.sample_shares
        if set(bins) != set(shares):
            raise ValueError(
                f"annotations.sample_shares names {', '.join(shares)}; allowed are sampling_frames.score_bins: {', '.join(bins)}"
            )
        return self

    @pydantic.model_validator(mode="after")
    def _payloads_have_images(self) -> "Recipe":
        kubernetes = self.compute.kubernetes
        if unknown := kubernetes.payloads.keys() - set(PAYLOADS):
            raise ValueError(f"compute.kubernetes.payloads names {', '.join(sorted(unknown))}; allowed: {', '.join(PAYLOADS)}")
        if self.compute.backend == "kubernetes":
            for asset in PAYLOADS:
                kubernetes.pod(asset)
        return self

    @pydantic.model_validator(mode="after")
    def _merged_base_models_exist(self) -> "Recipe":
        if unknown := sorted(self.merged_models.for_base_models.keys() - self.base_models.keys()):
            known = ", ".join(self.base_models)
            raise ValueError(f"merged_models.for_base_models names {unknown[0]!r}; allowed are the recipe's base models: {known}")
        return self

    @pydantic.model_validator(mode="after")
    def _candidates_can_be_measured(self) -> "Recipe":
        for name in self.base_models:
            try:
                self.merge_sweep_of(name)
            except ValueError as error:
                raise ValueError(f"merge_sweep: {error}") from None
        return self

    @pydantic.model_validator(mode="after")
    def _opponent_exists(self) -> "Recipe":
        opponent = self.win_rates.opponent_base_model
        if opponent not in self.base_models:
            known = ", ".join(self.base_models)
            raise ValueError(f"win_rates.opponent_base_model is {opponent!r}; allowed are the recipe's base models: {known}")
        return self

    def merge_sweep_of(self, base_model: str) -> SweptMergeSettings:
        """Return what the sweep of a base model depends on. Raise ValueError where its candidates do not fit or cannot be measured."""
        return SweptMergeSettings.of(
            self.merge_sweep, self.merged_models.of(base_model), self.benchmark_scores, self.responses, self.failure_modes
        )


@functools.cache
def active_recipe() -> Recipe:
    """Return the recipe of this process, named by DEFINEMED_RECIPE; one process serves one recipe, as a code location does."""
    return load_recipe(os.environ.get(ENVIRONMENT_VARIABLE, DEFAULT))


def load_recipe(name_or_path: str) -> Recipe:
    """Load a packaged recipe by name or the user's own by path. Raise UserError naming every key that does not fit."""
    merged = _read(name_or_path)
    merged.pop("extends", None)
    try:
        return Recipe.model_validate(merged)
    except pydantic.ValidationError as error:
        lines = [f"recipe {name_or_path}: {_explain(problem)}" for problem in error.errors()]
        raise UserError("\n".join(lines)) from None


def packaged_recipes() -> list[str]:
    """Return the names of the recipes that come with the package."""
    return sorted(entry.name.removesuffix(".yaml") for entry in PACKAGED.iterdir() if entry.name.endswith(".yaml"))


def _read(name_or_path: str, chain: tuple[str, ...] = ()) -> dict[str, Any]:
    """Read a recipe merged over the one it extends."""
    if name_or_path in chain:
        raise UserError(f"recipe {chain[0]}: `extends` goes in a circle: {' -> '.join((*chain, name_or_path))}")
    text, folder = _text_of(name_or_path)
    try:
        own = yaml.load(text, _UniqueKeys)
    except yaml.YAMLError as error:
        raise UserError(f"recipe {name_or_path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(own, dict):
        raise UserError(f"recipe {name_or_path} must be a mapping of sections, found {type(own).__name__}")
    own = _anchor(own, folder)
    if not (base := own.get("extends")):
        return own
    return _merge(_read(str(base), (*chain, name_or_path)), own)


def _text_of(name_or_path: str) -> tuple[str, Path]:
    if name_or_path in packaged_recipes():
        return (PACKAGED / f"{name_or_path}.yaml").read_text("utf-8"), Path.cwd()
    path = Path(name_or_path)
    try:
        return path.read_text("utf-8"), path.resolve().parent
    except (OSError, UnicodeDecodeError) as error:
        known = ", ".join(packaged_recipes())
        raise UserError(f"recipe {name_or_path!r} cannot be read ({error}); give a YAML file or one of: {known}") from error


def _anchor(value: Any, folder: Path) -> Any:
    """Make every value that starts with ./ or ../ a path relative to the recipe it stands in."""
    if isinstance(value, dict):
        return {key: _anchor(item, folder) for key, item in value.items()}
    if isinstance(value, list):
        return [_anchor(item, folder) for item in value]
    if isinstance(value, str) and value.startswith(("./", "../")):
        return os.path.normpath(folder / value)
    return value


def _merge(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Lay `own` over `base`: mappings merge key by key, null removes a key, a mapping of another `kind` replaces."""
    merged = dict(base)
    for key, value in own.items():
        below = merged.get(key)
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict) and isinstance(below, dict) and value.get("kind", below.get("kind")) == below.get("kind"):
            merged[key] = _merge(below, value)
        else:
            merged[key] = value
    return merged


class _UniqueKeys(YamlLoader):
    """YAML that refuses a key given twice, where PyYAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        written = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        keys = [self.construct_object(key, deep=True) for key in written]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _explain(problem: Any) -> str:
    """Put one validation problem into one line: the key, what was found, what is allowed."""
    path, section = _follow([str(part) for part in problem["loc"]])
    key, found, context = ".".join(path), problem["input"], problem.get("ctx", {})
    match problem["type"]:
        case "missing" | "missing_argument":
            return f"{key} is missing; add it"
        case "extra_forbidden" | "unexpected_keyword_argument":
            return f"{key} is not a known key (found {found!r}){_nearest(path[-1], section)}"
        case "union_tag_invalid":
            return f"{key}.kind is {context['tag']!r}; allowed: {context['expected_tags']}"
        case "union_tag_not_found":
            return f"{key}.kind is missing; allowed: {', '.join(map(repr, _kinds(section)))}"
        case "value_error":
            reason = str(context["error"])
            return f"{key}: {reason}" if key else reason
        case _:
            return f"{key} is {found!r}; {problem['msg'][:1].lower()}{problem['msg'][1:]}"


def _nearest(key: str, section: Any) -> str:
    """Say which keys are allowed beside an unknown one, the likeliest first."""
    allowed = sorted(_fields(section))
    close = difflib.get_close_matches(key, allowed, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; allowed: {', '.join(allowed)}" if allowed else ""


def _follow(loc: list[str]) -> tuple[list[str], Any]:
    """Return a place of the recipe as it is written, and the type of the section it stands in (of the place itself where it is known).

    Pydantic's path also names the kind of a section that has several; nobody writes that into a path.
    """
    path: list[str] = []
    place: Any = Recipe
    for part in loc:
        kinds = _kinds(place)
        if part in kinds:
            place = kinds[part]
            continue
        path.append(part)
        place = _fields(place).get(part, place)
    return path, place


def _fields(section: Any) -> Mapping[str, Any]:
    if section is Recipe:
        return {name: field.annotation for name, field in Recipe.model_fields.items()}
    members = [member for member in (section, *get_args(section)) if dataclasses.is_dataclass(member)]
    return get_type_hints(members[0]) if len(members) == 1 else {}  # of a section that may be left out, its own


def _kinds(union: Any) -> dict[str, Any]:
    """Return the classes of a section that has several kinds, by kind."""
    members = [member for member in get_args(union) if dataclasses.is_dataclass(member)]
    return {get_args(hint)[0]: member for member in members if (hint := get_type_hints(member).get("kind")) is not None}
