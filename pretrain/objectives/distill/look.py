"""What of a batch a model is shown: its own bands, by name, whatever else was read."""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass

from torch import Tensor

from fm.errors import UsageError
from fm.models import Backbone, Inputs
from fm.sensors import Band
from pretrain.objective import ObjectiveBatch

Bands = Mapping[str, tuple[Band, ...]]


@dataclass(frozen=True)
class Look:
    """How a model looks at batches.

    Attributes:
        model: whose it is.
        channels: modality to the channels that it is shown, in its order; None for all as they are.
        bands: of those channels.
    """

    model: Backbone
    channels: Mapping[str, tuple[int, ...] | None]
    bands: Mapping[str, tuple[Band, ...]]

    def shown(self, pixels: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the channels of arrays `[..., C, H, W]` that are the model's."""
        return {
            name: pixels[name] if own is None else pixels[name][..., list(own), :, :]
            for name, own in self.channels.items()
            if name in pixels
        }

    def of(self, batch: ObjectiveBatch) -> ObjectiveBatch:
        """Return the batch with the model's pixels alone.

        Raises:
            UsageError: it has none of them.
        """
        seen = copy(batch)
        seen.pixels = self.shown(batch.pixels)
        if not seen.pixels:
            raise UsageError(
                f"samples of {', '.join(batch.pixels)} show nothing to a model of "
                f"{', '.join(self.channels)}; every part must have some for student and teacher"
            )
        if batch.valid is not None:
            seen.valid = self.shown(batch.valid) or None
        return seen

    def check(self, pixels: Mapping[str, Tensor], where: str) -> None:
        """Refuse samples that have a part of what the model's sensors need, as in some mixtures.

        Args:
            pixels: modality to an array of a sample.
            where: the key that names the model, for errors.

        Raises:
            UsageError: names what they lack.
        """
        for group in self.model.groups.values():
            needed = [m.modality for m in group.members if m.modality in self.channels]
            lacking = [name for name in needed if name not in pixels]
            if lacking and len(lacking) < len(needed):
                raise UsageError(
                    f"{where}: samples of {', '.join(pixels)} lack {lacking[0]}, which it needs "
                    f"beside them; every part of the data must have it, or nothing of its sensor"
                )

    def inputs(self, batch: ObjectiveBatch) -> Inputs:
        """Return what `of` gives as the model takes it."""
        return self.model.inputs(
            batch.pixels,
            bands={name: own for name, own in self.bands.items() if name in batch.pixels},
            scaling={name: batch.scaling[name] for name in batch.pixels if name in batch.scaling},
            valid=batch.valid,
            lonlat=batch.lonlat,
            time=batch.time,
            times=batch.times,
        )


def look(model: Backbone, given: Bands, where: str) -> Look:
    """Find a model's bands among those that samples have.

    A group of the model (a sensor, as a rule) may be left out as a whole. Of the others each band
    must be there, unless the model is a function of its bands: it then takes those that are there.

    Args:
        model: that is to look.
        given: modality to the bands of the samples' channels.
        where: the key that names the model, for errors.

    Raises:
        UsageError: nothing for the model, or a band that it needs and the samples lack.
    """
    present = [
        name
        for name, group in model.groups.items()
        if any(member.modality in given for member in group.members)
    ]
    if not present:
        raise UsageError(
            f"{where}: takes {', '.join(model.bands)}, and the data has {', '.join(given)}; "
            f"read what it takes (data.modalities), or name another"
        )
    channels: dict[str, tuple[int, ...] | None] = {}
    bands: dict[str, tuple[Band, ...]] = {}
    for group in present:
        for member in model.groups[group].members:
            name = member.modality
            if name in channels:
                continue
            have, own = given.get(name, ()), model.bands[name]
            numbers = [band.name for band in have]
            lacking = [band.name for band in own if band.name not in numbers]
            if not lacking:
                order = tuple(numbers.index(band.name) for band in own)
                channels[name] = None if order == tuple(range(len(have))) else order
                bands[name] = tuple(have[i] for i in order)
            elif have and model.takes_other_bands(name):
                channels[name], bands[name] = None, have
            else:
                raise UsageError(
                    f"{where}: needs {', '.join(lacking)} of {name}, which the data "
                    f"{'lacks' if have else 'lacks as a whole'}; read it (data.bands, "
                    f"data.modalities), or adapt the model first (fm.adapt.to_bands)"
                )
    return Look(model, channels, bands)


def matched(
    student: Sequence[str], teacher: Sequence[str], told: Mapping[str, str] | None
) -> dict[str, str]:
    """Say from which token group of its teacher each group of a student learns.

    All groups of a sample show the same ground: one of the teacher's serves all of the student's.

    Args:
        student: names of its groups.
        teacher: likewise, those that are there.
        told: by `objective.groups`.

    Raises:
        UsageError: not told and not to be seen by the names, or told of groups that are not there.
    """
    told = told or {}
    if wrong := sorted((set(told) - set(student)) | (set(told.values()) - set(teacher))):
        raise UsageError(
            f"objective.groups names {wrong[0]}; the student has {', '.join(student)}, the "
            f"teacher {', '.join(teacher)}"
        )
    found = {}
    for name in student:
        if name in told:
            found[name] = told[name]
        elif name in teacher:
            found[name] = name
        elif len(teacher) == 1:
            found[name] = teacher[0]
        else:
            raise UsageError(
                f"objective.groups: the teacher's groups are {', '.join(teacher)}; say which of "
                f"them {name} of the student learns from"
            )
    return found
