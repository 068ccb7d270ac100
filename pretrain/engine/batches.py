"""What a forward pass takes: samples on the device, with their randomness."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from fm.rng import CounterRng
from pretrain.schedule import Clock


@dataclass
class MicroBatch:
    """What one forward pass takes, on the device (`ObjectiveBatch` plus its randomness)."""

    pixels: dict[str, Tensor]
    weight: Tensor
    scaling: dict[str, tuple[float, float]]
    rng: CounterRng
    valid: dict[str, Tensor] | None = None
    lonlat: Tensor | None = None
    time: Tensor | None = None
    times: Tensor | None = None
    step: int = 0
    clock: Clock = field(default_factory=Clock)
    labels: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        batch: Any,
        rng: CounterRng,
        step: int = 0,
        clock: Clock | None = None,
        labels: dict[str, Tensor] | None = None,
    ) -> "MicroBatch":
        """Take what an objective needs from a loader's batch, and its labels as vectors."""
        told = [m for m, x in batch.pixels.items() if x.is_floating_point() or batch.nodata.get(m)]
        return cls(
            pixels=batch.pixels,
            weight=batch.weight,
            scaling=batch.scaling,
            rng=rng,
            valid={modality: batch.valid(modality) for modality in told} or None,
            lonlat=batch.lonlat,
            time=batch.time,
            times=batch.times,
            step=step,
            clock=clock or Clock(),
            labels=labels or {},
        )

    def select(self, rows: slice) -> "MicroBatch":
        """Return some of the samples."""
        return MicroBatch(
            pixels={name: x[rows] for name, x in self.pixels.items()},
            weight=self.weight[rows],
            scaling=self.scaling,
            rng=self.rng.select(rows),
            valid=None if self.valid is None else {m: x[rows] for m, x in self.valid.items()},
            lonlat=None if self.lonlat is None else self.lonlat[rows],
            time=None if self.time is None else self.time[rows],
            times=None if self.times is None else self.times[rows],
            step=self.step,
            clock=self.clock,
            labels={name: x[rows] for name, x in self.labels.items()},
        )

    def split(self, size: int) -> "list[MicroBatch]":
        """Cut into parts of at most `size` samples."""
        starts = range(0, len(self.weight), size)
        return [self.select(slice(start, start + size)) for start in starts]
