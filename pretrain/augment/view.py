"""A view of a batch: what an objective may give to its backbone in place of the batch."""

from dataclasses import dataclass

from torch import Tensor

from fm.rng import CounterRng
from pretrain.schedule import Clock


@dataclass
class View:
    """One view of each sample, an `ObjectiveBatch` of single images.

    Attributes:
        pixels: modality to `[B, C, h, w]` float32 in physical units (reflectance as a fraction,
            dB); 0 where there is no data.
        weight: `[B]`, the samples'.
        scaling: as the batch's; not used of physical pixels.
        rng: of the same samples.
        image: `[B]` int64, the image of a series that each view is of; 0 of single images.
        valid: modality to bool of the pixels' shape, None if all is valid.
        lonlat: `[B, 2]`, the samples'.
        time: `[B]`, of the image.
        times: None.
        labels: of the image, `[B, classes]`.
        step: as the batch's.
        clock: as the batch's.
    """

    pixels: dict[str, Tensor]
    weight: Tensor
    scaling: dict[str, tuple[float, float]]
    rng: CounterRng
    image: Tensor
    valid: dict[str, Tensor] | None
    lonlat: Tensor | None
    time: Tensor | None
    times: Tensor | None
    labels: dict[str, Tensor]
    step: int
    clock: Clock
