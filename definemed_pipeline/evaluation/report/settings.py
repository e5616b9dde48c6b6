"""The recipe's section for the report: what the page says that was not measured. Standard library only, as in all settings."""

from definemed_pipeline.evaluation.benchmarks.settings import Stage
from definemed_pipeline.settings import setting, settings


@settings
class PublishedAccuracy:
    """An accuracy (0 to 1) somebody else published for a stage of a base model, with its source; it is shown beside ours and marked."""

    base_model: str
    stage: Stage
    accuracy: float = setting(at_least=0, at_most=1)
    model: str
    source: str


@settings
class ReportSettings:
    """What the page is called, what its reader must know before the numbers, and the figures of others beside ours.

    `examples` counts, for each base model, the instructions whose responses are shown.
    """

    title: str
    notes: tuple[str, ...] = ()
    examples: int = setting(default=2, at_least=0, at_most=20)
    published: tuple[PublishedAccuracy, ...] = ()
