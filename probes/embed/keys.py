"""Images in the space of the places that they were contrasted with: keys of retrieval."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from torch import Tensor, nn

import fm.location
from fm.location.checkpoint import describe
from fm.models import Features


class ImagesBesidePlaces(nn.Module):
    """The image encoder and the head of a `RUN/location`, as a model with `encode`.

    Attributes:
        card: with the name of the run.
        bands: of the image encoder, as are `scaling` and `normalisation`.
        about: what a file of keys says of the space.

    Args:
        folder: of the location encoder, with the head (`fm.location.pair`).

    Raises:
        FMError: see `fm.location.pair`.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self.pair = fm.location.pair(folder)
        told, images = describe(folder), self.pair.image_encoder
        self.card = SimpleNamespace(name=str(told.get("name") or Path(folder).resolve().name))
        self.bands, self.scaling = images.bands, images.scaling
        self.normalisation = images.normalisation
        self.about = {"places_sha256": told["weights_sha256"]}

    def encode(self, pixels: Mapping[str, Tensor], **options: Any) -> Features:
        """Embed images; `pooled` `[B, dim]` has length 1. Options are those of `Pair.images`."""
        keys = self.pair.images(pixels, **options)
        return Features(tokens=keys[:, None], pooled=keys, grid={})
