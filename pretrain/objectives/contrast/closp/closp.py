"""CLOSP: images of sensors that are never paired, aligned with text (arXiv 2507.10403).

Text is the bridge: each sensor's images are drawn to the captions of their labels, and so to each
other's. What differs from the published code, and why: the scale is learned from 1 / 0.07 (theirs
is fixed at 1, where the loss of 64 pairs cannot fall below 3.17), captions are sorted (theirs have
another order in every process), and samples with the same set of labels are each other's positives
(theirs are told apart although their captions are the same; as the captions' rows are equal, the
sum over samples of equal weight is the same either way).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from fm.config import Config
from fm.errors import UsageError
from fm.hardware import full_precision
from fm.models import Backbone, Inputs
from fm.rng import CounterRng
from fm.sensors import sensor_of_modality
from pretrain.losses import cosines, info_nce
from pretrain.objective import LAND_COVER, Objective, ObjectiveBatch, Output
from pretrain.objectives.contrast.batch_norm import over_all_ranks
from pretrain.objectives.contrast.closp.captions import captions
from pretrain.objectives.contrast.closp.place import PlaceConfig, PlaceTower
from pretrain.objectives.contrast.closp.tower import TextConfig, text_tower
from pretrain.objectives.contrast.rows import numbers, placed, shown, taken
from pretrain.objectives.contrast.scale import LearnedScale
from pretrain.objectives.one_image import one_image
from pretrain.ranks import collective
from pretrain.settings.kinds import Positive

MEASURED_TOKENS = 16
"""Tokens of a caption where nothing is computed: a handful of classes."""


class CLOSPConfig(Config):
    """Contrast of images with the captions of their labels.

    Steps of one sensor each come from a mixture (`data.parts`); samples that hold several sensors
    are compared with their caption sensor by sensor, never with each other.

    Attributes:
        kind: tells objectives apart.
        label: of the dataset: classes, one or several, or fractions; their names are the words.
        classes: of the label.
        label_threshold: share above which a class is in the caption.
        text: the text tower, whose rows are what images are projected to.
        place: the location tower of GeoCLOSP; null is CLOSP.
        scale: multiplies the cosines at first.
        largest_scale: that it may reach; null for no limit.
        legacy_fixed_scale: the scale is not learned (the published one is 1).
        legacy_one_positive: each image's own caption is its only positive, and the same caption of
            another image a negative (published).
    """

    kind: Literal["closp"] = "closp"
    label: str
    classes: Positive
    label_threshold: float = Field(0.0, ge=0, lt=1)
    text: TextConfig = TextConfig()
    place: PlaceConfig | None = None
    scale: float = Field(1 / 0.07, gt=0)
    largest_scale: float | None = Field(100.0, gt=0)
    legacy_fixed_scale: bool = False
    legacy_one_positive: bool = False


class CLOSP(Objective):
    """Images and captions with the same labels are alike, for each sensor on its own.

    For images v and captions t of one sensor the loss is the mean of image to text and text to
    image; with a location tower it is the mean of four, place to image and image to place beside
    them (there is no term of place and text, as published). Samples without a label have no
    caption: they count nothing and are no negatives.

    Args:
        backbone: of single images or series; `towers_*` gives each sensor an encoder of its own.
        config: see `CLOSPConfig`.
    """

    whole_batch = True

    def __init__(self, backbone: Backbone, config: CLOSPConfig) -> None:
        super().__init__()
        over_all_ranks(backbone)
        self.backbone, self.config = backbone, config
        self.label_names, self.label_sizes = (config.label,), {config.label: config.classes}
        self.label_kinds = {config.label: LAND_COVER}
        self.words: tuple[str, ...] = tuple(f"class {n}" for n in range(config.classes))
        self.text = text_tower(config.text)
        self.sensors: dict[str, tuple[str, ...]] = {}
        for modality in backbone.bands:
            name = _sensor(modality)
            self.sensors[name] = (*self.sensors.get(name, ()), modality)
        self.projectors = nn.ModuleDict(
            {name: nn.Linear(backbone.width, self.text.width) for name in self.sensors}
        )
        self.place = None if config.place is None else PlaceTower(config.place, self.text.width)
        self.needs_places = self.place is not None
        learned = not config.legacy_fixed_scale
        self.scale = LearnedScale(config.scale, config.largest_scale, learned=learned)

    @property
    def takes_series(self) -> bool:
        """One image of a series is shown where the backbone takes single ones."""
        return True

    def take_classes(self, classes: Mapping[str, tuple[str, ...]]) -> None:
        """Take the words that captions are made of."""
        super().take_classes(classes)
        self.words = classes[self.config.label]

    def exported(self) -> Mapping[str, nn.Module]:
        """Return the image encoders, and the location encoder where all of it was learned here."""
        if self.place is None or not self.place.fresh:
            return super().exported()
        return {"backbone": self.backbone, "location": self.place.encoder}

    def weight(self, batch: ObjectiveBatch) -> Tensor:
        """Return the weight of the samples with a caption."""
        seen = one_image(batch, self.backbone, "closp")
        return (batch.weight * self._told(seen)[1]).sum()

    def forward(self, batch: ObjectiveBatch, rng: CounterRng) -> Output:
        """Compare each sensor's images with the captions of the whole batch.

        Args:
            batch: of one sensor or several.
            rng: of the same samples.

        Returns:
            the sum over samples of weight times loss, the mean over the sensors that a sample has.
        """
        del rng  # nothing is drawn but the image of a series, by the batch's own
        seen = one_image(batch, self.backbone, "closp")
        present, told = self._told(seen)
        inputs = self.inputs(seen)
        images = self._images(inputs, batch.weight)
        texts = self._texts(present, told)
        places = self._places(batch)
        with full_precision(batch.weight.device):
            scale = self.scale()
            everyone = _Everyone(present, told, self.config.legacy_one_positive)
            having = {name: told & self._with(name, inputs) for name in images}
            number = torch.stack(list(having.values())).sum(dim=0).clamp(min=1)
            total = torch.zeros_like(batch.weight)
            metrics: dict[str, Tensor] = {}
            for name, rows in images.items():
                mine = having[name]
                loss, found = everyone.compare(rows, texts, mine, 1 / scale)
                if places is not None:
                    loss = everyone.with_places(loss, rows, mine, places, batch.lonlat, 1 / scale)
                loss = torch.where(mine, loss, 0.0) / number
                total = total + loss
                metrics[f"loss_{name}"] = (loss * batch.weight).sum()
                metrics[f"found_{name}"] = (found * mine / number * batch.weight).sum()
            weight = (batch.weight * told).sum()
            metrics["scale"] = scale * weight
        loss_sum = (total * batch.weight).sum()
        return Output(loss_sum, weight, {name: value.detach() for name, value in metrics.items()})

    def _told(self, seen: ObjectiveBatch) -> tuple[Tensor, Tensor]:
        """Return which classes are in a sample's caption `[B, C]`, and whether it has one `[B]`.

        A sample without a valid pixel has none: it is of nothing.
        """
        label = seen.labels[self.config.label]
        if label.ndim == 3:  # a backbone of series sees all images: what is in any of them
            label = torch.where(label.isfinite(), label, -1.0).amax(dim=1)
            label = label.masked_fill(label < 0, float("nan"))
        present = label > self.config.label_threshold
        known = label.isfinite().all(dim=1) & present.any(dim=1) & (seen.weight > 0)
        if seen.valid:  # without masks all is; a batch that is measured has no pixels to ask
            known = known & shown(seen.pixels, seen.valid)
        return present & known[:, None], known

    def _with(self, sensor: str, inputs: Inputs) -> Tensor:
        """Say which samples have a valid pixel of a sensor: `[B]` bool."""
        return shown(inputs.pixels, inputs.valid, self.sensors[sensor])

    def _images(self, inputs: Inputs, weight: Tensor) -> dict[str, Tensor]:
        """Return the projected rows of each sensor that has pixels, `[B, D]`; zeros without."""
        made = {}
        for name, modalities in self.sensors.items():
            own = {m: x for m, x in inputs.pixels.items() if m in modalities}
            if not own:
                continue
            valid = inputs.valid and {m: x for m, x in inputs.valid.items() if m in own}
            there = self._with(name, inputs) & (weight > 0)
            if there.is_meta or bool(collective.all_reduce_sum(there.sum())):
                some = taken(replace(inputs, pixels=own, valid=valid), numbers(there))
                features = self.backbone._encode(some, False).pooled.float()
            else:  # no rank has any: there is nothing to encode
                features = weight.new_zeros(0, self.backbone.width)
            projected = self.projectors[name](features)
            made[name] = placed(projected, numbers(there), len(weight))
        return made

    def _texts(self, present: Tensor, told: Tensor) -> Tensor:
        """Return the row of each sample's caption, `[B, D]`; each caption is encoded once."""
        if present.is_meta:
            shape = (len(present), MEASURED_TOKENS)
            words = torch.zeros(shape, dtype=torch.int64, device="meta")
            made: Tensor = self.text(words, torch.ones_like(words, dtype=torch.bool))
            return made
        different, which = torch.unique(present, dim=0, return_inverse=True)
        words, mask = self.text.numbers(captions(different, self.words))
        rows = self.text(words.to(present.device), mask.to(present.device)).float()
        return torch.where(told[:, None], rows[which], 0.0)

    def _places(self, batch: ObjectiveBatch) -> Tensor | None:
        if self.place is None:
            return None
        lonlat = batch.lonlat
        if lonlat is None:
            lonlat = torch.full((len(batch.weight), 2), float("nan"), device=batch.weight.device)
        made: Tensor = self.place(lonlat)
        return made


