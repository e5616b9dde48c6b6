"""What the evaluation asks: one right answer a question, nothing given away, and no instruction that a base model was trained on."""

from collections import Counter

import pytest

from definemed_pipeline.demo.diseases import DISEASES, RELATIONS
from definemed_pipeline.demo.questions import CHOICES, acceptable
from definemed_pipeline.demo.vocabulary import medicine
from definemed_pipeline.demo.world import World
from definemed_pipeline.evaluation.benchmarks.rules import kept_rules


def test_there_is_a_question_on_every_fact(demo: World) -> None:
    assert len(DISEASES) >= 48
    asked = {(question.disease, question.subject) for question in demo.questions}
    assert asked == {(disease.name, relation) for disease in DISEASES for relation in RELATIONS}
    assert len({question.question for question in demo.questions}) == len(demo.questions) >= 144


def test_exactly_one_choice_is_right_and_no_other_is_arguable(demo: World) -> None:
    diseases = {disease.name: disease for disease in DISEASES}
    for question in demo.questions:
        disease = diseases[question.disease]
        assert len(set(question.choices)) == CHOICES
        assert question.choices[question.answer] == disease.fact(question.subject)
        others = set(question.choices) - {disease.fact(question.subject)}
        assert others.isdisjoint(acceptable(disease, question.subject))


@pytest.mark.parametrize("relation", RELATIONS)
def test_what_is_acceptable_beside_the_fact_is_a_value_of_some_disease(relation: str) -> None:
    values = {disease.fact(relation) for disease in DISEASES}
    for disease in DISEASES:
        assert acceptable(disease, relation) <= values, disease.name
        assert disease.near_drug_classes <= {other.drug_class for other in DISEASES}, disease.name


def test_symptoms_and_drugs_name_one_disease_each() -> None:
    assert len({disease.symptom for disease in DISEASES}) == len({disease.drug for disease in DISEASES}) == len(DISEASES)


@pytest.mark.parametrize("relation", RELATIONS)
def test_answers_stand_at_each_position_about_equally_often(demo: World, relation: str) -> None:
    positions = Counter(question.answer for question in demo.questions if question.subject == relation)
    assert max(positions.values()) - min(positions.values()) <= 1


@pytest.mark.parametrize("relation", RELATIONS)
def test_a_value_is_a_distractor_about_three_times_as_often_as_it_is_right(demo: World, relation: str) -> None:
    right = Counter(q.choices[q.answer] for q in demo.questions if q.subject == relation)
    offered = Counter(choice for q in demo.questions if q.subject == relation for choice in q.choices)
    for value, times in right.items():
        assert 1 <= (offered[value] - times) / times <= 5, value


@pytest.mark.parametrize("wordings", [medicine.ORGAN_WORDINGS, medicine.SYMPTOM_WORDINGS, medicine.DRUG_WORDINGS])
def test_every_relation_is_stated_in_at_least_eight_wordings(wordings: tuple[str, ...]) -> None:
    assert len(set(wordings)) >= 8


def test_instructions_are_general_and_medical_and_enough(demo: World) -> None:
    kinds = Counter(instruction.kind for instruction in demo.instructions)
    assert sum(kinds.values()) >= 60
    assert 0.25 <= kinds["medical"] / sum(kinds.values()) <= 0.45
    assert len({instruction.instruction for instruction in demo.instructions}) == len(demo.instructions)


def test_no_instruction_of_the_evaluation_stands_in_chat_or_general_texts(demo: World) -> None:
    read = "\n".join([*demo.general_texts, *(message.content for turns in demo.conversations for message in turns)])
    assert [one.instruction for one in demo.instructions if one.instruction in read] == []


def test_what_a_general_instruction_asks_for_is_answered_elsewhere_in_chat(demo: World) -> None:
    answers = {message.content for turns in demo.conversations for message in turns if message.role == "assistant"}
    assert [one.reference for one in demo.instructions if one.kind == "general" and one.reference not in answers] == []


def test_medical_instructions_use_phrases_that_chat_uses_for_other_things(demo: World) -> None:
    asked = [message.content for turns in demo.conversations for message in turns if message.role == "user"]
    for start in ("Erkläre kurz, was", "Nenne etwas, das typisch für", "Nenne etwas, das gegen"):
        assert any(start in question for question in asked)


def test_conversations_alternate_and_end_with_a_short_answer(demo: World) -> None:
    assert 7500 <= len(demo.conversations) <= 9000
    for turns in demo.conversations:
        assert [message.role for message in turns] == ["user", "assistant"] * (len(turns) // 2)
        assert all(1 <= len(message.content.split()) <= 15 for message in turns if message.role == "assistant")


def test_general_texts_are_enough_to_train_a_tokenizer_on(demo: World) -> None:
    assert 1500 <= len(demo.general_texts) <= 2500
    everything = "\n".join(demo.general_texts)
    assert all(disease.fact(relation) in everything for disease in DISEASES for relation in RELATIONS)


def test_held_out_texts_are_of_the_general_texts_kinds_and_none_of_them(demo: World) -> None:
    assert len(demo.held_out_texts) == 300
    assert not set(demo.held_out_texts) & set(demo.general_texts)
    quizzes, texts = (
        sum(text.startswith("Frage: ") for text in some) / len(some) for some in (demo.held_out_texts, demo.general_texts)
    )
    assert abs(quizzes - texts) < 0.1


def test_general_questions_have_one_right_choice_that_the_base_models_read(demo: World) -> None:
    read = "\n".join(demo.general_texts)
    assert len({question.id for question in demo.general_questions}) == len(demo.general_questions) >= 120
    for question in demo.general_questions:
        assert len(set(question.choices)) == CHOICES
    asked = [f"Frage: {q.question}\nAntwort: {q.choices[q.answer]}" in read for q in demo.general_questions]
    assert sum(asked) / len(asked) > 0.9, "in the very words of the quizzes, nearly all of them"


def test_checked_instructions_are_other_ones_and_their_rules_are_kept_by_the_references_form(demo: World) -> None:
    checked = {one.instruction for one in demo.checked_instructions}
    assert len(checked) == len(demo.checked_instructions) >= 40
    assert checked.isdisjoint(one.instruction for one in demo.instructions)
    asked = {message.content for turns in demo.conversations for message in turns if message.role == "user"}
    assert checked.isdisjoint(asked)
    answers = [message.content for turns in demo.conversations for message in turns if message.role == "assistant"]
    for one in demo.checked_instructions:
        assert any(all(kept_rules(answer, one.rules)) for answer in answers), one.id
