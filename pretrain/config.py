"""What a pretraining run is made of: the typed config behind every recipe."""

import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from fm.config import Config
from pretrain.objectives import ObjectiveConfig

Positive = Annotated[int, Field(gt=0)]
PartName = Annotated[str, Field(pattern=r"^[\w-]+$")]
Beta = Annotated[float, Field(ge=0, lt=1)]


class Samples(Config):
    """Some samples and what is read of them.

    Attributes:
        path: dataset folder or URL.
        where: index filter, such as `"split == 'train'"`.
        split: `[file, part]`: the samples of one part of a split that `fm shards split` wrote.
        cache: folder for what is fetched from a URL; the variable `EOFM_CACHE` when null.
        modalities: which modalities to train on; all when null.
        bands: by modality the bands to read, in that order; a modality without an entry is read
            whole. `FIRST:LAST` is all bands from one to the other in the dataset's order.
        crop: side of a crop in pixels of the finest grid, the same ground on every grid; null
            takes samples whole.
        images: number of images in a sample that is a series; must be the dataset's. Null for
            single images, and where the dataset is there to say.
        random_crop: place crops by a hash of (seed, position), not in the centre.
    """

    path: str | None = None
    where: str | None = None
    split: tuple[str, str] | None = None
    cache: str | None = None
    modalities: list[str] | None = None
    bands: dict[str, list[str]] | None = None
    crop: Positive | None = None
    images: Positive | None = None
    random_crop: bool = False

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.random_crop and self.crop is None:
            raise ValueError("random_crop=true has no crop to place; give crop=PIXELS")
        if wrong := sorted(set(self.bands or ()) - set(self.modalities or self.bands or ())):
            raise ValueError(f"bands names {wrong[0]}, which modalities leaves out")
        return self

    def identity(self) -> dict[str, Any]:
        """Return what decides which samples come and what of them; a split by what it lists.

        Raises:
            FMError: the split cannot be read.
        """
        own = set(Samples.model_fields) - {"path", "cache"}
        values = self.model_dump(mode="json", include=own)
        if self.split is not None:
            values["split"] = {"part": self.split[1], "sha256": _listed(*self.split)}
        # as if absent: older runs go on
        later = ("split", "crop", "images", "random_crop", "bands")
        return {k: v for k, v in values.items() if k not in later or v}


class PartConfig(Samples):
    """One part of a mixture.

    Attributes:
        weight: share of the steps that this part gets, over the sum of all weights.
    """

    path: str
    weight: float = Field(1.0, gt=0)

    def identity(self) -> dict[str, Any]:
        """Return what decides which samples come, and how often."""
        return {**super().identity(), "weight": self.weight}


class DataConfig(Samples):
    """The samples, and how they are read: of one dataset, or of several in turns.

    Attributes:
        parts: name to one part of a mixture, instead of `path` and the other keys of a part. Every
            step comes from one part, the same on all ranks, so that parts may have different
            modalities.
        batch_size: samples in one global batch, over all ranks and accumulation steps.
        threads: reading threads a rank.
        max_bad: share of a dataset that a rank may quarantine before the run stops.
        shuffle: false reads in stored order.
        window: positions that are shuffled among each other; null is the loader's own.
        statistics: what pixels are normalised by: the whole `dataset`'s numbers, as stored with
            it, or those of the `samples` that `where` and `split` leave, read before the run.
    """

    parts: Annotated[dict[PartName, PartConfig], Field(min_length=1)] | None = None
    batch_size: Positive = 64
    threads: Positive = 2
    max_bad: float = Field(0.05, ge=0, le=1)
    shuffle: bool = True
    window: Positive | None = None
    statistics: Literal["dataset", "samples"] = "dataset"

    @model_validator(mode="after")
    def _one_or_several(self) -> Self:
        if self.parts is None:
            if self.path is None:
                raise ValueError("path is missing; give data.path=FOLDER, or data.parts")
            return self
        own = [k for k in Samples.model_fields if getattr(self, k) not in (None, False)]
        if own:
            raise ValueError(f"{own[0]} stands beside parts; write it in the part it is for")
        return self

    @property
    def datasets(self) -> Mapping[str, Samples]:
        """The parts by name; one dataset is a part named `""`."""
        return {"": self} if self.parts is None else dict(sorted(self.parts.items()))

    def identity(self) -> dict[str, Any]:
        """Return what decides which samples come, in which order."""
        exclude = set(Samples.model_fields) | {"parts", "threads"}
        values = self.model_dump(mode="json", exclude=exclude)
        for key, usual in (("window", None), ("statistics", "dataset")):
            if values[key] == usual:  # as if absent: older runs go on
                del values[key]
        if self.parts is None:
            return values | super().identity()
        return values | {"parts": {name: part.identity() for name, part in self.datasets.items()}}