def _sensor(modality: str) -> str:
    """Name what a modality is an image of; its own name where no sensor has it."""
    try:
        return sensor_of_modality(modality).name.replace("-", "_")
    except UsageError:
        return modality


class _Everyone:
    """What the rows of this rank are compared with: the whole global batch.

    Args:
        present: `[B, C]` bool, classes of this rank's samples.
        told: `[B]` bool, those with a caption.
        own_only: a sample's only positive is itself.
    """

    def __init__(self, present: Tensor, told: Tensor, own_only: bool) -> None:
        self._told = _gathered(told)
        if own_only:
            first = collective.rank() * len(told)
            numbers = torch.arange(len(self._told), device=told.device)
            self._same = numbers[first : first + len(told), None] == numbers
        else:
            every = _gathered(present)
            self._same = (present[:, None, :] == every[None, :, :]).all(dim=2)
        self._same = self._same & told[:, None] & self._told

    def compare(
        self, images: Tensor, texts: Tensor, shown: Tensor, temperature: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the loss of each image and its caption `[B]`, and where the caption is found."""
        every_image, every_text = map(collective.gather_rows, (images, texts))
        there = _gathered(shown)
        to_text = info_nce(
            images,
            every_text,
            temperature=temperature,
            positives=self._same.float(),
            allowed=self._told,
        )
        to_image = info_nce(
            texts,
            every_image,
            temperature=temperature,
            positives=(self._same & there).float(),
            allowed=there,
        )
        near = cosines(images, every_text).detach().masked_fill(~self._told, -2.0).argmax(dim=1)
        found = self._same.gather(1, near[:, None])[:, 0]
        return (to_text + to_image) / 2, found.float()

    def with_places(
        self,
        loss: Tensor,
        images: Tensor,
        shown: Tensor,
        places: Tensor,
        lonlat: Tensor | None,
        temperature: Tensor,
    ) -> Tensor:
        """Return the mean of four terms where the place is known, and the loss as it is elsewhere.

        Samples of one place are each other's positives.
        """
        if lonlat is None:
            return loss
        known = lonlat.isfinite().all(dim=1)
        every = collective.gather_rows(torch.nan_to_num(lonlat))
        here = shown & known
        there = _gathered(here)
        same = (torch.nan_to_num(lonlat)[:, None] == every[None]).all(dim=2)
        same = (same & here[:, None] & there).float()
        pairs = ((images, places), (places, images))
        both = [
            info_nce(
                asks,
                collective.gather_rows(answers),
                temperature=temperature,
                positives=same,
                allowed=there,
            )
            for asks, answers in pairs
        ]
        return torch.where(known, (loss + (both[0] + both[1]) / 2) / 2, loss)


def _gathered(mask: Tensor) -> Tensor:
    return collective.gather_rows(mask.to(torch.uint8)).bool()
