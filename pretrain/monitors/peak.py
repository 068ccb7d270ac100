"""What a device can do at best, which utilisation is measured against."""

import time
from typing import Literal

import torch

from pretrain.accelerators import called

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
    return stated_flops(device)


def stated_flops(device: torch.device) -> float | None:
    """Return the vendor's dense bfloat16 figure of a device; None where it is not known."""
    if device.type != "cuda":
        return None
    kind = called(torch.cuda.get_device_name(device))
    return None if kind is None else kind.flops


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