@functools.lru_cache(maxsize=8)
def _listed(file: str, part: str) -> str:
    """SHA-256 of a part's list, as it was when the run began."""
    from shards.splits.splitfile import Split

    split = Split.read(file)
    split.keys(part)
    return split.sha256[part]


class ModelConfig(Config):
    """The backbone: the arguments of `fm.create_model`.

    Attributes:
        name: size, one of `fm models list`.
        token_m: ground size of a token in metres, one number or one a group.
        token_groups: group to band names, where a group is not one sensor and level.
        normalisation: kind, fitted to the dataset's statistics.
        options: the family's own arguments, such as `tokenizer`, `depth` or `positions` of a ViT.
    """

    name: str = "vit_tiny"
    token_m: float | dict[str, float] | None = None
    token_groups: dict[str, list[str]] | None = None
    normalisation: Literal["zscore", "clip_sigma", "divide", "percentile"] = "zscore"
    options: dict[str, Any] = Field(default_factory=dict)


class OptimizerConfig(Config):
    """AdamW (Loshchilov and Hutter, arXiv 1711.05101), torch's fused kernel.

    Attributes:
        lr: peak learning rate, as is (not scaled by the batch).
        weight_decay: on matrices only; biases, norms and codes are not decayed.
        betas: as in MAE by default.
        eps: added to the denominator.
        clip: maximum gradient norm; 0 does not clip.
    """

    lr: float = Field(1.5e-4, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    betas: tuple[Beta, Beta] = (0.9, 0.95)
    eps: float = Field(1e-8, gt=0)
    clip: float = Field(0.0, ge=0)


class ScheduleConfig(Config):
    """Linear warm-up, then half a cosine to `min_lr` at the last step.

    Attributes:
        steps: optimiser steps of the whole run.
        warmup: steps of linear warm-up.
        min_lr: learning rate at the end.
    """

    steps: Positive = 100
    warmup: int = Field(10, ge=0)
    min_lr: float = Field(0.0, ge=0)

    @model_validator(mode="after")
    def _warmup_ends(self) -> "ScheduleConfig":
        if self.warmup >= self.steps:
            raise ValueError(f"warmup={self.warmup} does not end before steps={self.steps}")
        return self


class AugmentConfig(Config):
    """Augmentation on the device, by counter-based randomness.

    Attributes:
        dihedral: one of the eight flips and quarter turns of the square.
    """

    dihedral: bool = True


class EngineConfig(Config):
    """How the steps are run; nothing here changes what is learned.

    Attributes:
        precision: `bf16` is float32 parameters with bfloat16 autocast.
        micro_batch: samples a rank takes at once; null takes its whole share of the batch.
        deepspeed: name or path of the DeepSpeed settings (`configs/deepspeed`), such as `zero1`.
    """

    precision: Literal["bf16", "fp32"] = "bf16"
    micro_batch: Positive | None = None
    deepspeed: str = "zero0"


class CheckpointConfig(Config):
    """Checkpoints to resume from.

    Attributes:
        every: steps between checkpoints; the last step always writes one.
        keep: how many of the newest stay.
    """

    every: Positive = 50
    keep: Positive = 2


class MonitorConfig(Config):
    """What a run shows.

    Attributes:
        every: steps between lines in `metrics.jsonl` and TensorBoard.
        pictures: number of reconstruction panels made at the end.
        tensorboard: write event files.
    """

    every: Positive = 1
    pictures: int = Field(4, ge=0, le=16)
    tensorboard: bool = True


class RunConfig(Config):
    """One pretraining run.

    Attributes:
        name: the run's and the model's name.
        follows: the paper, table and figures a recipe follows.
        out: the run folder.
        seed: of weights, order, masks and augmentation.
        init_from: checkpoint folder whose backbone weights start this run.
    """

    name: str
    follows: str = ""
    out: str
    seed: int = Field(0, ge=0, lt=2**63)
    init_from: str | None = None
    data: DataConfig
    model: ModelConfig = ModelConfig()
    objective: ObjectiveConfig
    augment: AugmentConfig = AugmentConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    engine: EngineConfig = EngineConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    monitor: MonitorConfig = MonitorConfig()

    def identity(self) -> dict[str, Any]:
        """Return what must not change when a run is resumed: all but paths and display."""
        values = self.model_dump(mode="json")
        for key in ("out", "follows", "checkpoint", "monitor"):
            values.pop(key)
        values["data"] = self.data.identity()
        values["engine"].pop("micro_batch")
        return values

    def hash(self) -> str:
        """Hash `identity()`, 16 hex digits."""
        text = json.dumps(self.identity(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
