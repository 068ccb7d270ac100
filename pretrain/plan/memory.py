"""Bytes that a rank holds, part by part, by ZeRO stage (Rajbhandari et al., arXiv 1910.02054).

With T trained parameters, n ranks, w bytes a weight and g a gradient (4 and 4, or 2 and 2 in pure
bfloat16):

    stage        0        1          2          3
    weights      wT       wT         wT         wT/n
    gradients    gT       gT + 4T/n  gT/n+4T/n  gT/n
    master       0 or 4T  4T/n       4T/n       4T/n
    moments      mT       mT/n       mT/n       mT/n
    buckets      gB       gB         gB         gB + wL

DeepSpeed's stages 1 to 3 keep a float32 copy of what they update, whatever the weights are, and
copy their share of the gradients into one tensor before the update; stage 0 needs the copy for
bfloat16 weights alone. B is `reduce_bucket_size`: what stage 0 sends at once (never more than T,
nothing on one rank); in the others a tensor that is allocated whole, however small the model, and
twice with `overlap_comm`. L is what stage 3 gathers ahead (`stage3_max_live_parameters`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BUCKET = 5e8
"""DeepSpeed's `reduce_bucket_size` in elements, also of stage 0."""
LIVE = 1e9
"""DeepSpeed's `stage3_max_live_parameters` in elements."""


@dataclass(frozen=True)
class Sizes:
    """What memory and traffic follow from.

    Attributes:
        trained: parameters that are trained.
        frozen: bytes of everything else the model holds (teachers, buffers).
        unkept: those of them that no checkpoint holds (a teacher that is read again), which every
            rank has whole.
        weight: bytes of a trained weight on the device.
        gradient: bytes of a gradient.
        moments: bytes of optimiser state a parameter.
    """

    trained: int
    frozen: int
    weight: int = 4
    gradient: int = 4
    moments: int = 8
    unkept: int = 0


@dataclass(frozen=True)
class Memory:
    """Bytes on one rank; `host` of them in the machine's memory, the others on the device."""

    weights: float
    gradients: float
    master: float
    moments: float
    buckets: float
    activations: float
    host: float = 0.0

    @property
    def device(self) -> float:
        """All that must fit on the device; the working space of the largest step comes on top."""
        parts = self.weights + self.gradients + self.master + self.moments
        return parts + self.buckets + self.activations - self.host


def memory(
    sizes: Sizes, stage: int, ranks: int, kept: float, zero: Mapping[str, Any] | None = None
) -> Memory:
    """Add up what a rank holds at the height of a step.

    Args:
        sizes: of the model.
        stage: of ZeRO.
        ranks: that share.
        kept: bytes of the forward pass (`activations`).
        zero: `zero_optimization` of the DeepSpeed settings.
    """
    zero, t = zero or {}, float(sizes.trained)
    share = t / ranks
    whole = t if stage < 3 else share
    bucket = float(zero.get("reduce_bucket_size", BUCKET))
    if stage == 0:
        buckets = sizes.gradient * min(bucket, t) if ranks > 1 else 0.0
    else:
        overlap = zero.get("overlap_comm", stage == 3)
        buckets = sizes.gradient * bucket * (2 if overlap else 1)
    if stage == 3:
        buckets += sizes.weight * min(float(zero.get("stage3_max_live_parameters", LIVE)), t)
    gradients = sizes.gradient * (t if stage < 2 else share)
    master = 4 * (t if stage == 0 else share) if stage or sizes.weight < 4 else 0.0
    moments = sizes.moments * (t if stage == 0 else share)
    away = (zero.get("offload_optimizer") or {}).get("device", "none") == "cpu"
    return Memory(
        weights=sizes.weight * whole
        + (sizes.frozen - sizes.unkept) / (ranks if stage == 3 else 1)
        + sizes.unkept,
        gradients=gradients + (4 * share if stage in (1, 2) else 0.0),
        master=master,
        moments=moments,
        buckets=buckets,
        activations=kept,
        host=master + moments if away else 0.0,
    )


def checkpoint_bytes(sizes: Sizes, stage: int) -> float:
    """Return the bytes of one checkpoint, all ranks' files together.

    Weights, what the optimiser keeps, and from stage 1 on (or with bfloat16 weights) the float32
    copy; stage 3 writes weights as that copy alone.
    """
    master = 4 if stage or sizes.weight < 4 else 0
    weight = 0 if stage == 3 else sizes.weight
    return float(sizes.trained) * (weight + master + sizes.moments) + sizes.frozen - sizes.unkept
