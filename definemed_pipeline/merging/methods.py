"""mergekit's methods that merge two or more models of one architecture, and what each takes.

The table repeats the registry of mergekit 0.1.5 (a test compares them), so that a recipe is checked where neither mergekit nor torch is
installed. `passthrough` is not in it: it copies one model.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

# What the instruct model is to a method: the origin that the others' changes are measured from, one of the models that are merged,
# or either of the two, as the recipe says.
Base = Literal["origin", "merged", "either"]


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One parameter of a method. `per_model`: may have another value for each model; `least` and `most` bound a number."""

    kind: type = float
    per_model: bool = False
    is_required: bool = False
    least: float | None = None
    most: float | None = None


@dataclass(frozen=True, kw_only=True)
class Method:
    """A method's parameters, the role of the base, and how many models it takes, the base among them (`most` None: any number).

    Where the base may have `either` role, an origin comes on top of that number.
    """

    base: Base
    parameters: Mapping[str, Parameter]
    least: int = 2
    most: int | None = None


FLAG = Parameter(kind=bool)
WEIGHT = Parameter(per_model=True, is_required=True)
WAY = Parameter(is_required=True, least=0, most=1)
POSITIVE = Parameter(least=0)


def _task_arithmetic(**parameters: Parameter) -> Method:
    """Return a method that adds the models' changes to the base, after thinning them out."""
    density = Parameter(per_model=True, least=0, most=1)
    shared = {"int8_mask": FLAG, "normalize": FLAG, "rescale": FLAG, "lambda": Parameter()}
    return Method(base="origin", parameters={**shared, "weight": WEIGHT, "density": density, **parameters})


_GAMMA = Parameter(per_model=True, least=0, most=1)
_EPSILON = Parameter(per_model=True, least=0, most=1)
METHODS: Mapping[str, Method] = {
    "arcee_fusion": Method(base="origin", parameters={}, most=2),
    "breadcrumbs": _task_arithmetic(gamma=_GAMMA),
    "breadcrumbs_ties": _task_arithmetic(gamma=_GAMMA),
    "dare_linear": _task_arithmetic(),
    "dare_ties": _task_arithmetic(),
    "della": _task_arithmetic(epsilon=_EPSILON),
    "della_linear": _task_arithmetic(epsilon=_EPSILON),
    "karcher": Method(base="merged", parameters={"max_iter": Parameter(kind=int, least=1), "tol": POSITIVE}),
    "linear": Method(base="merged", parameters={"weight": WEIGHT, "normalize": FLAG}),
    "model_stock": Method(base="origin", parameters={"filter_wise": FLAG}, least=3),
    "multislerp": Method(base="either", parameters={"weight": WEIGHT, "normalize_weights": FLAG, "eps": POSITIVE}),
    "nearswap": Method(base="origin", parameters={"t": Parameter(is_required=True, least=0)}, most=2),
    "nuslerp": Method(base="either", parameters={"weight": WEIGHT, "nuslerp_row_wise": FLAG, "nuslerp_flatten": FLAG}, most=2),
    "ram": Method(base="origin", parameters={"epsilon": POSITIVE}),
    "ramplus_tl": Method(base="origin", parameters={"r": POSITIVE, "alpha": POSITIVE, "epsilon": POSITIVE}),
    "sce": Method(base="origin", parameters={"int8_mask": FLAG, "select_topk": Parameter(least=0, most=1)}),
    "slerp": Method(base="origin", parameters={"t": WAY}, most=2),
    "task_arithmetic": _task_arithmetic(),
    "ties": _task_arithmetic(),
}
