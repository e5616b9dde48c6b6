"""What is shown before a question is always the same, and never a question that is asked."""

import pytest

from definemed_pipeline.errors import UserError
from definemed_pipeline.evaluation.benchmarks.questions import Question
from definemed_pipeline.evaluation.benchmarks.settings import BenchmarkSettings
from definemed_pipeline.evaluation.benchmarks.tasks import tasks_of

PROMPT = "Frage: {{question}}\nAntwort:"


def question(name: str, subject: str = "Organe", text: str | None = None) -> Question:
    return Question(id=name, subject=subject, question=text or f"Was ist {name}?", choices=("ja", "nein"), answer=0)


def settings(**changes: object) -> BenchmarkSettings:
    return BenchmarkSettings(questions="q.jsonl", prompt=PROMPT, examples="e.jsonl", **changes)


ASKED = [question("a"), question("b", "Arznei")]
EXAMPLES = [question("x", text=" was IST  a?"), question("z"), question("y", "Arznei"), question("w")]


def test_the_first_examples_are_shown_and_one_that_is_asked_is_passed_over() -> None:
    (task,) = tasks_of("b", settings(num_fewshot=2), ASKED, EXAMPLES)
    assert [one.id for one in task.examples] == ["z", "y"]
    assert task.config()["num_fewshot"] == 2
    assert task.config()["fewshot_config"] == {"sampler": "first_n"}


def test_a_subject_is_a_task_with_examples_of_its_own() -> None:
    tasks = tasks_of("b", settings(num_fewshot=1, subjects=("Organe", "Arznei")), ASKED, EXAMPLES)
    shown = {task.name: ([one.id for one in task.questions], [one.id for one in task.examples]) for task in tasks}
    assert shown == {"b_Organe": (["a"], ["z"]), "b_Arznei": (["b"], ["y"])}


def test_too_few_examples_are_told_with_their_number() -> None:
    with pytest.raises(UserError, match="benchmark b: num_fewshot is 4 and there are 3 examples that are not asked"):
        tasks_of("b", settings(num_fewshot=4), ASKED, EXAMPLES)


def test_a_subject_without_a_question_in_the_split_is_told() -> None:
    with pytest.raises(UserError, match="benchmark b_Blut has no question in this split"):
        tasks_of("b", settings(subjects=("Organe", "Blut")), ASKED)


def test_letters_are_scored_where_the_recipe_says_so() -> None:
    lettered = BenchmarkSettings(questions="q", prompt=PROMPT + "{{choices}}", scoring="letters")
    (task,) = tasks_of("b", lettered, ASKED)
    assert task.config()["doc_to_choice"] == "letters"
    assert task.splits()["test"][0]["letters"] == ["A", "B"]
    assert task.scored(ASKED[0]) == ("A", "B")
