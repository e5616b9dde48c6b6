"""Real German text through the whole graph: trained on one shard with the lexicon's labels, measured on the other by human labels.

The figures are printed (`pytest -s -m real_text`) and quoted in the README; what is asserted are floors.
"""

from pathlib import Path

import polars as pl
import pytest

from definemed_pipeline_tests.conftest import REAL_TEXT
from definemed_pipeline_tests.end_to_end.conftest import MICRO, Workplace, new_workplace

pytestmark = [pytest.mark.real_text, pytest.mark.xdist_group("real_text")]

RECIPE = """
extends: {micro}
name: real
source: {{files: [{data}/000_00000.parquet, {data}/001_00000.parquet]}}
annotations: {{sample_size: 1000, hold_out_size: 20, unlabelled_size: 40, gold: ./gold.parquet}}
medical_classifier:
  linear: {{buckets_power: 18}}
  transformer: {{kind: from_scratch, vocabulary_size: 4000, hidden_size: 64, layers: 2, heads: 2}}
  epochs: 6
  max_tokens: 192
  target_precision: 0.8
  validation_share: 0.3
base_models: {{demo-mistral: null}}
win_rates: {{opponent_base_model: demo-qwen2}}
"""


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    workplace = new_workplace(tmp_path_factory.mktemp("real"))
    unseen = pl.read_parquet(REAL_TEXT / "001_00000.parquet", columns=["id"])
    pl.read_parquet(REAL_TEXT / "labels.parquet").join(unseen, on="id").select("id", "is_medical").write_parquet(
        workplace.folder / "gold.parquet"
    )
    recipe = workplace.folder / "real.yaml"
    recipe.write_text(RECIPE.format(micro=MICRO, data=REAL_TEXT), "utf-8")
    workplace.definemed("run", "--recipe", str(recipe))
    return Workplace(folder=workplace.folder, recipe=str(recipe))


def tell(stage: str, metrics: dict, prefix: str = "") -> None:
    shown = ", ".join(
        f"{name} {metrics[prefix + name]:.3f} [{metrics[f'{prefix}{name}_low']:.3f}, {metrics[f'{prefix}{name}_high']:.3f}]"
        for name in ("precision", "recall")
    )
    print(f"\n{stage}: {shown}")


def test_annotator_classifier_and_corpus_are_measured_on_the_unseen_shard(workplace):
    found = workplace.artifacts()
    annotations, classifier = found["annotations", "_"].metrics, found["medical_classifier", "_"].metrics
    corpus = found["finemed_de", "_"].metrics
    tell("annotator", annotations)
    tell("classifier", classifier, "gold_")
    tell("corpus", corpus)
    assert annotations["precision"] >= 0.9
    assert annotations["recall"] >= 0.8
    for metrics, prefix in ((classifier, "gold_"), (corpus, "")):
        assert metrics[f"{prefix}precision"] >= 0.9
        assert metrics[f"{prefix}recall"] >= 0.8


def test_no_gold_document_trains_the_classifier(workplace):
    manifest = workplace.artifacts()["annotations", "_"]
    table = pl.read_parquet(workplace.lake / "annotations" / "_" / manifest.version / "annotations.parquet")
    gold = pl.read_parquet(workplace.folder / "gold.parquet")["id"]
    assert not set(table.filter(role="sample")["id"]) & set(gold)


def test_a_base_is_pre_trained_further_merged_and_evaluated_on_what_came_out(workplace):
    found = workplace.artifacts()
    checkpoint, scores = found["cpt_checkpoints", "demo-qwen2"].metrics, found["benchmark_scores", "demo-qwen2"].metrics
    assert checkpoint["held_out_perplexity_corpus"] < checkpoint["held_out_perplexity_corpus_base"]
    assert {f"{stage}_accuracy" for stage in ("base", "cpt", "merged")} <= set(scores)
    card = found["model_cards", "demo-qwen2"]
    text = (workplace.lake / "model_cards" / "demo-qwen2" / card.version / "README.md").read_text("utf-8")
    assert "FineMed" in text or "corpus" in text
    assert found["finemed_de", "_"].version in text


def test_nothing_of_the_real_text_is_in_the_project():
    package = Path(__file__).parents[2]
    ids = set(pl.read_parquet(REAL_TEXT / "labels.parquet")["id"].head(50))
    for path in package.glob("definemed_pipeline*/**/*"):
        if path.is_file() and path.suffix in (".py", ".yaml", ".jsonl", ".parquet", ".json"):
            content = path.read_bytes()
            assert not any(one.encode() in content for one in ids), path
