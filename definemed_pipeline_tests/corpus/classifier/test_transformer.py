import dataclasses
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from definemed_pipeline.corpus.classifier import transformer
from definemed_pipeline.corpus.classifier.settings import MedicalClassifierSettings, Pretrained
from definemed_pipeline.corpus.classifier.transformer import (
    TransformerClassifier,
    learning_rate,
    load_transformer,
    train_tokenizer,
    train_transformer,
)
from definemed_pipeline.errors import UserError
from definemed_pipeline_tests.corpus.classifier_world import MICRO, texts
from definemed_pipeline_tests.corpus.shard_files import contents

DOCUMENTS = texts(30, is_medical=True, seed=1) + texts(90, is_medical=False, seed=1)
LABELS = np.arange(120) < 30


def train(folder: Path, section: MedicalClassifierSettings = MICRO) -> TransformerClassifier:
    folder.mkdir(exist_ok=True)
    return train_transformer([pl.Series(DOCUMENTS)], LABELS, section, folder / "transformer.pt", print)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> TransformerClassifier:
    return train(tmp_path_factory.mktemp("training"))


def test_it_tells_unseen_documents_apart(classifier: TransformerClassifier) -> None:
    positive = classifier.logits(pl.Series(texts(50, is_medical=True, seed=2)), 256)
    negative = classifier.logits(pl.Series(texts(50, is_medical=False, seed=2)), 256)
    assert (positive[:, None] > negative[None, :]).mean() > 0.95


def test_batches_and_padding_change_nothing_that_is_stored(classifier: TransformerClassifier) -> None:
    documents = pl.Series([text[: 20 + 7 * number] for number, text in enumerate(texts(40, is_medical=True, seed=3))])
    alone = np.array([classifier.logits(documents.slice(number, 1), 1)[0] for number in range(len(documents))])
    for size in (40, 256, 5_000):
        assert np.abs(classifier.logits(documents, size) - alone).max() < 1e-5
    shuffled = np.random.default_rng(0).permutation(len(documents))
    assert np.abs(classifier.logits(documents.gather(shuffled), 256) - alone[shuffled]).max() < 1e-5


def test_it_survives_saving_and_the_folder_names_no_place(classifier: TransformerClassifier, tmp_path: Path) -> None:
    classifier.save(tmp_path / "model")
    loaded = load_transformer(tmp_path / "model", MICRO.max_tokens)
    assert loaded.logits(pl.Series(DOCUMENTS), 256).tolist() == classifier.logits(pl.Series(DOCUMENTS), 256).tolist()
    files = contents(tmp_path / "model")
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= set(files)
    assert json.loads(files["config.json"])["architectures"] == ["XLMRobertaForSequenceClassification"]
    assert not [name for name, content in files.items() if str(tmp_path).encode() in content]


def test_training_twice_gives_the_same_bytes(classifier: TransformerClassifier, tmp_path: Path) -> None:
    train(tmp_path / "again").save(tmp_path / "second")
    classifier.save(tmp_path / "first")
    assert contents(tmp_path / "first") == contents(tmp_path / "second")


class KilledError(Exception):
    pass


def test_training_goes_on_from_the_last_epoch_to_the_same_weights(
    classifier: TransformerClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_state, rates = transformer._save_state, []

    def kill_after(epoch: int) -> None:
        def save(checkpoint: Path, *state: object) -> None:
            save_state(checkpoint, *state)  # type: ignore[arg-type]
            if state[-1] == epoch:
                raise KilledError

        monkeypatch.setattr(transformer, "_save_state", save)

    for epoch in (2, 4):  # a second resume differs from a first where state is lost
        kill_after(epoch)
        with pytest.raises(KilledError):
            train(tmp_path / "state")
    monkeypatch.setattr(transformer, "_save_state", save_state)
    monkeypatch.setattr(transformer, "learning_rate", lambda *call: rates.append(call[1]) or learning_rate(*call))
    resumed = train(tmp_path / "state")
    steps_per_epoch = -(-len(DOCUMENTS) // MICRO.batch_size)
    assert min(rates) == 4 * steps_per_epoch
    assert resumed.logits(pl.Series(DOCUMENTS), 256).tolist() == classifier.logits(pl.Series(DOCUMENTS), 256).tolist()


def test_a_long_document_is_cut_and_ends_as_a_short_one_does(classifier: TransformerClassifier) -> None:
    tokens = classifier.encode([pl.Series(["Brücke"]), pl.Series(["Brücke und Bahnhof " * 1000])])
    short, long = tokens.document(0), tokens.document(1)
    assert len(long) == MICRO.max_tokens
    assert (short[0], short[-1]) == (long[0], long[-1]) == (0, 2)


def test_the_tokenizer_is_the_same_each_time_and_never_larger_than_asked() -> None:
    first, second = (train_tokenizer([pl.Series(DOCUMENTS)], 350, 24).backend_tokenizer.to_str() for _ in range(2))
    assert first == second
    assert len(train_tokenizer([pl.Series(DOCUMENTS)], 350, 24)) <= 350


def test_the_learning_rate_rises_and_falls_in_straight_lines() -> None:
    rates = [learning_rate(MICRO, step, 100) for step in range(100)]
    peak = int(np.argmax(rates))
    assert 5 <= peak <= 15
    assert max(rates) <= MICRO.learning_rate
    assert np.allclose(np.diff(rates[:peak], 2), 0)
    assert np.allclose(np.diff(rates[peak + 1 :], 2), 0)
    assert 0 < rates[-1] < 0.02 * MICRO.learning_rate


def test_it_starts_from_a_published_folder(classifier: TransformerClassifier, tmp_path: Path) -> None:
    classifier.save(tmp_path / "published")
    published = dataclasses.replace(MICRO, epochs=1, transformer=Pretrained(model=str(tmp_path / "published")))
    tuned = train(tmp_path / "state", published)
    tuned.save(tmp_path / "tuned")
    assert not [name for name, content in contents(tmp_path / "tuned").items() if str(tmp_path).encode() in content]
    assert tuned.tokenizer.get_vocab() == classifier.tokenizer.get_vocab()
    assert tuned.logits(pl.Series(DOCUMENTS), 256).tolist() != classifier.logits(pl.Series(DOCUMENTS), 256).tolist()


@pytest.mark.parametrize(
    ("model", "max_tokens", "said"),
    [
        ("no/such-folder", 24, "pin its revision"),
        ("EMPTY", 24, "cannot be loaded"),
        ("GOOD", 25, "reads at most 24"),
    ],
)
def test_a_published_model_that_does_not_fit_is_refused_with_the_cure(
    classifier: TransformerClassifier, tmp_path: Path, model: str, max_tokens: int, said: str
) -> None:
    (tmp_path / "EMPTY").mkdir()
    classifier.save(tmp_path / "GOOD")
    location = str(tmp_path / model) if model.isupper() else model
    section = dataclasses.replace(MICRO, transformer=Pretrained(model=location), max_tokens=max_tokens)
    with pytest.raises(UserError, match=said):
        train(tmp_path / "state", section)
