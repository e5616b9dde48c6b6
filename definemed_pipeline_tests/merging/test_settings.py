import pytest

from definemed_pipeline.merging.settings import MergedModelsSettings


@pytest.mark.parametrize("name", ["self_attn_t", "mlp_t"])
def test_a_t_outside_zero_and_one_is_refused_by_name(name) -> None:
    with pytest.raises(ValueError, match=f"{name} holds 1.5"):
        MergedModelsSettings(**{name: (0.0, 1.5)})
