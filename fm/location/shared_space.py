"""Images and places in one space: what a contrast of the two leaves behind, read from its files."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from fm.checkpoint import WEIGHTS, load_strict, read_card
from fm.checkpoint import load as load_backbone
from fm.errors import FMError, UsageError
from fm.location import checkpoint
from fm.models import Backbone
from fm.models.embed.patches import to_physical
from fm.resample import as_a_whole


class ImageHead(nn.Linear):
    """The linear layer from an image encoder's features to the space of the places.

    Args:
        features: width of the image encoder.
        dim: of the space.
        size: pixels of the finest grid that the image encoder was shown; None for whole samples.
        resize: they were resampled to it, not cut.
        largest_scale: limit of the factor of the cosines; None for none.
    """

    def __init__(
        self,
        features: int,
        dim: int,
        *,
        size: int | None,
        resize: bool,
        largest_scale: float | None,
    ) -> None:
        super().__init__(features, dim)
        self.size, self.resize, self.largest_scale = size, resize, largest_scale
        self.log_scale = nn.Parameter(torch.zeros(1))

    @property
    def scale(self) -> float:
        """What the cosines are multiplied by, as it was learned."""
        found = float(self.log_scale.detach().double().exp())
        return found if self.largest_scale is None else min(found, self.largest_scale)


class Embedded(NamedTuple):
    """A dataset's images, of those samples that could be read and have a place.

    Attributes:
        keys: `[M, dim]` in the space of the places, of length 1.
        features: `[M, D]` of the image encoder, before the head.
        lonlat: `[M, 2]` float64 degrees.
    """

    keys: Tensor
    features: Tensor
    lonlat: Tensor


class Pair(nn.Module):
    """An image encoder with its head, and a location encoder, of one contrast.

    Args:
        image_encoder: of images.
        head: behind it.
        places: the location encoder.
    """

    def __init__(self, image_encoder: Backbone, head: ImageHead, places: nn.Module) -> None:
        super().__init__()
        self.image_encoder, self.head, self.places = image_encoder, head, places

    def images(self, pixels: Mapping[str, Tensor], **options: Any) -> Tensor:
        """Embed images in the space of the places: `[B, dim]`, of length 1.

        Args:
            pixels: modality to `[B, C, H, W]`, stored integers or physical numbers; shown as the
                encoder was trained to see them, from the centre and without chance.
            options: `valid` (modality to bool of the pixels' shape), `scaling`, `bands`,
                `normalisation` and the others of `Backbone.encode`.

        Raises:
            UsageError: series, or sizes, modalities or bands that do not fit.
        """
        return self._keys(self._features(pixels, **options))

    @torch.no_grad()
    def embed(self, batches: Iterable[Any]) -> Embedded:
        """Embed a dataset, of which a loader makes one pass (`shuffle=False, pad=True`).

        Series are shown by their first image.

        Args:
            batches: of `shards.Dataset.loader`.

        Raises:
            FMError: the loader goes on without end, or no sample has a place.
        """
        device = self.head.weight.device
        found: list[Embedded] = []
        first = None
        for batch in batches:
            first = int(batch.epochs[0]) if first is None else first
            if bool((batch.epochs != first).any()):
                raise FMError("the loader begins again without end; make one pass with pad=True")
            there = (batch.weight > 0) & torch.isfinite(batch.lonlat).all(dim=1)
            if not bool(there.any()):
                continue
            pixels, valid = {}, {}
            for modality, x in batch.pixels.items():
                several = x.ndim == 5
                pixels[modality] = (x[:, 0] if several else x).to(device)
                if x.is_floating_point() or batch.nodata.get(modality):
                    mask = batch.valid(modality)
                    valid[modality] = (mask[:, 0] if several else mask).to(device)
            features = self._features(pixels, valid=valid or None, scaling=batch.scaling)
            rows = there.to(device)
            kept = features[rows]
            found.append(Embedded(self._keys(kept), kept, batch.lonlat[there].to(device)))
        if not found:
            raise FMError("no sample of the dataset has a place")
        return Embedded(*(torch.cat(parts) for parts in zip(*found, strict=True)))

    def _keys(self, features: Tensor) -> Tensor:
        made: Tensor = self.head(features.to(self.head.weight.dtype))
        return functional.normalize(made.float(), dim=1)

    def _features(
        self,
        pixels: Mapping[str, Tensor],
        *,
        valid: Mapping[str, Tensor] | None = None,
        scaling: Mapping[str, tuple[float, float]] | None = None,
        **options: Any,
    ) -> Tensor:
        if several := [name for name, x in pixels.items() if x.ndim != 4]:
            raise UsageError(f"{several[0]}: give single images, [B, C, H, W]")
        scales = {**self.image_encoder.scaling, **(scaling or {})}
        physical, masks = {}, {}
        for name, x in pixels.items():
            physical[name] = to_physical(x, *scales.get(name, (1.0, 0.0)))
            if valid is not None and name in valid:
                mask = valid[name] if valid[name].ndim == 4 else valid[name][:, None]
                masks[name] = mask.expand(x.shape)
                physical[name] = torch.where(mask, physical[name], 0.0)
        size, resize = self.head.size, self.head.resize
        physical, masks = as_a_whole(physical, masks, size, resize=resize)
        found: Tensor = self.image_encoder.encode(physical, valid=masks or None, **options).pooled
        return found


def pair(
    folder: str | os.PathLike[str], image_encoder: str | os.PathLike[str] | None = None
) -> Pair:
    """Load both encoders of a run that contrasted images with places, in `eval()`.

    Args:
        folder: of the run, of an export of it, or its `location` folder.
        image_encoder: checkpoint folder of the image encoder, where it was moved.

    Raises:
        FMError: something is missing or damaged, no head was exported, or the image encoder is
            another one than the head was learned for.
    """
    place = Path(folder)
    if (place / "location" / checkpoint.DESCRIPTION).is_file():
        place = place / "location"
    told = checkpoint.describe(place)
    if checkpoint.HEAD not in told:
        raise FMError(f"{place}: a location encoder alone, without the head of an image encoder")
    places = checkpoint.load(place)
    about = dict(told[checkpoint.HEAD])
    beside, wanted = about.pop("encoder"), about.pop("encoder_sha256")
    where = place / beside if image_encoder is None else Path(image_encoder)
    if read_card(where).weights_sha256 != wanted:
        raise FMError(
            f"{where}: not the image encoder that the head in {place} was learned for; give its "
            f"folder as image_encoder="
        )
    head = ImageHead(**about)
    load_strict(head, checkpoint.read_weights(place, checkpoint.HEAD), str(place / WEIGHTS))
    return Pair(load_backbone(where), head, places).eval()
