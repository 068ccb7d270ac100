"""`data`: which samples, and how they are read."""

import functools
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from fm.config import Config
from pretrain.settings.kinds import Positive

PartName = Annotated[str, Field(pattern=r"^[\w-]+$")]


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
