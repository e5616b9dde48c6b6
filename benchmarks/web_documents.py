"""German-like web documents with FineWeb2's columns, made from a seed: the input of corpus.py.

Words are made of German syllables, and their frequencies follow Zipf's law, with the most frequent German words in front; every seventh draw is a
stock phrase of 2 to 6 words, so that n-grams recur within and across documents. Sentences have 6 to 22 draws, lines 1 to 5 sentences. The length of a
document in words is log-normal (median 330, mean about 525). Of all documents,
- 6 % are short: 10 to 49 words;
- 6 % repeat themselves: one of their sentences, or one of their lines, again and again, until it makes up 5 to 60 % of the text;
- 3 % are exact copies of an earlier document, and 12 % near copies: in 1 to 4 places 1 to 15 words in a row are other ones.
What is what is written beside the documents: `family`, the number of the document that each was copied from, else its own.
"""

# ruff: noqa: SIM905  word lists are easier to read as text
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

FREQUENT = (
    "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an werden aus er hat dass sie nach wird bei "
    "einer um am sind noch wie einem über einen so zum war haben nur oder aber vor zur bis mehr durch man sein wurde sei hatte kann gegen vom "
    "können schon wenn habe seine ihre dann unter wir soll ich eines jahr zwei diese wieder keine uhr seiner worden will zwischen immer was sagte"
).split()
ONSETS = "b bl br d f fl fr g gl gr h k kl kn kr l m n p pf pr r s sch schl schm schn schr schw sp spr st str t tr v w z".split()
VOWELS = "a e i o u au ei eu ie ä ö ü aa ee ei e a i".split()
CODAS = [
    "",
    "",
    "",
    "b",
    "ch",
    "cht",
    "ck",
    "f",
    "g",
    "hl",
    "l",
    "lt",
    "m",
    "n",
    "nd",
    "ng",
    "nk",
    "nt",
    "r",
    "rt",
    "rz",
    "s",
    "st",
    "t",
    "tz",
]
ENDINGS = ["", "", "e", "en", "er", "es", "em", "ung", "ungen", "keit", "lich", "liche", "lichen", "te", "ten", "t", "st"]
VOCABULARY, PHRASES, EXPONENT = 80_000, 4_000, 1.12
ROW_GROUP = 1_000  # as in FineWeb2's own files
MEDIAN_WORDS, SPREAD, MOST_WORDS = 330, 0.96, 20_000
SHORT, REPETITIVE, COPIES, NEAR_COPIES = 0.06, 0.06, 0.03, 0.12


def write_web(path: Path, documents: int, seed: int) -> pl.DataFrame:
    """Write the documents as parquet; return `id`, `family` and `words` of each."""
    chance = np.random.default_rng(seed)
    texts, families = zip(*_documents(documents, chance), strict=True)
    numbers = pl.int_range(documents, eager=True).cast(pl.String)
    digests = numbers.hash(seed).cast(pl.String).str.zfill(20)
    web = pl.DataFrame({"text": texts, "family": families}, schema={"text": pl.String, "family": pl.Int64}).with_columns(
        id=pl.format("<urn:uuid:{}>", digests),
        dump=pl.lit("CC-MAIN-2024-10"),
        url=pl.format("https://www.example.de/{}", digests),
        date=pl.lit("2024-02-21T05:12:09Z"),
        file_path=pl.lit("s3://commoncrawl/crawl-data/CC-MAIN-2024-10/segments/1707947473360.9/warc/CC-MAIN-00000.warc.gz"),
        language=pl.lit("deu"),
        language_score=pl.Series(chance.uniform(0.83, 1, documents).round(6)),
        language_script=pl.lit("Latn"),
        minhash_cluster_size=pl.lit(1, pl.Int64),
        top_langs=pl.lit('{"deu_Latn_score": 0.99}'),
    )
    web.drop("family").write_parquet(path, row_group_size=ROW_GROUP)
    return web.select("id", "family", words=pl.col("text").str.count_matches(r"\S+"))


