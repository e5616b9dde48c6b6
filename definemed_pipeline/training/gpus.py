"""GPUs by the name torch gives them: the peak a utilisation is measured against, and how much memory there is. Standard library only.

Peaks are dense bf16 with float32 accumulation, from NVIDIA's datasheets. Those of Hopper, Blackwell and Ada print the figure with 2:4 sparsity,
which is twice that; no training here is sparse. A name that is not in the table, a slice of a GPU (MIG) among them, has no peak: then no
utilisation is reported rather than a guessed one.
"""

from dataclasses import dataclass

from definemed_pipeline.errors import UserError

TERA = 1e12


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A kind of GPU: its peak, and the names by which `torch.cuda.get_device_name` knows it.

    `memory_gib` is what torch finds on it, rounded down: less than it is sold with.
    """

    name: str
    bf16_flops_per_s: float
    memory_gib: float
    torch_names: tuple[str, ...]


GPUS = tuple(
    Gpu(name=name, bf16_flops_per_s=teraflops * TERA, memory_gib=memory_gib, torch_names=torch_names)
    for name, teraflops, memory_gib, torch_names in (
        ("a100", 312, 79, ("NVIDIA A100-SXM4-80GB", "NVIDIA A100 80GB PCIe")),
        ("a100-40gb", 312, 39, ("NVIDIA A100-SXM4-40GB", "NVIDIA A100-PCIE-40GB")),
        ("h100", 989, 79, ("NVIDIA H100 80GB HBM3",)),  # 1,979 with sparsity
        ("h100-pcie", 756, 79, ("NVIDIA H100 PCIe",)),  # 1,513
        ("h100-nvl", 835, 93, ("NVIDIA H100 NVL",)),  # 1,671
        ("h200", 989, 139, ("NVIDIA H200",)),  # 1,979
        ("h200-nvl", 835, 139, ("NVIDIA H200 NVL",)),  # 1,671
        ("gh200", 989, 94, ("NVIDIA GH200 480GB", "NVIDIA GH200 120GB")),  # 1,979
        ("b200", 2250, 178, ("NVIDIA B200",)),  # HGX B200: 36 petaFLOP/s of eight, with sparsity
        ("gb200", 2500, 184, ("NVIDIA GB200",)),  # GB200 NVL72: 360 petaFLOP/s of 72, with sparsity
        ("a30", 165, 23, ("NVIDIA A30",)),
        ("a40", 149.7, 44, ("NVIDIA A40",)),
        ("a6000", 154.8, 47, ("NVIDIA RTX A6000",)),  # 309.7 with sparsity
        ("l4", 121, 22, ("NVIDIA L4",)),  # 242
        ("l40", 181.05, 44, ("NVIDIA L40",)),  # 362.1
        ("l40s", 362.05, 44, ("NVIDIA L40S",)),  # 733
    )
)


def peak_flops_per_s(device_name: str) -> float | None:
    """Return the dense bf16 peak of a device, FLOP/s, by the name torch gives it; None where it is not known."""
    return next((gpu.bf16_flops_per_s for gpu in GPUS if device_name in gpu.torch_names), None)


def gpu_named(name: str) -> Gpu:
    """Return a GPU by its short name such as "h100"; raise UserError naming those there are."""
    for gpu in GPUS:
        if gpu.name == name.lower():
            return gpu
    raise UserError(f"there is no GPU {name!r} in the table; allowed: {', '.join(gpu.name for gpu in GPUS)}")
