"""Each rule against texts made for it, and all of them against a plain reading of their definitions, text by text and word by word."""

import re
import unicodedata
from collections import Counter
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from definemed_pipeline.corpus.quality import filters as quality
from definemed_pipeline.corpus.quality.filters import drop_reasons
from definemed_pipeline.corpus.quality.settings import QualityRules, read_rules, rules_location
from definemed_pipeline.errors import UserError

GERMAN = read_rules(rules_location("deu_Latn"))
# Running text in which no line and hardly a phrase is repeated.
PROSE = """\
Der Gärtner suchte im Keller nach seinem alten Fahrrad, fand aber nur eine Laterne.
Gegen Mittag wurde es wärmer, und die Kinder liefen barfuß zum Bach hinunter.
Eine Lehrerin aus Bremen schrieb über Wale, obwohl sie nie einen gesehen hatte.
Kartoffeln, Möhren, Zwiebeln: mehr braucht ein guter Eintopf eigentlich nicht.
Am Bahnhof wartete niemand mehr, als der letzte Zug endlich einfuhr.
Sein Bruder spielte jahrelang Cello, bis ihm jemand eine Trompete schenkte.
Wer früh aufsteht, sieht manchmal Rehe zwischen den Obstbäumen stehen.
Das Museum zeigt seit gestern Uhren, Globen sowie seltene Landkarten.
Meine Tante behauptet, Katzen könnten den Wetterbericht besser als Menschen.
Hinter dem Rathaus entsteht bald ein Spielplatz mit hölzerner Burg.
Ob die Brücke hält, prüfen zwei Ingenieure von der Hochschule.
Unser Bäcker mahlt Roggen selbst; deshalb schmeckt sein Brot nach Nuss.
Im Herbst zogen Kraniche so niedrig, dass man ihre Flügel hörte.
Jeden Dienstag trifft sich dort ein Chor, der Seemannslieder übt.
Vor dem Fenster blühte trotz Schnee eine einzige gelbe Rose.""".splitlines()
GOOD = "\n".join(PROSE)


def reasons(*texts: str | None, rules: QualityRules = GERMAN) -> list[str | None]:
    found: list[str | None] = drop_reasons(pl.Series(texts, dtype=pl.String), rules).to_list()
    return found


def ending(*endings: str) -> str:
    """Write the prose with these line ends, then with its own."""
    return "\n".join(line[:-1] + end for line, end in zip(PROSE, [*endings, *"." * len(PROSE)], strict=False))


# The definitions, read plainly. Each function says whether a text is dropped for its reason.


def tokens_of(text: str) -> list[str]:
    kind = {character: unicodedata.category(character)[0] in "LMN" for character in text}
    pattern = "".join("w" if kind[character] else " " if character.isspace() else character for character in text)
    return [text[match.start() : match.end()] for match in re.finditer(r"w+(?:[-.,:'’_&@]w+)*|\.{2,}|[^ ]", pattern)]


def has(token: str, kinds: str) -> bool:
    return any(unicodedata.category(character)[0] in kinds for character in token)


def repeated(pieces: list[str]) -> list[str]:
    return [piece for number, piece in enumerate(pieces) if piece in pieces[:number]]


def top_characters(tokens: list[str], n: int) -> int:
    grams = Counter(tuple(tokens[start : start + n]) for start in range(len(tokens) - n + 1))
    gram, count = grams.most_common(1)[0] if grams else ((), 0)
    return len(" ".join(gram)) * count


def duplicate_characters(tokens: list[str], n: int) -> int:
    read, characters, at = set(), 0, 0
    while at + n <= len(tokens):
        gram = tuple(tokens[at : at + n])
        if gram in read:
            characters += len("".join(gram))
        at += n if gram in read else 1
        read.add(gram)
    return characters