def _documents(documents: int, chance: np.random.Generator) -> Iterator[tuple[str, int]]:
    """Yield each document with the number of the one it was copied from, or its own."""
    stream = draws(chance)
    originals: list[tuple[str, int]] = []
    for number in range(documents):
        kind = chance.choice(5, p=[SHORT, REPETITIVE, COPIES, NEAR_COPIES, 1 - SHORT - REPETITIVE - COPIES - NEAR_COPIES])
        if kind in (2, 3) and originals:
            text, family = originals[chance.integers(len(originals))]
            yield (text if kind == 2 else _edited(text, stream, chance)), family
            continue
        words = chance.integers(10, 50) if kind == 0 else min(chance.lognormal(np.log(MEDIAN_WORDS), SPREAD), MOST_WORDS)
        text = _text(int(words), stream, chance)
        if kind == 1:
            text = _repetitive(text, chance)
        originals.append((text, number))
        yield text, number


def draws(chance: np.random.Generator) -> np.ndarray:
    """Return a million draws of words and stock phrases by their frequency, to be read from anywhere."""
    words = dict.fromkeys(FREQUENT)
    while len(words) < VOCABULARY:
        syllables = chance.integers(1, 3 + (len(words) > 15_000))  # rare words are longer
        word = "".join(chance.choice(ONSETS) + chance.choice(VOWELS) + chance.choice(CODAS) for _ in range(syllables))
        word += chance.choice(ENDINGS)
        words[word.capitalize() if chance.random() < 0.4 else word] = None
    vocabulary = np.array(list(words), dtype=object)
    drawn = vocabulary[_zipf(VOCABULARY, 1_000_000, chance)]
    phrases = np.array(
        [" ".join(drawn[start : start + chance.integers(2, 7)]) for start in chance.integers(0, 900_000, PHRASES)], dtype=object
    )
    return np.where(chance.random(len(drawn)) < 1 / 7, phrases[_zipf(PHRASES, len(drawn), chance)], drawn)


def _zipf(ranks: int, size: int, chance: np.random.Generator) -> np.ndarray:
    """Draw ranks by Zipf and Mandelbrot's law, with an exponent that repeats words within a document as often as German news texts do."""
    weights = 1 / (np.arange(ranks) + 2.7) ** EXPONENT
    return chance.choice(ranks, size, p=weights / weights.sum())


def _text(words: int, draws: np.ndarray, chance: np.random.Generator) -> str:
    """Write sentences in lines until there are about as many words as asked for."""
    lines: list[str] = []
    left = words
    while left > 0:
        sentences = [_sentence(draws, chance) for _ in range(chance.integers(1, 6))]
        line = " ".join(" ".join(sentences).split()[:left])
        left -= len(line.split())
        lines.append(line)
    return "\n".join(lines)


def _sentence(draws: np.ndarray, chance: np.random.Generator) -> str:
    length = int(chance.integers(6, 23))
    start = int(chance.integers(0, len(draws) - length))
    words = list(draws[start : start + length])
    for place in chance.integers(0, length, length // 9):
        words[place] += ","
    if chance.random() < 0.15:
        words[chance.integers(length)] = str(chance.integers(1, 2025))
    sentence = " ".join(words)
    return sentence[0].upper() + sentence[1:].rstrip(",") + str(chance.choice([".", ".", ".", ".", "!", "?", ":"]))


def _repetitive(text: str, chance: np.random.Generator) -> str:
    """Scatter one of the text's lines, or a part of one, until it makes up a share of the words drawn from 5 to 60 %."""
    lines = text.split("\n")
    line = lines[chance.integers(len(lines))].split()
    piece = " ".join(line[: chance.integers(3, 30)])
    share = chance.uniform(0.05, 0.6)
    times = int(share / (1 - share) * len(text.split()) / len(piece.split())) + 1
    for _ in range(times):
        place = int(chance.integers(len(lines)))
        if chance.random() < 0.3:
            lines.insert(place, piece)
        else:
            lines[place] += " " + piece
    return "\n".join(lines)


def _edited(text: str, draws: np.ndarray, chance: np.random.Generator) -> str:
    """Exchange 1 to 15 words in a row in 1 to 4 places."""
    lines = [line.split(" ") for line in text.split("\n")]
    for _ in range(chance.integers(1, 5)):
        line = lines[chance.integers(len(lines))]
        length, start = int(chance.integers(1, 16)), int(chance.integers(len(line)))
        line[start : start + length] = _sentence(draws, chance).split(" ")[:length]
    return "\n".join(" ".join(line) for line in lines)
