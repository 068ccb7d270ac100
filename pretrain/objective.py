"""What an objective is: a loss over a batch, and the modules worth keeping.

An objective knows nothing of DeepSpeed, ranks or files; the engine knows nothing of objectives.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import numpy as np
from torch import Tensor, nn

from fm.card import Card
from fm.errors import UsageError
from fm.models import Backbone, Inputs
from fm.rng import CounterRng
from fm.sensors import Band
from pretrain.schedule import Clock
from pretrain.settings.ramp import Ramp

MomentumPair = tuple[nn.Module, nn.Module, float | Ramp]
"""A student, its teacher, and the share of the teacher that stays in each step."""


class ObjectiveBatch(Protocol):
    """What an objective sees of a batch."""

    pixels: dict[str, Tensor]
    """Modality to `[B, C, H, W]`, or `[B, T, C, H, W]` of series, as stored."""
    weight: Tensor
    """`[B]` float32; 0 for samples that could not be read."""
    scaling: dict[str, tuple[float, float]]
    """Modality to scale and offset of stored integers."""
    valid: dict[str, Tensor] | None
    """Modality to bool of the pixels' shape, False where there is no data; None if all is valid."""
    lonlat: Tensor | None
    """`[B, 2]` degrees, NaN where unknown."""
    time: Tensor | None
    """`[B]` seconds since 1970 UTC, NaN where unknown."""
    times: Tensor | None
    """`[B, T]` likewise of the images of series; None where samples are single images."""
    labels: dict[str, Tensor]
    """Of `Objective.label_names`: `[B, classes]` float32, or `[B, T, classes]` of each image of
    series: one-hot, multi-hot or fractions; NaN in rows without label, never zeros."""
    step: int
    """Optimiser steps before this one: the same for all micro-batches and ranks of a step."""
    clock: Clock
    """How far the run has come, for what a `Ramp` changes over it; of a step likewise."""
    rng: CounterRng
    """Of the same samples."""


@dataclass
class Output:
    """What one forward pass gives.

    Attributes:
        loss_sum: scalar, the sum of weighted losses (the engine divides by the weight of the
            whole global batch, so ranks and micro-batches do not change the gradient).
        weight: scalar, the sum of the weights; equals `Objective.weight(batch)`.
        metrics: name to a scalar summed like `loss_sum`, divided by `weight` too.
    """

    loss_sum: Tensor
    weight: Tensor
    metrics: dict[str, Tensor] = field(default_factory=dict)


LAND_COVER = ("multilabel", "class", "fractions")
"""Kinds of labels (`shards.LabelInfo`) that say which classes a sample has."""
Parts = dict[tuple[str, str], Tensor]
"""(Modality, band) to `[2]`: the summed loss of a band and the weight it is divided by."""


@dataclass
class Panel:
    """One sample's reconstruction, for a person to look at.

    Attributes:
        modality: which one.
        image: `[C, H, W]` normalised input, NaN where no value is known; the images of a series
            one below the other.
        shown: `[H, W]` bool, True where the encoder saw the pixel.
        predicted: `[C, H, W]` the input with masked tokens replaced by the prediction.
        bands: of the channels; empty where they are all of the model's, in its order.
    """

    modality: str
    image: np.ndarray
    shown: np.ndarray
    predicted: np.ndarray
    bands: tuple[Band, ...] = ()


@dataclass
class Judged:
    """What held-out samples say of the weights.

    Attributes:
        figures: name to number; of several that belong together, `WHAT/OF`.
        about: of the samples, whatever the weights.
    """

    figures: dict[str, float]
    about: dict[str, float]


