"""What a device can do at best, which utilisation is measured against."""

import time
from typing import Literal

import torch

# names as torch gives them; dense bfloat16 products without sparsity, 1e12 operations a second,
# from the vendors' data sheets
_KNOWN = {
    "NVIDIA A100-SXM4-40GB": 312.0,
    "NVIDIA A100-SXM4-80GB": 312.0,
    "NVIDIA A100-PCIE-40GB": 312.0,
    "NVIDIA A100 80GB PCIe": 312.0,
    "NVIDIA L40S": 362.0,
    "NVIDIA H100 80GB HBM3": 989.0,
    "NVIDIA H100 PCIe": 756.0,
    "NVIDIA H200": 989.0,
}
SIDE = {"cuda": 8192, "cpu": 1024}
"""Rows of the square matrices that are timed."""
SECONDS = 0.3
"""That products are repeated for, at least three times."""


def peak_flops(
    device: torch.device, asked: float | Literal["measure"] | None, dtype: torch.dtype
) -> float | None:
    """Return the operations a second that one device can do; None where nobody says.

    Args:
        device: of this process.
        asked: `monitor.peak_tflops`.
        dtype: of the run's products, for `measure`.
    """
    if asked == "measure":
        return measured_flops(device, dtype)
    if asked is not None:
        return asked * 1e12
    if device.type != "cuda":
        return None
    known = _KNOWN.get(torch.cuda.get_device_name(device))
    return None if known is None else known * 1e12


def measured_flops(device: torch.device, dtype: torch.dtype, side: int | None = None) -> float:
    """Time products of two square matrices; return the operations a second of the fastest."""
    side = SIDE.get(device.type, 1024) if side is None else side
    a = torch.ones((side, side), device=device, dtype=dtype)
    b, out = torch.ones_like(a), torch.empty_like(a)
    torch.mm(a, b, out=out)  # threads and kernels are made once
    best, spent, count = float("inf"), 0.0, 0
    while spent < SECONDS or count < 3:
        _wait(device)
        before = time.perf_counter()
        torch.mm(a, b, out=out)
        _wait(device)
        seconds = time.perf_counter() - before
        best, spent, count = min(best, seconds), spent + seconds, count + 1
    return 2 * side**3 / best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
