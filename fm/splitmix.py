"""SplitMix64 on numpy arrays: random numbers that are a hash of counters.

Steele, Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA 2014, figure 17,
Stafford's variant 13. `fm.rng` has the same mixing function on torch tensors.
"""

import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""By how much its state grows from one number to the next."""


def splitmix64(states: np.ndarray) -> np.ndarray:
    """Return what the generator puts out from each of its states, uint64; one to one."""
    with np.errstate(over="ignore"):
        z = states.astype(np.uint64) + GOLDEN
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))