class Objective(nn.Module, ABC):
    """Base of the objectives; `__init__` takes the backbone and the objective's config."""

    backbone: Backbone
    whole_batch: bool = False
    """Compares all samples of a batch with each other, so that it cannot be cut into passes."""
    takes_one: bool = False
    """Learns from a batch of one sample too: it is a `whole_batch` for the sake of norms alone."""
    between_ranks: str = ""
    """Name of a setting that would do nothing on one process; empty where there is none."""
    label_names: tuple[str, ...] = ()
    """Labels of the dataset that it reads, by name; from its config."""
    label_sizes: Mapping[str, int] = {}
    """Number of classes of a label, where the objective is built for one number."""
    label_kinds: Mapping[str, tuple[str, ...]] = {}
    """Kinds of a label (`shards.LabelInfo`) that the objective can use, where not all."""
    needs_places: bool = False
    """Learns nothing it is meant to learn where no sample says where it is."""
    most_places: int | None = None
    """Places, of samples with `needs_years`, that it keeps something of; None where of none."""
    needs_years: float = 0.0
    """Learns nothing it is meant to where no sample's images are so far apart in time."""

    @abstractmethod
    def weight(self, batch: ObjectiveBatch) -> Tensor:
        """Return the total weight of a batch, known before the forward pass (scalar float32)."""

    @abstractmethod
    def forward(self, batch: ObjectiveBatch, rng: CounterRng) -> Output:
        """Compute the loss of a batch."""

    def take_classes(self, classes: Mapping[str, tuple[str, ...]]) -> None:
        """Take the names of the classes of `label_names`, once, before the run.

        Raises:
            UsageError: a label has another number of classes than the objective is built for.
        """
        for name, size in self.label_sizes.items():
            if name in classes and len(classes[name]) != size:
                raise UsageError(
                    f"objective: label {name} has {len(classes[name])} classes in the data, "
                    f"the objective is built for {size}"
                )

    def inputs(self, batch: ObjectiveBatch) -> Inputs:
        """Return a batch as the backbone takes it."""
        return self.backbone.inputs(
            batch.pixels,
            scaling=batch.scaling,
            valid=batch.valid,
            lonlat=batch.lonlat,
            time=batch.time,
            times=batch.times,
        )

    @property
    def takes_series(self) -> bool:
        """Samples may be series of images; those whose backbone takes them, by default."""
        return self.backbone.series

    def grids(self, pixels: Mapping[str, Tensor]) -> dict[str, tuple[int, int]]:
        """Return the token grid of each group for pixels as stored; errors as the backbone's."""
        return self.backbone.grids(pixels)

    def panels(self, batch: ObjectiveBatch, rng: CounterRng) -> list[list[Panel]]:
        """Return pictures, one list of panels a sample; none by default."""
        del batch, rng
        return []

    def block_modules(self) -> list[nn.Module]:
        """Return the backbone's `block_modules` and those of the objective's own of that kind."""
        return self.backbone.block_modules()

    def compiled_modules(self) -> list[nn.Module]:
        """Return the modules that `engine.compile` compiles: `block_modules`, by default."""
        return self.block_modules()

    def parts(self, batch: ObjectiveBatch, rng: CounterRng) -> Parts:
        """Return the loss of each band, for a person to look at; none by default.

        Where the loss is a mean over bands, its sum and its weight are the sums over the bands.
        """
        del batch, rng
        return {}

    def features(self, batch: ObjectiveBatch) -> Tensor:
        """Return the backbone's pooled features of whole samples: `[B, D]`."""
        return self.backbone._encode(self.inputs(batch), hidden=False).pooled

    def compared(self, batch: ObjectiveBatch) -> dict[str, Tensor]:
        """Return what validation compares of each sample: name to `[B, ...]`.

        Samples are shown without augmentation; nothing depends on what else is in the batch.

        Raises:
            UsageError: this objective has no validation.
        """
        raise UsageError(f"{type(self).__name__} cannot be judged on held-out samples")

    def judged(self, rows: Mapping[str, Tensor]) -> Judged:
        """Judge the weights by all rows of a held-out set, on one process.

        Args:
            rows: of `compared`, `[N, ...]` on the CPU.

        Raises:
            FMError: the rows say nothing.
        """
        raise UsageError(f"{type(self).__name__} cannot be judged on held-out samples")

    def momentum_pairs(self) -> Sequence[MomentumPair]:
        """Return the teachers that follow students; the engine moves them after each step.

        A teacher is a deep copy of its student that needs no gradients. Its floating buffers, such
        as a batch norm's statistics, follow like its weights; counters are copied.
        """
        return ()

    def parents(self) -> Sequence[Card]:
        """Return the cards of models that are not trained and that the weights learn from."""
        return ()

    def exported(self) -> Mapping[str, nn.Module]:
        """Return the modules that go into a checkpoint, by name; `"backbone"` is the model."""
        return {"backbone": self.backbone}

    def shared_space(self) -> Mapping[str, Any] | None:
        """Say how images come into the space of an exported location encoder, None if they do not.

        Then `exported` has `image_head`, a linear layer, and `scale`, a `LearnedScale`; this is
        what `fm.location.ImageHead` takes.
        """
        return None

    @property
    def model(self) -> Backbone:
        """The backbone that a run leaves behind and that is probed on the way."""
        return cast(Backbone, self.exported()["backbone"])

    @property
    def model_place(self) -> str:
        """Where in the objective that backbone is."""
        return self.place_of(self.model)

    def place_of(self, wanted: nn.Module) -> str:
        """Return the name of a module of the objective."""
        return next(name for name, part in self.named_modules() if part is wanted)
