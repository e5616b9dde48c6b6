"""The plan of a recipe: read from the lake where it is built, from packaged shapes and stated assumptions where it is not.

The arithmetic is that of `training.planning`, `training.flops` and `training.memory`; here it meets recipe and lake.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from definemed_pipeline import model_folder
from definemed_pipeline.artifacts.manifest import Manifest
from definemed_pipeline.artifacts.sources import open_source
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.errors import UserError
from definemed_pipeline.existing_models import FolderModelSettings, HubModelSettings
from definemed_pipeline.recipe import Recipe
from definemed_pipeline.settings import section_digest
from definemed_pipeline.training import planning
from definemed_pipeline.training.gpus import Gpu
from definemed_pipeline.training.memory import Layout, MemoryPerGpu, memory_per_gpu
from definemed_pipeline.training.model_shape import (
    ModelShape,
    packaged_config,
    packaged_repositories,
    read_shape,
)
from definemed_pipeline.training.settings import PretrainBaseModelSettings

T_co = TypeVar("T_co", covariant=True)
DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, kw_only=True)
class Given:
    """What the caller says of machine and corpus; None where it says nothing.

    `tokens_per_s` is the rate of one GPU, `gpu_memory_gib` is by default that of `gpu`.
    """

    gpu: Gpu
    gpu_memory_gib: float | None = None
    processes: int | None = None
    tokens_per_s: float | None = None
    mfu: float | None = None
    tokens_per_word: float | None = None

    @property
    def memory_gib(self) -> float:
        """Return the memory of a GPU."""
        return self.gpu_memory_gib or self.gpu.memory_gib


@dataclass(frozen=True, kw_only=True)
class Sourced(Generic[T_co]):
    """A value, and where it comes from; an assumption is marked as one."""

    value: T_co
    source: str
    is_assumed: bool = False


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """What one epoch trains on, and how many tokens a token attends to."""

    blocks: Sourced[int]
    attended_length: Sourced[float]


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """The plan of one base model. `rate` is in tokens per second of one GPU; None where nothing is known of it."""

    name: str
    shape: Sourced[ModelShape]
    corpus: Corpus
    schedule: planning.Schedule
    flops: planning.Flops
    processes: Sourced[int]
    layout: Layout
    memory: MemoryPerGpu
    usable_memory: float
    remedies: list[planning.Remedy]
    rate: Sourced[float] | None
    storage: Mapping[str, float]

    @property
    def fits(self) -> bool:
        """Say whether the memory is enough."""
        return self.memory.total <= self.usable_memory

    @property
    def gpu_hours(self) -> float | None:
        """Return the hours that one GPU would take, which is the hours of all GPUs added up."""
        return self.schedule.trained_tokens / self.rate.value / 3600 if self.rate else None


def plan_recipe(store: Store, recipe: Recipe, given: Given) -> list[TrainingPlan]:
    """Plan the continual pre-training of every base model of a recipe.

    Raise UserError where the shape of a model or the size of the corpus is not known, or where what is given contradicts itself or the recipe.
    """
    if given.tokens_per_s is not None and given.mfu is not None:
        raise UserError("--tokens-per-s and --mfu are two ways to say one thing; give one of them")
    return [_Planner(store, recipe, given, name).plan() for name in recipe.base_models]


class _Planner:
    """Find out what is known of one base model's training."""

    def __init__(self, store: Store, recipe: Recipe, given: Given, name: str) -> None:
        self.store = store
        self.recipe = recipe
        self.given = given
        self.name = name
        self.training, self.execution = recipe.cpt_checkpoints, recipe.compute.training

    def plan(self) -> TrainingPlan:
        config = self._config()
        shape = read_shape(config.value, origin=self.name)
        corpus = self._corpus()
        flops = planning.flops_per_token(shape, self.training, self.execution, attended_length=corpus.attended_length.value)
        processes = self._processes()
        layout = planning.layout_on_gpus(self.recipe.cpt_corpus, self.training, self.execution, processes=processes.value)
        usable = planning.usable_bytes(self.given.memory_gib)
        memory = memory_per_gpu(shape, layout)
        remedies = planning.what_would_fit(shape, layout, global_batch_size=self.training.global_batch_size, usable=usable)
        return TrainingPlan(
            name=self.name,
            shape=Sourced(value=shape, source=config.source),
            corpus=corpus,
            schedule=planning.schedule(
                corpus.blocks.value, self.training, sequence_length=self.recipe.cpt_corpus.sequence_length
            ),
            flops=flops,
            processes=processes,
            layout=layout,
            memory=memory,
            usable_memory=usable,
            remedies=[] if memory.total <= usable else list(remedies),
            rate=self._rate(shape, flops),
            storage=planning.storage_bytes(
                shape,
                corpus.blocks.value,
                self.recipe.cpt_corpus,
                self.training,
                self.execution,
                stored_weight_bytes=_stored_weight_bytes(config.value),
                merged_weight_bytes=DTYPE_BYTES[self.recipe.merged_models.of(self.name).dtype],
            ),
        )

    def _config(self) -> Sourced[Mapping[str, Any]]:
        """Find the content of the model's config.json."""
        section = self.recipe.base_models[self.name]
        if built := self._built("base_models", self.name, section):
            location = f"{self.store.uri(built)}/{model_folder.FOLDER}/config.json"
            return Sourced(value=_read_json(location), source="base_models in the lake")
        match section:
            case PretrainBaseModelSettings():
                return Sourced(value=_config_to_be_trained(section), source=f"base_models.{self.name} of the recipe")
            case FolderModelSettings():
                return Sourced(value=_read_json(f"{section.path.rstrip('/')}/config.json"), source="config.json of the folder")
            case HubModelSettings():
                if config := packaged_config(section.repository):
                    return Sourced(value=config, source=f"config of {section.repository}, packaged")
                raise UserError(
                    f"base_models.{self.name}: the shape of {section.repository} is not known before it is there; fetch it with "
                    f"`definemed run --recipe … --select base_models --partition {self.name}`. "
                    f"Packaged are {', '.join(packaged_repositories())}"
                )

    def _corpus(self) -> Corpus:
        chosen = self.recipe.cpt_corpus
        if built := self._built("cpt_corpus", self.name, chosen):
            blocks = Sourced(value=int(built.metrics["blocks"]), source="cpt_corpus in the lake")
        else:
            words, per_word = self._words(), self._tokens_per_word()
            blocks = Sourced(
                value=planning.expected_blocks(words.value * per_word.value, chosen),
                source=f"{words.value:,} words ({words.source}) × {per_word.value:g} tokens ({per_word.source})",
                is_assumed=words.is_assumed or per_word.is_assumed,
            )
        attended = built.metrics.get("mean_attended_length") if built else None
        if attended:
            return Corpus(blocks=blocks, attended_length=Sourced(value=float(attended), source="cpt_corpus in the lake"))
        most = (chosen.sequence_length + 1) / 2
        return Corpus(
            blocks=blocks,
            attended_length=Sourced(value=most, source="as if each block were one document, which is the most", is_assumed=True),
        )

    def _words(self) -> Sourced[int]:
        if built := self._built("finemed_de", "_", self.recipe.finemed_de):
            return Sourced(value=int(built.metrics["words"]), source="finemed_de in the lake")
        if (words := self.recipe.plan.corpus_words) is None:
            raise UserError(
                "nothing says how large the corpus will be: finemed_de is not built, and the recipe has no plan.corpus_words; add it"
            )
        return Sourced(value=words, source="plan.corpus_words of the recipe", is_assumed=True)

    def _tokens_per_word(self) -> Sourced[float]:
        if self.given.tokens_per_word is not None:
            return Sourced(value=self.given.tokens_per_word, source="--tokens-per-word")
        ratios = self.recipe.plan.tokens_per_word
        if self.name not in ratios:
            raise UserError(
                f"nothing says how many tokens {self.name} makes of a word: build cpt_corpus, add plan.tokens_per_word.{self.name} to the "
                "recipe, or give --tokens-per-word (German: about 2)"
            )
        return Sourced(value=ratios[self.name], source="plan.tokens_per_word of the recipe", is_assumed=True)

    def _processes(self) -> Sourced[int]:
        if self.given.processes is not None:
            return Sourced(value=self.given.processes, source="--processes")
        if self.execution.processes is not None:
            return Sourced(value=self.execution.processes, source="compute.training.processes of the recipe")
        return Sourced(value=1, source="one GPU; say --processes", is_assumed=True)

    def _rate(self, shape: ModelShape, flops: planning.Flops) -> Sourced[float] | None:
        """Return the tokens per second of one GPU: as given, else as measured, else at an assumed utilisation."""
        if self.given.tokens_per_s is not None:
            return Sourced(value=self.given.tokens_per_s, source="--tokens-per-s")
        at_peak = self.given.gpu.bf16_flops_per_s / flops.model
        if self.given.mfu is not None:
            return Sourced(value=self.given.mfu * at_peak, source=f"--mfu on {self.given.gpu.name}")
        if measured := self._measured_rate():
            return measured
        if shape.parameters < planning.SMALLEST_OF_THE_ASSUMPTION:
            return None
        share = planning.ASSUMED_MFU
        return Sourced(
            value=share * at_peak,
            source=f"an MFU of {share:.0%} on {self.given.gpu.name}, about what is published for 7B models on H100s",
            is_assumed=True,
        )

    def _measured_rate(self) -> Sourced[float] | None:
        """Return the rate of the recipe's last training of this model, if it trained the same weights in the same precision."""
        trained = self.store.latest(self.recipe.name, "cpt_checkpoints", self.name)
        if trained is None:
            return None
        same = section_digest(self.training.lora) == section_digest(trained.identity.settings.get("lora"))
        if not same or trained.identity.settings["precision"] != self.training.precision:
            return None
        rate = trained.metrics["tokens_per_s"] / trained.metrics.get("processes", 1)
        device = trained.metrics.get("device", "a device that was not recorded")
        return Sourced(value=rate, source=f"measured on {device}, cpt_checkpoints in the lake")

    def _built(self, asset: str, partition: str, section: Any) -> Manifest | None:
        """Return the latest artifact where it was built with the recipe's section as it is now."""
        manifest = self.store.latest(self.recipe.name, asset, partition)
        return manifest if manifest and manifest.identity.settings_digest == section_digest(section) else None


def _config_to_be_trained(section: PretrainBaseModelSettings) -> dict[str, Any]:
    return {
        "model_type": section.architecture,
        "hidden_size": section.hidden_size,
        "intermediate_size": section.intermediate_size,
        "num_hidden_layers": section.layers,
        "num_attention_heads": section.heads,
        "num_key_value_heads": section.kv_heads,
        "vocab_size": section.vocabulary_size,
        "tie_word_embeddings": section.tie_embeddings,
    }


def _stored_weight_bytes(config: Mapping[str, Any]) -> int:
    return DTYPE_BYTES.get(model_folder.stored_dtype(config), 4)


def _read_json(location: str) -> dict[str, Any]:
    try:
        with open_source(location) as file:
            content: dict[str, Any] = json.load(file)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"there is no {location}; correct the path in the recipe") from error
    return content
