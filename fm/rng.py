"""Counter-based randomness: a random number is a function of where it is used, not of history.

Every draw is an integer hash of (seed, purpose, epoch, position, counter), computed with int64
tensor arithmetic only, so CPU and CUDA give the same bits, a sample gets the same mask whatever
rank or micro-batch it lands in, and a resumed run needs no generator state.

The mixing function is the finaliser of SplitMix64 (Steele, Lea, Flood: "Fast splittable
pseudorandom number generators", OOPSLA 2014, figure 17, Stafford's variant 13).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_ALL = (1 << 64) - 1


def _signed(value: int) -> int:
    value &= _ALL
    return value - (1 << 64) if value >> 63 else value


_MULTIPLY_1 = _signed(0xBF58476D1CE4E5B9)
_MULTIPLY_2 = _signed(0x94D049BB133111EB)
_GOLDEN = _signed(0x9E3779B97F4A7C15)


def _shift_right(x: Tensor, bits: int) -> Tensor:
    return (x >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def mix(x: Tensor) -> Tensor:
    """Mix int64 bits: a bijection whose output bits look independent of each other.

    Args:
        x: int64 tensor of any shape, read as 64 unsigned bits.
    """
    x = _shift_right(x, 30).bitwise_xor_(x).mul_(_MULTIPLY_1)
    x = _shift_right(x, 27).bitwise_xor_(x).mul_(_MULTIPLY_2)
    return _shift_right(x, 31).bitwise_xor_(x)


def mix_one(x: int) -> int:
    """Mix 64 bits as `mix` does; unsigned."""
    x &= _ALL
    x = (x ^ (x >> 30)) * _MULTIPLY_1 & _ALL
    x = (x ^ (x >> 27)) * _MULTIPLY_2 & _ALL
    return x ^ (x >> 31)


def purpose_bits(purpose: str) -> int:
    """Return the 64 bits that stand for a purpose such as `"mask:s2l1c"`."""
    digest = hashlib.blake2b(purpose.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


@dataclass(frozen=True)
class CounterRng:
    """Random numbers for the samples of one batch.

    Attributes:
        seed: the run's seed.
        epochs: `[B]` int64, the epoch each sample is seen in.
        positions: `[B]` int64, each sample's position in the global stream.
    """

    seed: int
    epochs: Tensor
    positions: Tensor

    def bits(self, purpose: str, count: int) -> Tensor:
        """Draw `[B, count]` int64 with all 64 bits random."""
        return self._bits([purpose], count)[0]

    def _bits(self, purposes: Sequence[str], count: int) -> Tensor:
        """Draw `[P, B, count]`: those of several purposes cost as many operations as of one."""
        first = mix_one(self.seed * _GOLDEN + 1)
        begun = (mix_one(first ^ (purpose_bits(p) * _GOLDEN & _ALL)) for p in purposes)
        epochs = self.epochs * _GOLDEN
        # a word is mixed in by mix(mix(state) ^ word); what no sample changes is mixed once
        state = torch.stack([epochs ^ _signed(mix_one(one)) for one in begun])
        state = mix(mix(mix(state)) ^ (self.positions * _GOLDEN))
        counter = torch.arange(1, count + 1, dtype=torch.int64, device=state.device) * _GOLDEN
        return mix(state[:, :, None] + counter)

    def uniform(self, purpose: str, count: int) -> Tensor:
        """Draw `[B, count]` float32 from [0, 1), a multiple of 2^-24."""
        return self.uniform_of_each([purpose], count)[0]

    def uniform_of_each(self, purposes: Sequence[str], count: int) -> Tensor:
        """Draw `[P, B, count]`: for each purpose what `uniform` draws."""
        return _shift_right(self._bits(purposes, count), 40).to(torch.float32) * 2.0**-24

    def integers(self, purpose: str, count: int, below: int) -> Tensor:
        """Draw `[B, count]` int64 from 0 to `below` - 1 (bias below `below` / 2^63)."""
        return _shift_right(self.bits(purpose, count), 1) % below

    def permutation(self, purpose: str, length: int) -> Tensor:
        """Draw `[B, length]` int64, each row a permutation of 0 to `length` - 1."""
        return self.bits(purpose, length).argsort(dim=1, stable=True)

    def select(self, rows: slice) -> "CounterRng":
        """Return the generator of some of the samples, such as one micro-batch."""
        return CounterRng(self.seed, self.epochs[rows], self.positions[rows])
