"""The learning-rate schedule against its closed form."""

import math
from itertools import pairwise

import pytest

from pretrain.schedule import learning_rate


def test_schedule_warms_up_peaks_and_ends_where_the_run_ends() -> None:
    rates = [learning_rate(s, peak=2.0, steps=50, warmup=10, minimum=0.5) for s in range(50)]
    assert rates[:10] == pytest.approx([0.2 * (i + 1) for i in range(10)])
    assert rates[10] == 2.0
    assert rates[-1] == pytest.approx(0.5)
    middle = 0.5 + 1.5 * 0.5 * (1 + math.cos(math.pi * 15 / 39))
    assert rates[25] == pytest.approx(middle)
    assert all(a > b for a, b in pairwise(rates[10:]))


def test_a_run_of_one_step_uses_the_peak() -> None:
    assert learning_rate(0, peak=1.0, steps=1, warmup=0, minimum=0.0) == 1.0
