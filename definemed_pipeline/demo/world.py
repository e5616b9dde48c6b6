"""The assembled demo world: every document with the truth about it, the questions, instructions and pre-training texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from definemed_pipeline.demo.conversations import (
    CheckedInstruction,
    Instruction,
    Message,
    write_checked_instructions,
    write_conversations,
    write_instructions,
)
from definemed_pipeline.demo.diseases import DISEASES
from definemed_pipeline.demo.everyday_documents import EnglishWriter, TopicWriter
from definemed_pipeline.demo.general_knowledge import write_general_questions
from definemed_pipeline.demo.medical_documents import MEDICAL_KINDS, MedicalWriter
from definemed_pipeline.demo.planting import (
    add_replacement_characters,
    garble_encoding,
    quote_questions,
    rewrite_slightly,
    word_count,
)
from definemed_pipeline.demo.pretraining import write_general_texts, write_held_out_texts
from definemed_pipeline.demo.questions import Question, write_questions
from definemed_pipeline.demo.randomness import Dice
from definemed_pipeline.demo.vocabulary.everyday import EVERYDAY
from definemed_pipeline.demo.vocabulary.hard_negatives import HARD_NEGATIVES
from definemed_pipeline.demo.web import WebDocument, WebPublisher

DEFAULT_SEED = 1
SHARDS = 6


@dataclass(frozen=True)
class Census:
    """How many documents of each sort the web holds."""

    everyday_per_topic: int = 200
    medical_per_disease: int = 6
    hard_negatives_per_topic: int = 56
    exact_copies: int = 60
    near_copies: int = 60
    benchmark_leaks: int = 16
    questions_per_leak: int = 4
    english: int = 45
    english_medicine: int = 15
    mojibake: int = 25
    replacement_characters: int = 15
    empty: int = 15
    blank: int = 10
    null: int = 8
    gold_labels: int = 400


CENSUS = Census()


@dataclass(frozen=True)
class Truth:
    """What is the case about a document: its kind, whether it is medical, what was planted in it and what it was copied from."""

    kind: str
    is_medical: bool
    variant: str = "original"
    copy_of: str | None = None
    diseases: tuple[str, ...] = ()
    questions: tuple[str, ...] = ()


@dataclass(frozen=True)
class GoldLabel:
    """A document whose true label is given to the user."""

    id: str
    is_medical: bool
    kind: str


@dataclass(frozen=True)
class _Draft:
    """A text and its truth before it is published; ``source`` is the position of the draft it copies."""

    text: str | None
    truth: Truth
    source: int | None = None


class World:
    """The demo world of one seed; everything is written on first use and kept."""

    def __init__(self, seed: int = DEFAULT_SEED, census: Census = CENSUS) -> None:
        self.seed = seed
        self.census = census

    @cached_property
    def questions(self) -> tuple[Question, ...]:
        """The four-way questions on the facts."""
        return write_questions(self.seed)

    @cached_property
    def general_questions(self) -> tuple[Question, ...]:
        """The four-way questions on what base models read in pre-training."""
        return write_general_questions(self.seed)

    @cached_property
    def checked_instructions(self) -> tuple[CheckedInstruction, ...]:
        """The instructions whose answers rules check."""
        return write_checked_instructions(self.seed)

    @cached_property
    def instructions(self) -> tuple[Instruction, ...]:
        """The instructions of the evaluation."""
        return write_instructions(self.seed)

    @cached_property
    def conversations(self) -> tuple[tuple[Message, ...], ...]:
        """The chat conversations for pre-training."""
        return write_conversations(self.seed)

    @cached_property
    def general_texts(self) -> tuple[str, ...]:
        """The general texts for pre-training."""
        return write_general_texts(self.seed)

    @cached_property
    def held_out_texts(self) -> tuple[str, ...]:
        """General texts that no model is pre-trained on."""
        return write_held_out_texts(self.seed, self.general_texts)

    @cached_property
    def _medical_writer(self) -> MedicalWriter:
        return MedicalWriter()

    @cached_property
    def _published(self) -> tuple[tuple[WebDocument, Truth], ...]:
        drafts = self._drafts()
        publisher = WebPublisher(self.seed)
        documents = [publisher.publish(number, draft.text, draft.truth.variant) for number, draft in enumerate(drafts)]
        pairs = []
        for document, draft in zip(documents, drafts, strict=True):
            origin = None if draft.source is None else documents[draft.source].id
            pairs.append((document, replace(draft.truth, copy_of=origin)))
        return tuple(Dice(self.seed, "web", "order").shuffled(pairs))

    @property
    def documents(self) -> tuple[WebDocument, ...]:
        """The web documents, in the order of the shards."""
        return tuple(document for document, _ in self._published)

    @cached_property
    def truth(self) -> dict[str, Truth]:
        """The truth about each document, by id."""
        return {document.id: truth for document, truth in self._published}

    def shard(self, number: int) -> tuple[WebDocument, ...]:
        """Return the documents of one shard."""
        documents = self.documents
        bounds = [len(documents) * edge // SHARDS for edge in (number, number + 1)]
        return documents[bounds[0] : bounds[1]]

    @cached_property
    def gold_labels(self) -> tuple[GoldLabel, ...]:
        """The labelled documents, rich in medicine and in hard cases; in the order of their ids."""
        dice = Dice(self.seed, "gold")
        candidates = dice.shuffled(
            [(document.id, truth) for document, truth in self._published if document.text and document.text.strip()]
        )
        medical = [pair for pair in candidates if pair[1].is_medical]
        hard = [pair for pair in candidates if pair[1].kind in {topic.name for topic in HARD_NEGATIVES}]
        easy = [pair for pair in candidates if not pair[1].is_medical and pair not in hard]
        total = self.census.gold_labels
        chosen = medical[: total * 3 // 10] + hard[: total * 3 // 10]
        chosen += easy[: total - len(chosen)]
        return tuple(sorted((GoldLabel(id, truth.is_medical, truth.kind) for id, truth in chosen), key=lambda label: label.id))

    def _drafts(self) -> list[_Draft]:
        drafts = [*self._everyday(), *self._medical(), *self._hard_negatives()]
        originals = len(drafts)
        drafts.extend(self._copies(drafts[:originals]))
        drafts.extend(self._leaks())
        drafts.extend(self._english())
        drafts.extend(self._broken())
        drafts.extend(self._empty())
        return drafts

    def _everyday(self) -> Iterator[_Draft]:
        for topic in EVERYDAY:
            writer, dice = TopicWriter(topic, own_share=0.4), Dice(self.seed, "web", topic.name)
            for _ in range(self.census.everyday_per_topic):
                yield _Draft(writer.write(dice), Truth(topic.name, is_medical=False))

    def _hard_negatives(self) -> Iterator[_Draft]:
        for topic in HARD_NEGATIVES:
            writer, dice = TopicWriter(topic, own_share=0.6), Dice(self.seed, "web", topic.name)
            for _ in range(self.census.hard_negatives_per_topic):
                yield _Draft(writer.write(dice), Truth(topic.name, is_medical=False))

    def _medical(self) -> Iterator[_Draft]:
        for place, disease in enumerate(DISEASES):
            dice = Dice(self.seed, "web", disease.name)
            for number in range(self.census.medical_per_disease):
                kind = MEDICAL_KINDS[(place * self.census.medical_per_disease + number) % len(MEDICAL_KINDS)]
                text, diseases = self._medical_writer.write(kind, disease, dice)
                yield _Draft(text, Truth(kind.name, is_medical=True, diseases=diseases))

    def _copies(self, originals: Sequence[_Draft]) -> Iterator[_Draft]:
        dice = Dice(self.seed, "web", "copies")
        # A near copy must stay near: in a short text one changed word already touches a large share of the 5-grams.
        long_enough = [number for number, draft in enumerate(originals) if word_count(draft.text or "") >= 90]
        chosen = dice.sample(long_enough, self.census.exact_copies + self.census.near_copies)
        for rank, number in enumerate(chosen):
            original = originals[number]
            exact = rank < self.census.exact_copies
            text = original.text if exact else rewrite_slightly(original.text or "", dice)
            truth = replace(original.truth, variant="exact_copy" if exact else "near_copy")
            yield _Draft(text, truth, source=number)

    def _leaks(self) -> Iterator[_Draft]:
        dice = Dice(self.seed, "web", "leaks")
        each = self.census.questions_per_leak
        quoted = dice.sample(self.questions, self.census.benchmark_leaks * each)
        for number in range(self.census.benchmark_leaks):
            questions = quoted[number * each : (number + 1) * each]
            ids = tuple(question.id for question in questions)
            truth = Truth("exam_forum", is_medical=True, variant="benchmark_leak", questions=ids)
            yield _Draft(quote_questions(questions, dice), truth)

    def _english(self) -> Iterator[_Draft]:
        writer, dice = EnglishWriter(), Dice(self.seed, "web", "english")
        for _ in range(self.census.english):
            yield _Draft(writer.write(dice, medical=False), Truth("english", is_medical=False, variant="english"))
        for _ in range(self.census.english_medicine):
            yield _Draft(writer.write(dice, medical=True), Truth("english_medicine", is_medical=True, variant="english"))

    def _broken(self) -> Iterator[_Draft]:
        dice = Dice(self.seed, "web", "broken")
        topics = [TopicWriter(topic, own_share=0.4) for topic in EVERYDAY]
        for number in range(self.census.mojibake + self.census.replacement_characters):
            position = number % len(EVERYDAY)
            text, truth = topics[position].write(dice), Truth(EVERYDAY[position].name, is_medical=False)
            if number % 8 == 7:
                kind = dice.choose(MEDICAL_KINDS)
                text, diseases = self._medical_writer.write(kind, dice.choose(DISEASES), dice)
                truth = Truth(kind.name, is_medical=True, diseases=diseases)
            if number < self.census.mojibake:
                yield _Draft(garble_encoding(text), replace(truth, variant="mojibake"))
            else:
                yield _Draft(add_replacement_characters(text), replace(truth, variant="replacement_characters"))

    def _empty(self) -> Iterator[_Draft]:
        dice = Dice(self.seed, "web", "empty")
        for _ in range(self.census.empty):
            yield _Draft("", Truth("empty", is_medical=False, variant="empty"))
        for _ in range(self.census.blank):
            yield _Draft(dice.choose((" ", "\n\n", " \t \n", "   ")), Truth("empty", is_medical=False, variant="blank"))
        for _ in range(self.census.null):
            yield _Draft(None, Truth("empty", is_medical=False, variant="null"))


@lru_cache(maxsize=4)
def world(seed: int = DEFAULT_SEED) -> World:
    """Return the world of a seed, one per process."""
    return World(seed)
