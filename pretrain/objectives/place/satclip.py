"""SatCLIP: a location encoder learns to tell where images are (Klemmer et al., arXiv 2311.17179).

What differs from the published code, and why: keys of all ranks are compared with (theirs gathers
none, and accumulates without adding any), the factor of the cosines is limited, the jitter of
coordinates goes to all sides and is the same on the ground at every latitude, and a frozen image
encoder stays in `eval()`, so that its batch norms' statistics stay those of its weights.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from fm.errors import UsageError
from fm.geo import EARTH_RADIUS_M
from fm.hardware import full_precision
from fm.location.encoder import LocationEncoder
from fm.models import Backbone, Inputs
from fm.resample import as_a_whole
from fm.rng import CounterRng
from pretrain.augment import View, draw_view, seasons
from pretrain.losses import cosines, info_nce
from pretrain.losses.precision import wide
from pretrain.objective import Judged, ObjectiveBatch, Output
from pretrain.objectives.contrast.rows import placed, taken
from pretrain.objectives.contrast.scale import LearnedScale
from pretrain.objectives.contrast.siamese import pooled
from pretrain.objectives.contrast.viewed import Viewed, ViewedConfig
from pretrain.objectives.contrast.whole import whole_view
from pretrain.objectives.place.encoder import EncoderConfig
from pretrain.objectives.place.found import found
from pretrain.objectives.place.places import distances_km, jittered, nearness, repeated_places
from pretrain.objectives.place.view import PlaceView
from pretrain.objectives.queue import Queue
from pretrain.ranks import collective
from pretrain.settings.kinds import Positive


class LocationConfig(EncoderConfig):
    """The location encoder, see `EncoderConfig`.

    Attributes:
        season: take the month of the image too.
    """

    season: bool = False

    def build(self, dim: int) -> LocationEncoder:
        """Make the encoder with fresh weights, for embeddings of `dim`.

        Raises:
            UsageError: an unknown name or option, or a value out of range.
        """
        return self.encoder(dim, "objective.location", "objective.width", season=self.season)


class SatCLIPConfig(ViewedConfig):
    """Contrast of images with where they are.

    Attributes:
        kind: tells objectives apart.
        view: how the image is shown.
        location: the location encoder.
        image: `frozen` learns only a linear layer behind the image encoder (published; give its
            weights by `init_from`), `tuned` learns all of it.
        width: of the embeddings.
        jitter_degrees: places are moved by up to so much to either side.
        scale: multiplies the cosines at first.
        largest_scale: that it may reach; null for no limit.
        soft_km: places within this distance are partly the right answer too: weights
            exp(-distance / soft_km), scaled to a sum of 1; null has one right answer.
        one_way: images ask for their places, and places for nothing (GeoCLIP, Vivanco Cepeda et
            al., arXiv 2309.16020); else the loss is the mean of both.
        queue: places of so many earlier samples that each image is compared with too, encoded anew
            at every step (GeoCLIP: 4096); null for none.
        queue_apart_km: what waits within this distance of an image's place is not compared with it:
            its own place of an earlier epoch is no wrong answer; null compares with all that waits
            (published).
        chunk: images that are encoded at once, and again in the backward pass: the gradient is that
            of the whole batch, the memory that of a chunk (gradient caching, Gao et al., arXiv
            2101.06983); null encodes all at once.
    """

    kind: Literal["satclip"] = "satclip"
    view: PlaceView = PlaceView()
    location: LocationConfig = LocationConfig()
    image: Literal["frozen", "tuned"] = "frozen"
    width: Positive = 256
    jitter_degrees: float = Field(0.01, ge=0, le=10)
    scale: float = Field(1 / 0.07, gt=0)
    largest_scale: float | None = Field(100.0, gt=0)
    soft_km: float | None = Field(None, gt=0)
    one_way: bool = False
    queue: Positive | None = None
    queue_apart_km: float | None = Field(None, gt=0)
    chunk: Positive | None = None

    def keys_of(self, batch_size: int) -> int:
        """Return how many places a batch puts into the queue."""
        return batch_size


class SatCLIP(Viewed):
    """Images and their places are alike, among all of the global batch, in both directions.

    Images may be compared with the places of earlier steps too, and be the only ones that ask.
    Samples whose place (or, with a season, time) is unknown count nothing and are no negatives.

    Args:
        backbone: of single images.
        config: see `SatCLIPConfig`.
    """

    config: SatCLIPConfig
    whole_batch = True
    needs_places = True

    def __init__(self, backbone: Backbone, config: SatCLIPConfig) -> None:
        super().__init__(backbone, config)
        self.frozen = config.image == "frozen"
        norms = any(isinstance(part, _BatchNorm) for part in backbone.modules())
        if config.chunk is not None and norms and not self.frozen:
            raise UsageError(
                "objective.chunk: the batch norms of a tuned image encoder would see a chunk and "
                "not the batch; freeze it, take a ViT, or leave chunk out"
            )
        _check_apart(config)
        if self.frozen:
            backbone.requires_grad_(False)
        self.location = config.location.build(config.width)
        self.projector = nn.Linear(backbone.width, config.width)
        self.scale = LearnedScale(config.scale, config.largest_scale)
        width = 2 + config.location.season
        self.queue = None if config.queue is None else Queue(config.queue, width)

    def train(self, mode: bool = True) -> "SatCLIP":
        """Train; a frozen image encoder stays as it is in use."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def exported(self) -> Mapping[str, nn.Module]:
        """Return the image encoder, the location encoder, and what puts images beside places."""
        return {
            "backbone": self.backbone,
            "location": self.location,
            "image_head": self.projector,
            "scale": self.scale,
        }

    def shared_space(self) -> dict[str, Any]:
        """Say how images come into the space of the places."""
        return {
            "features": self.projector.in_features,
            "dim": self.projector.out_features,
            "size": self.config.view.size,
            "resize": self.config.view.resize,
            "largest_scale": self.config.largest_scale,
        }

    def weight(self, batch: ObjectiveBatch) -> Tensor:
        """Return the weight of the samples whose place is known."""
        (image,) = seasons(batch, batch.rng, 1)
        return (batch.weight * self._known(batch, image)).sum()

    def forward(self, batch: ObjectiveBatch, rng: CounterRng) -> Output:
        """Tell the place of each image, and the image of each place, from all of the batch's.

        Args:
            batch: single images, or series of which one image is shown.
            rng: of the same samples.

        Returns:
            the sum over samples of weight times the mean of both cross-entropies, or the images'.
        """
        (image,) = seasons(batch, batch.rng, 1)
        known = self._known(batch, image)
        view = draw_view(batch, rng, "image", self.config.view, image, bands=self.backbone.bands)
        rows = None if known.is_meta or bool(known.all()) else known.nonzero()[:, 0]
        lonlat = self._places(batch, rng)
        images = placed(self._images(self.inputs(view), rows), rows, len(known))
        places = placed(self._located(lonlat, view, rows), rows, len(known))
        with full_precision(batch.weight.device):
            scale = self.scale()
            first = collective.rank() * len(known)
            own = first + torch.arange(len(known), device=known.device)
            there = collective.gather_rows(known.float()) > 0
            right = self._right(lonlat) if self.config.soft_km is not None else None
            target = {"own": own} if right is None else {"positives": right}
            questions = {"place": (images, places), "image": (places, images)}
            if self.config.one_way:
                del questions["image"]
            weight = batch.weight * known
            losses, metrics = [], {}
            for wanted, (asks, answers) in questions.items():
                keys, allowed, answer = collective.gather_rows(answers), there, target
                metrics[f"found_{wanted}"] = (_first(asks, keys, there, own) * weight).sum()
                if wanted == "place" and self.queue is not None:
                    earlier, waits, near = self._held(lonlat)
                    keys = torch.cat([keys, earlier])
                    allowed = torch.cat([there.expand(*waits.shape[:-1], -1), waits], dim=-1)
                    compared = waits.float().mean(dim=-1)
                    metrics["queue_compared"] = (compared * weight).sum()
                    if right is not None and near is not None:
                        answer = {"positives": torch.cat([right, near], dim=1)}
                loss = info_nce(asks, keys, temperature=1 / scale, allowed=allowed, **answer)
                losses.append(loss)
                # the question is of an image when the answer is a place
                asking = "image" if wanted == "place" else "place"
                metrics[f"loss_{asking}"] = (loss * weight).sum()
            total = weight.sum()
            again = repeated_places(None if known.is_meta else batch.lonlat, known)
            metrics["same_place"] = (again * weight).sum()
            metrics["scale"] = scale * total
        loss_sum = (torch.stack(losses).mean(dim=0) * weight).sum()
        if self.queue is not None and self.training:
            self.queue.add(self._queued(lonlat, view), known)
        return Output(loss_sum, total, {name: value.detach() for name, value in metrics.items()})

    def compared(self, batch: ObjectiveBatch) -> dict[str, Tensor]:
        """Return the embeddings of images, whole or cut from the centre, and of their places."""
        (image,) = seasons(batch, batch.rng, 1)
        known = self._known(batch, image)
        how, bands = self.config.view, self.backbone.bands
        view = draw_view(batch, batch.rng, "whole", whole_view(None), image, bands=bands)
        pixels, masks = as_a_whole(view.pixels, view.valid, how.size, resize=how.resize)
        view = replace(view, pixels=pixels, valid=masks or None)
        rows = known.nonzero()[:, 0]
        lonlat = torch.zeros(len(known), 2, dtype=torch.float64, device=known.device)
        if batch.lonlat is not None:
            lonlat = torch.where(known[:, None], batch.lonlat.double(), lonlat)
        return {
            "image": placed(self._images(self.inputs(view), rows), rows, len(known)),
            "place": placed(self._located(lonlat, view, rows), rows, len(known)),
            "lonlat": lonlat,
            "known": known.float(),
            "scale": self.scale().expand(len(known)),
        }

    def judged(self, rows: Mapping[str, Tensor]) -> Judged:
        """Say how well images find their places among all of a set, and places their images."""
        known = rows["known"] > 0
        device = self.scale.log.device
        kept = {name: x[known].to(device) for name, x in rows.items()}
        scale = float(rows["scale"][0])
        made = found(
            kept["image"],
            kept["place"],
            kept["lonlat"],
            scale=scale,
            soft_km=self.config.soft_km,
            one_way=self.config.one_way,
        )
        made.about["left_out"] = int((~known).sum())
        return made

    def _known(self, batch: ObjectiveBatch, image: Tensor) -> Tensor:
        """Say which samples could be read and have a place, and a time where it is asked for."""
        if batch.weight.is_meta:  # only measured: all are
            return torch.ones_like(batch.weight, dtype=torch.bool)
        if batch.lonlat is None:
            return torch.zeros_like(batch.weight, dtype=torch.bool)
        known = (batch.weight > 0) & torch.isfinite(batch.lonlat).all(dim=1)
        if self.config.location.season:
            time = batch.time
            if batch.times is not None:
                time = batch.times.gather(1, image[:, None])[:, 0]
            known = known & (torch.isfinite(time) if time is not None else False)
        return known

    def _places(self, batch: ObjectiveBatch, rng: CounterRng) -> Tensor:
        """Return the places `[B, 2]` in degrees, moved a little; NaN where unknown."""
        if batch.lonlat is None or batch.weight.is_meta:
            shape = (len(batch.weight), 2)
            return torch.full(shape, float("nan"), device=batch.weight.device, dtype=torch.float64)
        if not self.config.jitter_degrees:
            return batch.lonlat.double()
        return jittered(batch.lonlat, rng, self.config.jitter_degrees)

    def _located(self, lonlat: Tensor, view: View, rows: Tensor | None) -> Tensor:
        """Return the rows of the places that are known, `[R, width]` float32."""
        time = view.time if self.config.location.season else None
        if time is not None and lonlat.is_meta:
            time = lonlat[:, 0]
        if rows is not None:
            lonlat = lonlat[rows]
            time = None if time is None else time[rows]
        if not lonlat.is_meta and not len(lonlat):
            return self.projector.weight.new_zeros(0, self.config.width).float()
        made: Tensor = self.location(lonlat, time=time)
        return wide(made)

    def _queued(self, lonlat: Tensor, view: View) -> Tensor:
        """Return what the queue takes: longitude, latitude and, with a season, the time."""
        parts = [lonlat]
        if self.config.location.season:
            unknown = torch.zeros_like(lonlat[:, 0])
            parts.append((unknown if view.time is None else view.time.double())[:, None])
        return torch.cat(parts, dim=1).nan_to_num()

    def _held(self, lonlat: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Embed the places of the queue.

        Returns:
            `[K, width]`; which rows are compared with, `[K]` all that hold something, or `[n, K]`
            for each place of `lonlat` where some are too near; and how right each is, `[n, K]`,
            None without soft targets.
        """
        assert self.queue is not None
        rows, filled = self.queue.read()
        earlier, soft_km = rows[:, :2].double(), self.config.soft_km
        made: Tensor = self.location(earlier, time=rows[:, 2] if rows.shape[1] > 2 else None)
        near = None if soft_km is None else nearness(distances_km(lonlat, earlier), soft_km)
        if self.config.queue_apart_km is not None:
            filled = filled & (distances_km(lonlat, earlier) > self.config.queue_apart_km)
        return wide(made), filled, near

    def _images(self, inputs: Inputs, rows: Tensor | None) -> Tensor:
        """Return the rows of the images, `[R, width]` float32, chunk by chunk."""
        inputs = taken(inputs, rows)
        count = inputs.size
        step = self.config.chunk or max(count, 1)
        made = []
        for start in range(0, count, step):
            stop = min(start + step, count)
            part = inputs
            if (start, stop) != (0, count):
                place = next(iter(inputs.pixels.values())).device
                part = taken(inputs, torch.arange(start, stop, device=place))
            if self.frozen:
                with torch.no_grad():
                    seen = pooled(self.backbone, part, None)
            elif stop - start < count:
                seen = checkpoint(pooled, self.backbone, part, None, use_reentrant=False)
            else:
                seen = pooled(self.backbone, part, None)
            made.append(wide(self.projector(seen.to(self.projector.weight.dtype))))
        if not made:
            return self.projector.weight.new_zeros(0, self.config.width).float()
        return torch.cat(made)

    def _right(self, lonlat: Tensor) -> Tensor:
        """Return how right each place of the batch is for each of this rank's: `[n, m]`."""
        assert self.config.soft_km is not None
        return nearness(distances_km(lonlat, collective.gather_rows(lonlat)), self.config.soft_km)


def _check_apart(config: SatCLIPConfig) -> None:
    """Refuse a distance that cannot keep a sample from its own place, or that nothing asks for."""
    km = config.queue_apart_km
    if km is None:
        return
    if config.queue is None:
        raise UsageError("objective.queue_apart_km is of the queue; give objective.queue too")
    if config.soft_km is not None:
        raise UsageError(
            "objective.queue_apart_km: with soft_km a place nearby is no wrong answer already; "
            "leave one of them out"
        )
    # two draws of the jitter, and what waits is float32
    reach = 2 * math.sqrt(2) * math.radians(config.jitter_degrees) * EARTH_RADIUS_M / 1000 + 0.01
    if km < reach:
        raise UsageError(
            f"objective.queue_apart_km={km:g}: by jitter a place may wait {reach:.2f} km from "
            f"where it is asked for; give at least that, or less jitter_degrees"
        )


@torch.no_grad()
def _first(asks: Tensor, keys: Tensor, there: Tensor, own: Tensor) -> Tensor:
    """Say for which rows no other key is nearer than the own one: `[n]` float32."""
    near = cosines(asks, keys).masked_fill(~there, float("-inf"))
    return (near.argmax(dim=1) == own).float()
