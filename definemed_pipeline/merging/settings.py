"""The recipe's section for merging. Standard library only, as in all settings."""

from typing import Literal

from definemed_pipeline.settings import setting, settings


@settings
class MergedModelsSettings:
    """How far a merged model lies from its base (t = 0) towards the CPT checkpoint (t = 1).

    `self_attn_t` and `mlp_t` set t along the layers for those tensors: the values are spread evenly over the depth and interpolated
    between; empty means `t`. `linear` is the control for `slerp`, which itself is linear where two tensors are all but parallel.
    """

    method: Literal["slerp", "linear"] = "slerp"
    t: float = setting(0.5, at_least=0, at_most=1)
    self_attn_t: tuple[float, ...] = ()
    mlp_t: tuple[float, ...] = ()
    dtype: Literal["float32", "bfloat16"] = "bfloat16"

    def __post_init__(self) -> None:
        for name in ("self_attn_t", "mlp_t"):
            outside = [value for value in getattr(self, name) if not 0 <= value <= 1]
            if outside:
                raise ValueError(f"{name} holds {outside[0]}; allowed: values from 0 to 1")
