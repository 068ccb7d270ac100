"""A location encoder: an encoding, its first linear layer, a head, and perhaps the season."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from fm.errors import FMError
from fm.hardware import full_precision
from fm.location.encoding import Encoding
from fm.location.heads import Head, Linear
from fm.location.season import check_month, month_features, month_of
from fm.location.streamed import EncodedLinear
from fm.models.metadata import check_known


@dataclass(frozen=True)
class LocationFeatures:
    """What an encoder makes of places.

    Attributes:
        embedding: `[N, dim]`.
        hidden: every hidden layer after its activation, `[N, width]` each, the first one first.
    """

    embedding: Tensor
    hidden: tuple[Tensor, ...]


class LocationEncoder(nn.Module):
    """Turns places, and with `season` the time of year, into embeddings.

    The first layer and its activation are computed in float32 (float64 after `.double()`) whatever
    the autocast, the embedding is returned in the same precision.

    Args:
        encoding: of places.
        head: what follows the first layer.
        width: of the first layer.
        season: add the month to the first layer's inputs.
        config: arguments of `fm.location.create` that make the same encoder again.
    """

    def __init__(
        self,
        encoding: Encoding,
        head: Head,
        width: int,
        *,
        season: bool = False,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.first = EncodedLinear(encoding, width)
        self.month = nn.Linear(2, width, bias=False) if season else None
        self.head = head
        self.config = dict(config or {})
        parts = [self.first.weight, self.first.bias]
        if self.month is not None:
            parts.append(self.month.weight)
        head.initialise(parts, encoding.dim + 2 * season)

    @property
    def encoding(self) -> Encoding:
        """The encoding of places."""
        return self.first.encoding

    @property
    def dim(self) -> int:
        """Width of the embedding."""
        return (
            len(self.first.weight) if isinstance(self.head, Linear) else self.head.last.out_features
        )

    def forward(
        self, lonlat: Tensor, *, month: Tensor | None = None, time: Tensor | None = None
    ) -> Tensor:
        """Embed places.

        Args:
            lonlat: `[N, 2]` longitude and latitude in degrees.
            month: `[N]` 1 to 12, fractions allowed, or one for all; an encoder with a season needs
                this or a time.
            time: `[N]` seconds since 1970 UTC, or one for all.

        Returns:
            `[N, dim]`.

        Raises:
            FMError: no places; or the month is missing, given twice, not used, or (looked at on
                the CPU only) none of 1 to 12.
        """
        return self.features(lonlat, month=month, time=time).embedding

    def features(
        self, lonlat: Tensor, *, month: Tensor | None = None, time: Tensor | None = None
    ) -> LocationFeatures:
        """Embed places and keep the hidden layers; see `forward`."""
        return self.from_first(self.first(lonlat), month=month, time=time)

    def from_first(
        self, before: Tensor, *, month: Tensor | None = None, time: Tensor | None = None
    ) -> LocationFeatures:
        """Go on from the first layer's output `[N, width]`, before its activation."""
        with full_precision(before.device):
            seasonal = self._seasonal(before, month, time)
        embedding, hidden = self.head(before if seasonal is None else before + seasonal)
        return LocationFeatures(embedding.to(before.dtype), tuple(hidden))

    def _seasonal(self, before: Tensor, month: Tensor | None, time: Tensor | None) -> Tensor | None:
        if self.month is None:
            if month is not None or time is not None:
                raise FMError("this location encoder has no season; leave month and time out")
            return None
        if (month is None) == (time is None):
            raise FMError("this location encoder has a season: give month= or time=, one of them")
        if month is None:
            assert time is not None
            if not isinstance(time, Tensor):
                raise FMError(f"times are a torch tensor [N], not {type(time).__name__}")
            check_known(None, time)
            month = month_of(time)
        else:
            check_month(month)
        if month.numel() == 1:
            month = month.reshape(1)
        elif month.shape != before.shape[:1]:
            raise FMError(f"{len(before)} places and months of the shape {list(month.shape)}")
        features = month_features(month.to(before.device)).to(before.dtype)
        return features @ self.month.weight.to(before.dtype).T


class Sum(nn.Module):
    """The sum of several encoders' embeddings, as GeoCLIP's branches.

    Args:
        branches: encoders of one `dim`.
    """

    def __init__(self, branches: list[LocationEncoder]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)
        self.dim = branches[0].dim
        self.config = {"branches": [dict(branch.config) for branch in branches]}

    def forward(self, lonlat: Tensor) -> Tensor:
        """Embed places `[N, 2]` in degrees as `[N, dim]`."""
        return torch.stack([branch(lonlat) for branch in self.branches]).sum(0)

    def features(self, lonlat: Tensor) -> LocationFeatures:
        """Embed places and keep the hidden layers, branch after branch."""
        found = [cast(LocationEncoder, b).features(lonlat) for b in self.branches]
        hidden = tuple(layer for one in found for layer in one.hidden)
        return LocationFeatures(torch.stack([one.embedding for one in found]).sum(0), hidden)
