import pytest
from mergekit.merge_methods.base import BasePolicy, MergeMethodSpec, ParameterScope
from mergekit.merge_methods.registry import registered_methods

from definemed_pipeline.merging.methods import METHODS

SPECS = {method.spec.name: method.spec for method in registered_methods() if method.spec.name != "passthrough"}
ROLES = {
    BasePolicy.REQUIRED: "origin",
    BasePolicy.OPTIONAL: "either",
    BasePolicy.IGNORED: "merged",
}


def test_every_method_of_mergekit_that_merges_models_is_in_the_table() -> None:
    assert METHODS.keys() == SPECS.keys()


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_a_methods_parameters_are_mergekits(spec: MergeMethodSpec) -> None:
    ours = {name: (one.kind, one.per_model, one.is_required) for name, one in METHODS[spec.name].parameters.items()}
    theirs = {one.name: (one.value_type, one.scope != ParameterScope.SHARED, one.required) for one in spec.parameters}
    assert ours == theirs


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_a_methods_models_are_as_many_as_mergekit_takes(spec: MergeMethodSpec) -> None:
    """Two models, base and checkpoint, are there always, so that a smaller least number of mergekit's says nothing."""
    ours, contract = METHODS[spec.name], spec.contract
    assert ours.base == ROLES[contract.base]
    least, most = (
        (contract.min_non_base, contract.max_non_base) if ours.base == "either" else (contract.min_inputs, contract.max_inputs)
    )
    assert (ours.least, ours.most) == (max(2, least or 0), most)