def plain_reason(text: str | None, rules: QualityRules) -> str | None:
    text = text or ""
    tokens = tokens_of(text)
    words = [token for token in tokens if has(token, "LN")]
    if not words:
        return "empty"
    parts = [line for line in text.split("\n") if line.strip()]
    paragraphs = [part.strip("\n") for part in re.split("\n\n+", text) if part.strip()]
    feeds = text.count("\n")
    length = sum(map(len, words)) / len(words)
    measured: list[tuple[str, float, float | None, float | None]] = [  # reason, measure, at least, at most
        ("too_few_words", len(words), rules.min_words, None),
        ("too_many_words", len(words), None, rules.max_words),
        ("short_words", length, rules.min_mean_word_length, None),
        ("long_words", length, None, rules.max_mean_word_length),
        ("hash_signs", text.count("#") / len(tokens), None, rules.max_signs_per_token),
        ("ellipses", (text.count("...") + text.count("…")) / len(tokens), None, rules.max_signs_per_token),
        ("few_letters", sum(has(token, "L") for token in tokens) / len(tokens), rules.min_lettered_share, None),
        ("few_stop_words", len(set(tokens) & set(rules.stop_words)), rules.min_stop_words, None),
        ("list", feeds / len(tokens), None, rules.max_line_feeds_per_token),
        (
            "unpunctuated_lines",
            sum(part.endswith(rules.line_ends) for part in parts) / len(parts),
            rules.min_punctuated_line_share,
            None,
        ),
        (
            "short_lines",
            sum(len(part) <= rules.short_line_length for part in parts) / len(parts),
            None,
            rules.max_short_line_share,
        ),
        ("bullet_lines", sum(part.lstrip()[0] in "•-" for part in parts) / len(parts), None, rules.max_bullet_line_share),
        (
            "ellipsis_lines",
            sum(part.rstrip().endswith(("...", "…")) for part in parts) / len(parts),
            None,
            rules.max_ellipsis_line_share,
        ),
        ("duplicate_lines", len(repeated(parts)) / len(parts), None, rules.max_duplicate_line_share),
        (
            "duplicate_line_characters",
            len("".join(repeated(parts))) / (len(text) - feeds),
            None,
            rules.max_duplicate_line_characters,
        ),
        ("duplicate_paragraphs", len(repeated(paragraphs)) / len(paragraphs), None, rules.max_duplicate_paragraph_share),
        (
            "duplicate_paragraph_characters",
            len("".join(repeated(paragraphs))) / len(text),
            None,
            rules.max_duplicate_paragraph_characters,
        ),
        *(
            (f"top_{n}gram", top_characters(tokens, n) / len(text), None, most)
            for n, most in sorted(rules.max_top_ngram_share.items())
        ),
        *(
            (f"duplicate_{n}gram", duplicate_characters(tokens, n) / len(text), None, most)
            for n, most in sorted(rules.max_duplicate_ngram_share.items())
        ),
    ]
    for reason, value, least, most in measured:
        if (least is not None and value < least) or (most is not None and value > most):
            return reason
    return None


PIECES = st.sampled_from(["a", "b", "ab", "der", "über", "Ä-b", "7", "3,5", ".", "...", "…", "#", "•", "-", "\n", "\n\n", " "])
SHARES = st.none() | st.floats(0, 1)
SHARES_BY_N = st.dictionaries(st.integers(1, 6), st.floats(0, 0.6), max_size=4)
RULES = st.builds(
    QualityRules,
    min_words=st.none() | st.integers(0, 5),
    max_words=st.none() | st.integers(5, 60),
    min_mean_word_length=st.none() | st.floats(0, 3),
    max_mean_word_length=st.none() | st.floats(1, 5),
    max_signs_per_token=SHARES,
    min_lettered_share=SHARES,
    min_stop_words=st.none() | st.integers(0, 2),
    stop_words=st.just(("der", "über")),
    max_line_feeds_per_token=SHARES,
    min_punctuated_line_share=SHARES,
    line_ends=st.just((".", "…")),
    max_short_line_share=SHARES,
    short_line_length=st.integers(0, 10),
    max_bullet_line_share=SHARES,
    max_ellipsis_line_share=SHARES,
    max_duplicate_line_share=SHARES,
    max_duplicate_line_characters=SHARES,
    max_duplicate_paragraph_share=SHARES,
    max_duplicate_paragraph_characters=SHARES,
    max_top_ngram_share=SHARES_BY_N,
    max_duplicate_ngram_share=SHARES_BY_N,
)
TEXTS = st.lists(st.none() | st.lists(PIECES, max_size=40).map(" ".join), max_size=6)


