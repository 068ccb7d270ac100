"""Token maps of series: the mean over dates of the maps of each image."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fm.errors import FMError
from probes.benchmarks.base import Inputs
from probes.dense.learner import DenseLearner
from probes.dense.stored_maps import StoredMaps, extract_maps, pixel_maps
from probes.dense.token_maps import TokenMaps, token_maps

IMAGES = 32
"""Images encoded at once."""


class SeriesLearner(DenseLearner):
    """A head on the mean maps of series; floors on pixels see the mean of the pixels."""

    def extract(self, cache: Path | None) -> list[StoredMaps]:
        """The mean maps of all samples, made once."""
        found = extract_maps(
            self.model,
            self.data,
            benchmark=self.benchmark,
            pyramid=self.pyramid,
            cache=cache,
            batch_size=1,
            make=self._mean,
            what=f"mean over dates, {self.settings.input}",
        )
        if self.data.dates is not None:
            self.notes.append(self.data.dates.span)
        return [found]

    def _mean(self, index: NDArray[np.int64]) -> TokenMaps:
        dates = self.data.dates
        if dates is None or len(index) != 1:
            raise FMError(f"{self.benchmark}: maps of series are made of one series at a time")
        numbers = np.arange(*dates.starts[index[0] : index[0] + 2])
        parts = [
            self._maps(dates.images(numbers[i : i + IMAGES]))
            for i in range(0, len(numbers), IMAGES)
        ]
        together = zip(*(part.levels for part in parts), strict=True)
        return TokenMaps([mean_map(torch.cat(level)) for level in together], parts[0].cells)

    def _maps(self, inputs: Inputs) -> TokenMaps:
        data = self.data
        if self.settings.input == "raw-pixel":
            height, width = self.maps(np.arange(1)).shape[1:]
            return pixel_maps(inputs, data, (height, width))
        return token_maps(
            self.model, inputs, data.bands, data.scaling, pyramid=self.pyramid, finite=True
        )


def mean_map(maps: Tensor) -> Tensor:
    """Mean over the dates of each cell: [1, C, h, w] of [T, C, h, w].

    A cell without data on a date (NaN) counts for the others; NaN where it has none at all.
    """
    known = ~maps.isnan()
    count = known.sum(0, keepdim=True)
    total = torch.where(known, maps, 0.0).sum(0, keepdim=True)
    return torch.where(count > 0, total / count.clamp(min=1), torch.nan)
