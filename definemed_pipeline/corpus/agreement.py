"""How well decisions agree with gold labels: precision, recall, F1, accuracy and Cohen's kappa, with 95 % intervals."""

import polars as pl

from definemed_pipeline.artifacts.sources import open_source
from definemed_pipeline.errors import UserError
from definemed_pipeline.intervals import wilson


def agreement(gold: pl.Series, decided: pl.Series) -> dict[str, float | int | None]:
    """Compare two boolean series without nulls, of equal length and order.

    Return the four counts, and `precision`, `recall`, `f1`, `accuracy` each with `_low` and `_high`, and `kappa`; a figure that
    is not defined (no document was decided to be positive, say) is None. F1 = 2J / (1 + J) for the Jaccard index J = TP / (TP + FP + FN),
    a proportion: its Wilson interval goes through the same map.
    """
    true_positives = int((gold & decided).sum())
    false_positives = int((~gold & decided).sum())
    false_negatives = int((gold & ~decided).sum())
    true_negatives = len(gold) - true_positives - false_positives - false_negatives
    figures: dict[str, float | int | None] = {
        "true_positives": true_positives,
        "false_positives": false_positives,
        "false_negatives": false_negatives,
        "true_negatives": true_negatives,
        **proportion("precision", true_positives, true_positives + false_positives),
        **proportion("recall", true_positives, true_positives + false_negatives),
        **proportion("accuracy", true_positives + true_negatives, len(gold)),
    }
    jaccard = proportion("f1", true_positives, true_positives + false_positives + false_negatives)
    figures |= {name: None if value is None else 2 * value / (1 + value) for name, value in jaccard.items()}
    figures["kappa"] = _kappa(true_positives, false_positives, false_negatives, true_negatives)
    return figures


def proportion(name: str, successes: int, trials: int) -> dict[str, float | None]:
    """Return `name`, `name_low`, `name_high` of a proportion with its Wilson interval, None where nothing was tried."""
    if trials == 0:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    return dict(wilson(successes, trials).as_metrics(name))


def read_gold(location: str) -> pl.DataFrame:
    """Read gold labels: `id`, `is_medical` (null where undecided), one row per document.

    Raise UserError where the file or a column is missing, of the wrong type, or an id is labelled twice.
    """
    try:
        with open_source(location) as file:
            gold = pl.read_parquet(file, columns=["id", "is_medical"])
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UserError(
            f"the gold labels {location} cannot be read ({' '.join(str(error).split())[:120]}); needed: parquet with id and is_medical"
        ) from error
    if gold.schema != {"id": pl.String, "is_medical": pl.Boolean}:
        found = ", ".join(f"{name} {dtype}" for name, dtype in gold.schema.items())
        raise UserError(f"the gold labels {location} have {found}; needed: id String, is_medical Boolean")
    if twice := gold.filter(pl.col("id").is_duplicated()).height:
        raise UserError(f"the gold labels {location} have {twice} rows whose id stands more than once; leave one of each")
    return gold.drop_nulls("id")


def _kappa(true_positives: int, false_positives: int, false_negatives: int, true_negatives: int) -> float | None:
    """Cohen's kappa (Cohen 1960): agreement beyond what the two shares of positives would give by chance."""
    total = true_positives + false_positives + false_negatives + true_negatives
    if total == 0:
        return None
    decided, gold = (true_positives + false_positives) / total, (true_positives + false_negatives) / total
    observed = (true_positives + true_negatives) / total
    chance = decided * gold + (1 - decided) * (1 - gold)
    return None if chance == 1 else (observed - chance) / (1 - chance)
