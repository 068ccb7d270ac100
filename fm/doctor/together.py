"""A short collective test: real ranks sum a tensor over and over."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from fm.doctor.finding import Finding

LIMIT = 120.0
"""Seconds after which ranks that have not answered hang; importing torch takes most of it."""
SECONDS = 10.0
"""That the sums are repeated for: long enough to see a device slow down."""


def bandwidth(
    backend: str, ranks: int, *, seconds: float = SECONDS, limit: float = LIMIT
) -> dict[str, Any]:
    """Sum 16 MiB over ranks on this machine.

    Args:
        backend: `gloo` or `nccl` (a device for each rank).
        ranks: processes.
        seconds: that it is repeated for.
        limit: after which the ranks are killed.

    Returns:
        `gigabytes_per_second` that a rank sends (2 (n-1)/n of the tensor each time), `rounds`; or
        `problem`, one line.
    """
    with tempfile.TemporaryDirectory() as folder:
        made = []
        for rank in range(ranks):
            words = [backend, str(rank), str(ranks), folder, str(seconds)]
            script = str(Path(__file__).with_name("rank.py"))
            made.append(
                subprocess.Popen(  # -P: what lies beside the script is not in the way of torch's
                    [sys.executable, "-P", script, *words],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        try:
            return _answer(made, limit)
        finally:
            for process in made:
                if process.poll() is None:
                    process.kill()
                process.communicate()


def _answer(made: list[subprocess.Popen[str]], limit: float) -> dict[str, Any]:
    until = time.monotonic() + limit
    said = []
    for rank, process in enumerate(made):
        try:
            out, problem = process.communicate(timeout=max(until - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            return {"problem": f"rank {rank} gave no answer in {limit:g} s"}
        if process.returncode:
            last = (problem.strip().splitlines() or [f"status {process.returncode}"])[-1]
            return {"problem": f"rank {rank}: {last}"}
        said.append(out)
    found: dict[str, Any] = json.loads(said[0].strip().splitlines()[-1])
    return found


def together(seconds: float = SECONDS) -> list[Finding]:
    """Test gloo with two ranks, and NCCL with all devices of this machine (at most eight).

    Args:
        seconds: that each is summed for.
    """
    found = [_test("gloo", 2, seconds)]
    if torch.cuda.is_available():
        found.append(_test("nccl", min(torch.cuda.device_count(), 8), seconds))
    return found


def _test(backend: str, ranks: int, seconds: float) -> Finding:
    answer = bandwidth(backend, ranks, seconds=seconds)
    what = f"{backend} test"
    if "problem" in answer:
        return Finding(
            what,
            answer["problem"],
            "stop",
            "see the interfaces above; NCCL_DEBUG=INFO or TORCH_DISTRIBUTED_DEBUG=DETAIL say more",
        )
    speed = answer["gigabytes_per_second"]
    told = "nothing to send" if ranks == 1 else f"{speed:.2f} GB/s sent by each"
    some = "1 rank" if ranks == 1 else f"{ranks} ranks"
    return Finding(what, f"{some} on this machine sum 16 MiB for {seconds:g} s: {told}")