@settings(max_examples=100)
@given(TEXTS, RULES)
def test_every_text_gets_the_reason_that_a_plain_reading_of_the_rules_gives(texts: list[str | None], rules: QualityRules) -> None:
    assert reasons(*texts, rules=rules) == [plain_reason(text, rules) for text in texts]


FEW_WORDS = st.lists(st.lists(st.sampled_from("abc"), max_size=60).map(" ".join), min_size=1, max_size=6)


@settings(max_examples=150)
@given(FEW_WORDS, SHARES_BY_N, SHARES_BY_N)
@example(
    ["a b c a b a b c a b c b c a b c a"], {}, {2: 0.3}
)  # an n-gram first met inside a found one is not known the second time
def test_texts_of_nothing_but_repetition_get_the_reason_that_a_plain_reading_gives(
    texts: list[str], top: dict[int, float], duplicate: dict[int, float]
) -> None:
    rules = QualityRules(max_top_ngram_share=top, max_duplicate_ngram_share=duplicate)
    assert reasons(*texts, rules=rules) == [plain_reason(text, rules) for text in texts]


@settings(max_examples=50)
@given(st.lists(st.lists(PIECES, max_size=60).map(" ".join), min_size=1, max_size=8), st.integers(1, 200))
def test_the_reason_of_a_text_does_not_depend_on_its_company(texts: list[str], at_once: int) -> None:
    rules = replace(GERMAN, min_words=3)
    alone = [reason for text in texts for reason in reasons(text, rules=rules)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quality, "BYTES_AT_ONCE", at_once)
        assert reasons(*texts, rules=rules) == alone
    assert reasons(*reversed(texts), rules=rules) == alone[::-1]


def test_running_text_is_kept() -> None:
    assert reasons(GOOD) == [None]


WORDS = GOOD.split()
MENU = "\n".join(["Startseite und Kontakt mit der Redaktion", "Über uns, das Haus, die Zeitung, den Verlag"] * 5)


@pytest.mark.parametrize(
    ("reason", "dropped", "kept"),
    [
        ("empty", "", "\n" + GOOD),
        ("empty", " \n ... !", "... !" + GOOD),
        ("too_few_words", " ".join(WORDS[:49]), " ".join(WORDS[:50])),
        ("long_words", re.sub(r"(\w+)", r"\1\1\1", GOOD), re.sub(r"(\w{5,})", r"\1\1", GOOD)),
        ("hash_signs", GOOD.replace(" ", " # ", 25), GOOD.replace(" ", " # ", 15)),
        ("ellipses", GOOD.replace(" ", " … ", 25), GOOD.replace(" ", " ... ", 15)),
        ("few_letters", GOOD.replace(" ", " 9, ", 15), GOOD.replace(" ", " 9 ", 15)),
        ("few_stop_words", re.sub(r"\b(und|die|in|von|im|den|des|mit|das|er|dem|als|wurde|für)\b", "the", GOOD), None),
        ("list", GOOD.replace(", ", "\n").replace(" ", "\n", 30), GOOD.replace(" ", "\n", 10)),
        ("bullet_lines", "- " + GOOD.replace("\n", "\n • "), "- " + GOOD.replace("\n", "\n- ", 12)),
        ("ellipsis_lines", ending(*["…", "... "] * 3), ending(*["…"] * 4)),
        ("duplicate_lines", "\n".join([*PROSE, *["Weiter und mehr"] * 7]), "\n".join([*PROSE, *["Weiter und mehr"] * 6])),
        ("duplicate_line_characters", "\n".join([*PROSE, *PROSE[:2]]), "\n".join([*PROSE, PROSE[0]])),
    ],
)
def test_a_rule_drops_the_text_made_for_it_and_not_its_neighbour(reason: str, dropped: str, kept: str | None) -> None:
    assert reasons(dropped) == [reason]
    if kept is not None:
        assert reasons(kept) == [None]


