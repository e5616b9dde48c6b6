"""What the demo web holds, and that what was planted, and nothing else, is wrong with it."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator

import pytest

from definemed_pipeline.demo.diseases import DISEASES, RELATIONS, Disease
from definemed_pipeline.demo.vocabulary.everyday import EVERYDAY
from definemed_pipeline.demo.vocabulary.hard_negatives import HARD_NEGATIVES
from definemed_pipeline.demo.web import WebDocument
from definemed_pipeline.demo.world import CENSUS, World

SHINGLE = 5
NEAR_DUPLICATE = 0.8
DECONTAMINATION_NGRAM = 8


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def ngrams(text: str, size: int) -> set[tuple[str, ...]]:
    tokens = words(text)
    return {tuple(tokens[start : start + size]) for start in range(len(tokens) - size + 1)}


def jaccard(left: set[tuple[str, ...]], right: set[tuple[str, ...]]) -> float:
    return len(left & right) / len(left | right)


def similar_pairs(shingles: list[set[tuple[str, ...]]]) -> Iterator[tuple[int, int]]:
    """Find all pairs of at least the near-duplicate similarity, exactly, by prefix filtering.

    Two sets that share so much must share one of each one's rarest (1 - threshold) shingles, so only those are looked up.
    """
    frequency = Counter(shingle for one in shingles for shingle in one)
    seen: dict[tuple[str, ...], list[int]] = {}
    for number, one in enumerate(shingles):
        prefix = sorted(one, key=lambda shingle: (frequency[shingle], shingle))[: int((1 - NEAR_DUPLICATE) * len(one)) + 1]
        candidates = {other for shingle in prefix for other in seen.get(shingle, ())}
        for other in sorted(candidates):
            if jaccard(one, shingles[other]) >= NEAR_DUPLICATE:
                yield other, number
        for shingle in prefix:
            seen.setdefault(shingle, []).append(number)


def of_variant(demo: World, *variants: str) -> list[WebDocument]:
    return [document for document in demo.documents if demo.truth[document.id].variant in variants]


def text_of(document: WebDocument) -> str:
    assert document.text is not None
    return document.text


def states_a_fact(text: str, disease: Disease) -> bool:
    return disease.name in text and any(re.search(rf"\b{re.escape(disease.fact(relation))}\b", text) for relation in RELATIONS)


def test_every_planted_variant_is_there_as_often_as_the_census_says(demo: World) -> None:
    counted = Counter(truth.variant for truth in demo.truth.values())
    assert {variant: counted[variant] for variant in counted if variant != "original"} == {
        "exact_copy": CENSUS.exact_copies,
        "near_copy": CENSUS.near_copies,
        "benchmark_leak": CENSUS.benchmark_leaks,
        "english": CENSUS.english + CENSUS.english_medicine,
        "mojibake": CENSUS.mojibake,
        "replacement_characters": CENSUS.replacement_characters,
        "empty": CENSUS.empty,
        "blank": CENSUS.blank,
        "null": CENSUS.null,
    }


def test_about_a_tenth_of_the_web_is_medicine(demo: World) -> None:
    share = sum(truth.is_medical for truth in demo.truth.values()) / len(demo.truth)
    assert 0.08 <= share <= 0.14


def test_all_kinds_are_there_and_both_dumps(demo: World) -> None:
    kinds = {truth.kind for truth in demo.truth.values()}
    assert kinds >= {topic.name for topic in EVERYDAY + HARD_NEGATIVES}
    assert kinds >= {"guideline", "patient_leaflet", "discharge_letter", "encyclopaedia", "study_abstract"}
    assert {document.dump for document in demo.documents} == {"CC-MAIN-2023-40", "CC-MAIN-2024-10"}


def test_columns_have_the_shape_of_fineweb2s(demo: World) -> None:
    for document in demo.documents:
        assert re.fullmatch(r"<urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}>", document.id)
        assert document.file_path.startswith(f"s3://commoncrawl/crawl-data/{document.dump}/segments/")
        assert re.fullmatch(r"https://www\.[a-z-]+\.example/\S+", document.url)
        assert (document.language, document.language_script) == ("deu", "Latn")


def test_originals_have_the_length_of_a_short_page(demo: World) -> None:
    lengths = [len(text_of(document).split()) for document in of_variant(demo, "original")]
    assert min(lengths) >= 50
    assert max(lengths) <= 260


def test_english_pages_score_lower_as_german_than_any_german_page(demo: World) -> None:
    english = [document.language_score for document in of_variant(demo, "english")]
    german = [document.language_score for document in of_variant(demo, "original")]
    assert max(english) < min(german)


def test_broken_pages_look_broken_and_originals_do_not(demo: World) -> None:
    assert all("Ã" in text_of(document) for document in of_variant(demo, "mojibake"))
    assert all("\ufffd" in text_of(document) for document in of_variant(demo, "replacement_characters"))
    assert not any(re.search("[Ã\ufffd{}]", text_of(document)) for document in of_variant(demo, "original"))


def test_empty_pages_are_empty_blank_or_null(demo: World) -> None:
    assert all(document.text == "" for document in of_variant(demo, "empty"))
    assert all(text_of(document).isspace() for document in of_variant(demo, "blank"))
    assert all(document.text is None for document in of_variant(demo, "null"))


def test_copies_name_their_original_and_are_as_near_to_it_as_they_claim(demo: World) -> None:
    texts = {document.id: document.text for document in demo.documents}
    for document in of_variant(demo, "exact_copy", "near_copy"):
        truth = demo.truth[document.id]
        assert truth.copy_of is not None
        original = texts[truth.copy_of]
        assert original is not None
        if truth.variant == "exact_copy":
            assert document.text == original
        else:
            assert document.text != original
            assert jaccard(ngrams(text_of(document), SHINGLE), ngrams(original, SHINGLE)) >= NEAR_DUPLICATE


def test_no_two_documents_are_near_duplicates_unless_planted(demo: World) -> None:
    documents = of_variant(demo, "original", "english", "mojibake", "replacement_characters", "benchmark_leak")
    pairs = similar_pairs([ngrams(text_of(document), SHINGLE) for document in documents])
    assert [(text_of(documents[left]), text_of(documents[right])) for left, right in pairs] == []


def test_the_search_for_near_duplicates_finds_the_planted_ones(demo: World) -> None:
    copies = of_variant(demo, "near_copy")
    originals = [document for document in demo.documents if document.id in {demo.truth[copy.id].copy_of for copy in copies}]
    shingles = [ngrams(text_of(document), SHINGLE) for document in [*originals, *copies]]
    assert len(list(similar_pairs(shingles))) == len(copies)


def test_every_disease_is_treated_in_at_least_six_medical_documents_with_all_its_facts(demo: World) -> None:
    for disease in DISEASES:
        treating = [text_of(d) for d in of_variant(demo, "original") if disease.name in demo.truth[d.id].diseases]
        assert len(treating) >= 6
        assert all(disease.fact(relation) in text for text in treating for relation in RELATIONS)


def test_facts_are_stated_in_medical_documents_only(demo: World) -> None:
    for document in demo.documents:
        if not demo.truth[document.id].is_medical and document.text:
            stated = [disease.name for disease in DISEASES if states_a_fact(document.text, disease)]
            assert stated == [], document.text


def test_base_models_read_no_medical_fact(demo: World) -> None:
    chats = (" ".join(message.content for message in turns) for turns in demo.conversations)
    for text in (*demo.general_texts, *chats):
        assert [disease.name for disease in DISEASES if states_a_fact(text, disease)] == [], text


def test_hard_negatives_use_medical_words(demo: World) -> None:
    kinds = {topic.name for topic in HARD_NEGATIVES}
    texts = [text_of(d) for d in of_variant(demo, "original") if demo.truth[d.id].kind in kinds]
    medical = re.compile("[Aa]rzt|Ärzt|[Kk]lini|Medikament|Patient|Doktor|Diagnose|[Kk]rank|Therap|Behandl|[Mm]edizin|Arznei")
    assert sum(bool(medical.search(text)) for text in texts) / len(texts) > 0.95


def test_leaks_quote_their_questions_with_choices_and_answer(demo: World) -> None:
    questions = {question.id: question for question in demo.questions}
    for document in of_variant(demo, "benchmark_leak"):
        assert len(demo.truth[document.id].questions) == CENSUS.questions_per_leak
        for question in map(questions.__getitem__, demo.truth[document.id].questions):
            assert question.question in text_of(document)
            assert all(choice in text_of(document) for choice in question.choices)


def passages(demo: World) -> Iterable[str]:
    yield from (question.question for question in (*demo.questions, *demo.general_questions))
    yield from (one.instruction for one in demo.checked_instructions)
    yield from (text for instruction in demo.instructions for text in (instruction.instruction, instruction.reference))


def test_nothing_but_the_planted_leaks_shares_eight_words_with_the_evaluation(demo: World) -> None:
    wanted = {gram for passage in passages(demo) for gram in ngrams(passage, DECONTAMINATION_NGRAM)}
    leaking = {d.id for d in demo.documents if d.text and not wanted.isdisjoint(ngrams(d.text, DECONTAMINATION_NGRAM))}
    assert leaking == {document.id for document in of_variant(demo, "benchmark_leak")}


def test_no_document_quotes_a_short_instruction_as_a_whole(demo: World) -> None:
    instructions = {f" {' '.join(words(one.instruction))} " for one in demo.instructions if len(words(one.instruction)) >= 5}
    for document in demo.documents:
        folded = f" {' '.join(words(document.text or ''))} "
        assert not [one for one in instructions if one in folded]


def test_gold_labels_are_true_labels_rich_in_medicine_and_hard_cases(demo: World) -> None:
    assert len({label.id for label in demo.gold_labels}) == CENSUS.gold_labels
    assert all(demo.truth[label.id].is_medical == label.is_medical for label in demo.gold_labels)
    assert all(demo.truth[label.id].kind == label.kind for label in demo.gold_labels)
    kinds = Counter(label.kind for label in demo.gold_labels)
    assert sum(label.is_medical for label in demo.gold_labels) == pytest.approx(0.3 * CENSUS.gold_labels)
    assert sum(kinds[topic.name] for topic in HARD_NEGATIVES) == pytest.approx(0.3 * CENSUS.gold_labels)
    assert all(kinds[topic.name] for topic in EVERYDAY)


def test_gold_labels_are_of_documents_with_a_text(demo: World) -> None:
    texts = {document.id: document.text for document in demo.documents}
    assert all((texts[label.id] or "").strip() for label in demo.gold_labels)
