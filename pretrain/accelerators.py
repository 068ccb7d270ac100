"""What vendors state of devices: where a plan starts, and what utilisation is measured against."""

from dataclasses import dataclass

from fm.errors import UsageError, suggest


@dataclass(frozen=True)
class Accelerator:
    """One kind of device.

    Attributes:
        flops: dense bfloat16 operations a second.
        memory: bytes.
        bandwidth: of that memory, bytes a second.
        link: to another device of the same node, bytes a second in one direction.
        called: what torch calls it, in all its packages.
    """

    flops: float
    memory: float
    bandwidth: float
    link: float
    called: tuple[str, ...]


ACCELERATORS = {
    "a100-40": Accelerator(312e12, 40e9, 1.555e12, 300e9, ("NVIDIA A100-SXM4-40GB",)),
    "a100-40-pcie": Accelerator(312e12, 40e9, 1.555e12, 32e9, ("NVIDIA A100-PCIE-40GB",)),
    "a100": Accelerator(312e12, 80e9, 2.039e12, 300e9, ("NVIDIA A100-SXM4-80GB",)),
    "a100-pcie": Accelerator(312e12, 80e9, 1.935e12, 32e9, ("NVIDIA A100 80GB PCIe",)),
    "l40s": Accelerator(362e12, 48e9, 0.864e12, 32e9, ("NVIDIA L40S",)),
    "h100": Accelerator(989e12, 80e9, 3.35e12, 450e9, ("NVIDIA H100 80GB HBM3",)),
    "h100-pcie": Accelerator(756e12, 80e9, 2e12, 64e9, ("NVIDIA H100 PCIe",)),
    "h200": Accelerator(989e12, 141e9, 4.8e12, 450e9, ("NVIDIA H200",)),
    "b200": Accelerator(2250e12, 180e9, 8e12, 900e9, ("NVIDIA B200",)),
    "mi300x": Accelerator(
        1307e12, 192e9, 5.3e12, 448e9, ("AMD Instinct MI300X", "AMD Instinct MI300X OAM")
    ),
}
"""By name, from the vendors' data sheets: SXM modules where the name says no other; no sparsity."""


def accelerator(name: str) -> Accelerator:
    """Return a device by name.

    Raises:
        UsageError: none of that name is known.
    """
    if name not in ACCELERATORS:
        raise UsageError(f"--device: there is no {name!r}; {suggest(name, ACCELERATORS)}")
    return ACCELERATORS[name]


def called(name: str) -> Accelerator | None:
    """Return the device that torch calls so; None where no kind has just that name."""
    return next((kind for kind in ACCELERATORS.values() if name in kind.called), None)