@pytest.mark.parametrize(
    ("reason", "rules", "dropped", "kept"),
    [
        ("too_many_words", QualityRules(max_words=3), "eins zwei drei vier", "eins, zwei drei!"),
        ("short_words", QualityRules(min_mean_word_length=3), "ab cde", "abc, cde"),
        ("unpunctuated_lines", QualityRules(min_punctuated_line_share=0.5, line_ends=(".",)), "a\nb.\nc", "a\nb."),
        ("short_lines", QualityRules(max_short_line_share=0.5, short_line_length=2), "a\nab\nabc", "a\n\nabc"),
        ("duplicate_paragraphs", QualityRules(max_duplicate_paragraph_share=0.4), "a\nb\n\na\nb", "a\nb\na\nb"),
        ("duplicate_paragraph_characters", QualityRules(max_duplicate_paragraph_characters=0.3), "aaaa\n\n\naaaa", "aaaa\naaaa"),
        ("top_2gram", QualityRules(max_top_ngram_share={2: 0.5}), "ab cd ef ab cd", "ab cd ef gh ab cd ij kl"),
        ("duplicate_5gram", QualityRules(max_duplicate_ngram_share={5: 0.2}), "a b c d e X a b c d e", "a b c d e X a b c d f"),
    ],
)  # fmt: skip
def test_a_rule_that_german_does_not_use_drops_the_text_made_for_it_and_not_its_neighbour(
    reason: str, rules: QualityRules, dropped: str, kept: str
) -> None:
    assert reasons(dropped, kept, rules=rules) == [reason, None]


def test_repetition_is_dropped_though_no_line_is_repeated() -> None:
    phrase = "Jetzt günstig online bestellen und sofort sparen"
    rest = [f" {phrase}, {word}!" for word in WORDS]
    found = reasons(*(GOOD + "".join(rest[:times]) for times in (60, 5, 3)))
    assert found == ["top_2gram", "duplicate_8gram", None]


def test_a_cheaper_rule_names_the_reason_where_several_are_broken() -> None:
    assert reasons(MENU, "ja " * 10) == ["duplicate_lines", "too_few_words"]


def test_no_texts_one_word_and_null() -> None:
    assert reasons() == []
    assert reasons(None, "Wort", rules=QualityRules()) == ["empty", None]
    assert drop_reasons(pl.Series([None, None]), GERMAN).to_list() == ["empty", "empty"]


def test_a_huge_text_and_its_small_neighbours() -> None:
    huge = " ".join(f"wort{number} und der" for number in range(1_000_000))
    assert reasons(GOOD, huge, GOOD, rules=GERMAN) == [None, "too_many_words", None]
    unbounded = replace(GERMAN, max_words=None)
    assert reasons(GOOD, "ja nein vielleicht doch der und " * 200_000, GOOD, rules=unbounded)[::2] == [None, None]


def test_another_language_is_another_file(tmp_path: Path) -> None:
    path = tmp_path / "french.yaml"
    path.write_text("min_words: 2\nmin_stop_words: 1\nstop_words: [le, la]\n", "utf-8")
    assert reasons("la maison", "une maison", "la", rules=read_rules(str(path))) == [None, "few_stop_words", "too_few_words"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("min_word: 5", "min_word .*; did you mean min_words"),
        ("min_words: many", "min_words"),
        ("max_duplicate_line_share: 26.3", "max_duplicate_line_share is 26.3; allowed: at least 0 and at most 1"),
        ("max_top_ngram_share: {2: 17}", "max_top_ngram_share is 17.0 for n = 2"),
        ("min_stop_words: 2", "min_stop_words is 2; allowed: at most the 0 of stop_words"),
        ("min_punctuated_line_share: 0.1", "line_ends is empty"),
        ("stop_words: [no]", "stop_words.0"),
        ("[", "cannot be read"),
        ("just text", "do not fit"),
    ],
)
def test_rules_that_do_not_fit_are_refused_with_the_reason(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(content, "utf-8")
    with pytest.raises(UserError, match=message):
        read_rules(str(path))


def test_an_unknown_language_lists_what_is_packaged() -> None:
    with pytest.raises(UserError, match=r"quality_rules is 'fra_Latn'; allowed: deu_Latn, or the path of a YAML file"):
        rules_location("fra_Latn")
