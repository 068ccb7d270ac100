"""What images near in meaning, and in space, know about a place (RANGE)."""

import math

import torch
from torch import Tensor, nn

from fm.errors import FMError
from fm.hardware import full_precision
from fm.location.encoding import check, unit_vector

_WEIGHTS = 1 << 24
"""Shares held at a time: places by images of the database."""


class Retrieval(nn.Module):
    """Joins a location embedding with image features retrieved for it, without training.

    RANGE (Dhakal et al. 2025, arXiv 2502.19781): with the query q, keys k and values v of a
    database of places, `softmax(temperature * cos(q, k)) v`; in RANGE+ mixed with
    `softmax(sharpness * cos(angle between the places)) v`. Cosines and values are float32 whatever
    the autocast: in bfloat16 a cosine is known to 0.004, which the temperature multiplies.

    Args:
        encoder: makes the queries from places.
        keys: `[M, dim]` embeddings of the database's images in the encoder's space.
        values: `[M, V]` what is retrieved, such as another image model's features.
        lonlat: `[M, 2]` places of the database in degrees; needed where `share` is below 1.
        temperature: 15 in RANGE, 12 in RANGE+.
        sharpness: of the softmax over distances.
        share: of the retrieval by meaning; 0.5 in RANGE+.

    Raises:
        FMError: sizes that do not fit, places missing, or a latitude beyond the poles.
    """

    def __init__(
        self,
        encoder: nn.Module,
        keys: Tensor,
        values: Tensor,
        lonlat: Tensor | None = None,
        *,
        temperature: float = 15.0,
        sharpness: float = 40.0,
        share: float = 1.0,
    ) -> None:
        super().__init__()
        if keys.ndim != 2 or values.ndim != 2 or len(keys) != len(values) or not len(keys):
            raise FMError(
                f"keys {list(keys.shape)} and values {list(values.shape)} are not [M, D] each"
            )
        if not (0 < temperature < math.inf and 0 < sharpness < math.inf):
            raise FMError(f"temperature={temperature}, sharpness={sharpness}: give numbers above 0")
        if not 0 <= share <= 1 or (share < 1 and (lonlat is None or len(lonlat) != len(keys))):
            raise FMError(f"share={share}: from 0 to 1, and below 1 give lonlat= of the database")
        if lonlat is not None:
            check(lonlat)
        self.encoder = encoder
        self.temperature, self.sharpness, self.share = temperature, sharpness, share
        self.keys = nn.Buffer(nn.functional.normalize(keys.float(), dim=1))
        self.values = nn.Buffer(values.float())
        places = torch.empty(0, 3) if lonlat is None else unit_vector(lonlat.double()).float()
        self.places = nn.Buffer(places)

    def forward(self, lonlat: Tensor) -> Tensor:
        """Embed places `[N, 2]` in degrees as `[N, dim + V]`: the embedding, then the values."""
        query = self.encoder(lonlat).float()
        if query.shape[1] != self.keys.shape[1]:
            raise FMError(f"keys of width {self.keys.shape[1]} for queries of {query.shape[1]}")
        step = max(1, _WEIGHTS // len(self.keys))
        parts = zip(query.split(step), lonlat.split(step), strict=True)
        with full_precision(query.device):
            found = [self._weights(some, places) @ self.values for some, places in parts]
        return torch.cat([query, torch.cat(found) if found else self.values[:0]], dim=1)

    def _weights(self, query: Tensor, lonlat: Tensor) -> Tensor:
        """Share of each image of the database in what is retrieved, `[n, M]`."""
        weights = torch.zeros(len(query), len(self.keys), device=query.device)
        if self.share > 0:
            alike = nn.functional.normalize(query, dim=1) @ self.keys.T
            weights = self.share * torch.softmax(self.temperature * alike, dim=1)
        if self.share < 1:
            near = unit_vector(lonlat.to(query.device, torch.float64)).float() @ self.places.T
            weights = weights + (1 - self.share) * torch.softmax(self.sharpness * near, dim=1)
        return weights
