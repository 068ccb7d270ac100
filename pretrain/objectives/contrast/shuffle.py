"""Shuffle-BN: samples change ranks before the key encoder (He et al., arXiv 1911.05722, 3.3).

Where each rank normalises its own rows, a query and its key would share the statistics of the same
samples and could find each other by them. So the keys are encoded among other samples, and come
back to their own ranks before they are compared.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fm.errors import UsageError
from fm.models import Backbone, Inputs
from fm.rng import CounterRng
from pretrain.objective import ObjectiveBatch
from pretrain.objectives.contrast.batch_norm import of_each_rank
from pretrain.objectives.contrast.rows import encoded, taken
from pretrain.ranks import collective

SETTING = "objective.legacy_shuffle_bn"


def norms_of_ranks(backbone: Backbone) -> str:
    """Have each rank normalise its own rows; return what `Objective.between_ranks` is then.

    Raises:
        UsageError: no batch norm would notice.
    """
    if not of_each_rank(backbone):
        raise UsageError(
            f"{SETTING} shuffles for batch norms, and {backbone.architecture.get('name')} has "
            f"none; leave it out"
        )
    return SETTING


@dataclass(frozen=True)
class Shuffle:
    """Which rank encodes which samples: a function of the run's seed and the step.

    Attributes:
        order: `[n]` of the whole batch, the sample at each place; a rank encodes its own places.
    """

    order: Tensor

    @classmethod
    def drawn(cls, rng: CounterRng, step: int, view: str, count: int) -> "Shuffle":
        """Draw the order of a step, the same on all ranks.

        Args:
            rng: of any samples of the run.
            step: optimiser steps before this one.
            view: that is encoded.
            count: samples of each rank.
        """
        zero = torch.zeros_like(rng.positions[:1])
        every = CounterRng(rng.seed, zero, zero + step)
        return cls(every.permutation(f"shuffle:{view}", count * collective.world_size())[0])

    @property
    def mine(self) -> Tensor:
        """The samples that this rank encodes, numbers in the whole batch."""
        count = len(self.order) // collective.world_size()
        return self.order[collective.rank() * count :][:count]

    def given(self, inputs: Inputs) -> Inputs:
        """Return what this rank encodes, of the inputs that the ranks hold."""
        every = replace(
            inputs,
            pixels={name: collective.gather_rows(x) for name, x in inputs.pixels.items()},
            valid=inputs.valid and {m: _masks(x) for m, x in inputs.valid.items()},
            lonlat=None if inputs.lonlat is None else collective.gather_rows(inputs.lonlat),
            time=None if inputs.time is None else collective.gather_rows(inputs.time),
        )
        return taken(every, self.mine)

    def weight(self, weight: Tensor) -> Tensor:
        """Return the weights of what this rank encodes, of those `[B]` that the ranks hold."""
        return collective.gather_rows(weight)[self.mine]

    def undone(self, rows: Tensor) -> Tensor:
        """Bring what the ranks made of their shares `[B, D]` back to the samples' own ranks."""
        every = collective.gather_rows(rows)[self.order.argsort()]
        count = len(rows)
        return every[collective.rank() * count :][:count]


def keys_of(
    inputs: Inputs,
    batch: ObjectiveBatch,
    rng: CounterRng,
    view: str,
    encode: Callable[[Inputs], Tensor],
    *,
    shuffled: bool,
) -> Tensor:
    """Encode a view of each sample by a teacher.

    Args:
        inputs: the view of this rank's samples.
        batch: of these.
        rng: of the same samples.
        view: its name, which the shuffle is drawn under.
        encode: makes a row of each sample that it is given.
        shuffled: the samples change ranks before, and their rows come back.

    Returns:
        `[B, D]` float32 at least, zeros where a sample could not be read.
    """
    if not shuffled:
        return encoded(inputs, batch.weight, encode)
    shuffle = Shuffle.drawn(rng, batch.step, view, len(batch.weight))
    made = encoded(shuffle.given(inputs), shuffle.weight(batch.weight), encode)
    return shuffle.undone(made)


def _masks(x: Tensor) -> Tensor:
    return collective.gather_rows(x.to(torch.uint8)).bool()
