"""The table of GPUs: known by the name torch gives them, and silent about the rest."""

import pytest

from definemed_pipeline.errors import UserError
from definemed_pipeline.training.gpus import GPUS, gpu_named, peak_flops_per_s


def test_a_gpu_is_known_by_the_name_torch_gives_it():
    assert peak_flops_per_s("NVIDIA H100 80GB HBM3") == 989e12
    assert peak_flops_per_s("NVIDIA H100 PCIe") == 756e12
    assert peak_flops_per_s("NVIDIA H200") == 989e12


@pytest.mark.parametrize(
    "name", ["NVIDIA H100 80GB HBM3 MIG 1g.10gb", "NVIDIA GeForce GTX 1080", "AMD Instinct MI300X", "cpu", ""]
)
def test_of_a_device_that_is_not_in_the_table_nothing_is_guessed(name):
    assert peak_flops_per_s(name) is None


def test_no_name_stands_twice():
    names = [gpu.name for gpu in GPUS] + [name for gpu in GPUS for name in gpu.torch_names]
    assert len(names) == len(set(names))


def test_an_unknown_short_name_is_told_with_the_names_there_are():
    assert gpu_named("H100").torch_names == ("NVIDIA H100 80GB HBM3",)
    with pytest.raises(UserError, match=r"no GPU 'tpu' in the table; allowed: a100, .*h100.*"):
        gpu_named("tpu")
