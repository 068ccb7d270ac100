"""Devices, their memory and their arithmetic."""

import os
import platform
import sys
from collections.abc import Iterator

import torch

from fm.doctor.finding import Finding
from fm.hardware import native_bfloat16


def devices() -> Iterator[Finding]:
    """Say what there is to compute on."""
    yield Finding("python", f"{platform.python_version()} ({sys.executable})")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for number in range(count):
        about = torch.cuda.get_device_properties(number)
        free, total = torch.cuda.mem_get_info(number)
        busy = free < 0.9 * total
        yield Finding(
            f"cuda:{number}",
            f"{about.name}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free",
            "note" if busy else "ok",
            "another process holds memory there; see nvidia-smi" if busy else "",
        )
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not count and torch.version.cuda is not None:
        why = f"CUDA_VISIBLE_DEVICES={hidden!r}" if hidden is not None else "no driver or device"
        yield Finding(
            "cuda", f"torch is built for it, none is seen: {why}", "note", "try nvidia-smi"
        )
    threads = torch.get_num_threads()
    yield Finding("cpu", f"{os.cpu_count()} cores, {threads} threads of torch in this process")
    place = torch.device("cuda" if count else "cpu")
    if native_bfloat16(place):
        yield Finding("bfloat16", f"native on {place.type}")
    else:
        yield Finding(
            "bfloat16",
            f"emulated on {place.type}, many times slower",
            "note",
            "set engine.precision=fp32",
        )


def torchvision() -> Finding:
    """Say whose operators torchvision uses."""
    from fm import torchvision_guard

    if torchvision_guard.install():
        return Finding("torchvision", "its library does not load here; eofm declares the operators")
    return Finding("torchvision", "operators of its own")
