"""What vendors state of accelerators: the figures a plan starts from where nothing was measured."""

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
    """

    flops: float
    memory: float
    bandwidth: float
    link: float


ACCELERATORS = {
    "a100-40": Accelerator(312e12, 40e9, 1.555e12, 300e9),
    "a100": Accelerator(312e12, 80e9, 2.039e12, 300e9),
    "l40s": Accelerator(362e12, 48e9, 0.864e12, 32e9),
    "h100": Accelerator(989e12, 80e9, 3.35e12, 450e9),
    "h200": Accelerator(989e12, 141e9, 4.8e12, 450e9),
    "b200": Accelerator(2250e12, 180e9, 8e12, 900e9),
    "mi300x": Accelerator(1307e12, 192e9, 5.3e12, 448e9),
}
"""By name, from the vendors' data sheets (SXM modules; without sparsity)."""


def accelerator(name: str) -> Accelerator:
    """Return a device by name.

    Raises:
        UsageError: none of that name is known.
    """
    if name not in ACCELERATORS:
        raise UsageError(f"--device: there is no {name!r}; {suggest(name, ACCELERATORS)}")
    return ACCELERATORS[name]
