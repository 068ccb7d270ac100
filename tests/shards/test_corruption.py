"""Thousands of random corruptions, in a process of their own (see `tests.shards.corruption`)."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shards.codecs.codec import CorruptError, encode, npy_header

ROOT = Path(__file__).resolve().parents[2]
MEGABYTES = 64
"""The datasets are of a few hundred kilobytes; nothing may need more than this on top."""


def corrupt(folder: Path, cases: int, seed: int, which: str, timeout: float) -> dict[str, Any]:
    words = [sys.executable, "-m", "tests.shards.corruption", str(folder)]
    # Arrow's own allocator reserves address space by the gigabyte
    env = os.environ | {"ARROW_DEFAULT_MEMORY_POOL": "system", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*words, str(cases), str(seed), which],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )
    assert done.returncode == 0, f"it crashed or hung:\n{done.stderr[-3000:]}"
    found = json.loads(done.stdout)
    assert found["failures"] == []
    assert found["cases"] == cases == sum(found["outcomes"].values())
    assert found["grown_mb"] < MEGABYTES
    assert found["arrow_mb"] < MEGABYTES
    return found


def test_damage_is_detected_or_harmless(tmp_path: Path) -> None:
    found = corrupt(tmp_path, 400, 1, "damage", 100)["outcomes"]
    for kind in ("tar", "description", "index_file", "columns_file", "json_member"):
        assert found[f"{kind} detected"] > 10
    assert found["tar harmless"] > 10  # headers and padding, which reading does not touch


def test_hostile_bytes_cost_an_error_and_nothing_else(tmp_path: Path) -> None:
    found = corrupt(tmp_path, 200, 1, "hostile", 100)["outcomes"]
    assert found["payload detected"] > 10
    assert found["hostile_description detected"] > 5


@pytest.mark.slow
def test_ten_thousand_corruptions(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        halves = [
            pool.submit(corrupt, tmp_path / str(seed), 5000, seed, "all", 250) for seed in (2, 3)
        ]
        for half in halves:
            assert half.result()["slowest"] < 5.0


def test_a_damaged_npy_header_is_an_error_of_ours() -> None:
    good = encode(np.zeros((2, 3), np.uint16), "npy")
    with pytest.raises(CorruptError):
        npy_header(good.replace(b")", b" "))
