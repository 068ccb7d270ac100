import numpy as np

from fm.splitmix import splitmix64


def test_splitmix64_is_the_published_generator() -> None:
    # The first outputs for seed 1234567 of the reference implementation (Vigna, splitmix64.c);
    # its state moves on by the golden constant before each output.
    golden, expected = 0x9E3779B97F4A7C15, [6457827717110365317, 3203168211198807973]
    states = np.array([1234567, (1234567 + golden) % 2**64], np.uint64)
    assert splitmix64(states).tolist() == expected
