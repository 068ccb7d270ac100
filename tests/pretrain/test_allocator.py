"""Freed memory is kept: pages are not cleared again at every step."""

import os
import subprocess
import sys

CODE = """
import resource, sys
import numpy as np
from pretrain.ranks.allocator import keep_freed_memory
told = keep_freed_memory() if sys.argv[1] == "keep" else None
def step():
    blocks = [np.full(2**20, 1.0) for _ in range(4)]  # 8 MiB each
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(told, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(word: str, **variables: str) -> tuple[str, int]:
    done = subprocess.run(
        [sys.executable, "-c", CODE, word],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **variables},
    )
    told, count = done.stdout.split()
    return told, int(count)


def test_freed_blocks_are_used_again() -> None:
    told, kept = faults("keep")
    if told == "False":  # another C library, or chosen already
        return
    assert kept < 200
    # without it every step touches new pages, or the kernel hands out huge ones
    assert faults("leave")[1] > 2 * max(kept, 1)


def test_what_the_user_has_chosen_stays() -> None:
    assert faults("keep", MALLOC_TRIM_THRESHOLD_="131072")[0] == "False"
