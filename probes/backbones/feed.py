"""How the pixels of one benchmark come to one model: bands, normaliser, size; and the record of it.

Nothing here is silent: every choice is in `record`, what a reader has to know is in `notes`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fm.errors import UsageError
from fm.models.embed.patches import to_physical
from fm.models.inputs import normalisation_at
from fm.normalize import Normalisation
from fm.sensors import Band
from probes.backbones.adapter import Adapter
from probes.backbones.align import Source, align, table
from probes.backbones.look import look, seen
from probes.backbones.numbers import Range, full_scale, of_data, train_ranges
from probes.backbones.resize import filled, resized, target
from probes.benchmarks.base import Data, Inputs
from probes.result import WARNING
from probes.settings.features import Axes

Scaling = Mapping[str, tuple[float, float]]


class ForeignFeed:
    """Pixels of one or more modalities to the one image that an `Adapter` takes.

    Args:
        model: the adapter.
        bands: modality to the band names of the data's arrays.
        scaling: modality to (scale, offset) of stored integers.
        where: benchmark, for errors.
        axes: the choices.
        dtypes: modality to the stored type.
        ranges: of the training split, where the normaliser needs them.

    Attributes:
        record: plain values for `Result.axes` and for the name of a cache entry.
        notes: what a reader of the numbers has to know.

    Raises:
        UsageError: bands, units or scales that are missing or do not go together.
    """

    def __init__(
        self,
        model: Adapter,
        bands: Mapping[str, Sequence[str]],
        scaling: Scaling,
        *,
        where: str,
        axes: Axes | None = None,
        dtypes: Mapping[str, np.dtype],
        ranges: Mapping[str, Range] | None = None,
    ) -> None:
        self.axes = axes = axes or Axes()
        self.bands = {m: tuple(names) for m, names in bands.items()}
        self.scaling = dict(scaling)
        for modality in self.bands:
            if np.dtype(dtypes[modality]).kind != "f" and modality not in self.scaling:
                raise UsageError(
                    f"{where}: the stored numbers of {modality} have no declared scale and "
                    f"offset; give scaling="
                )
        listed = table(self.bands)
        self.sources = align(model.intake.bands, listed, axes, where=where)
        self.used = tuple(dict.fromkeys(s.modality for s in self.sources if s.given is not None))
        self.notes: list[str] = []
        if axes.normaliser == "model":
            numbers = self._own_numbers(model, dtypes, ranges or {}, where)
        else:
            parts = {m: listed[m] for m in self.used}
            every = of_data(axes.normaliser, parts, dtypes, ranges or {})
            numbers = _pick(every, self.sources)
            if model.intake.normalisation is not None:
                self.notes.append(f"normaliser {axes.normaliser}, not the model's own")
        self.numbers = numbers
        self.record = _record(axes, numbers)
        self.record["bands"] = [source.record() for source in self.sources]
        if model.intake.declared is not None:
            self.record["channels"] = model.intake.declared
            self.notes.append(model.intake.doubt)
        filled_in = [s.wanted.name for s in self.sources if s.by in ("zero", "mean", "nearest")]
        usual = Axes().tolerance_nm
        far = [
            f"{row['model']} from {row['from']} ({row['off_nm']:+g} nm)"
            for row in self.record["bands"]
            if row["by"] == "wavelength" and abs(row["off_nm"]) > usual
        ]
        if far:
            self.notes.append(f"{WARNING}bands far from the model's: {', '.join(far)}")
        if filled_in:
            self.notes.append(
                f"bands the data lacks were filled in ({axes.missing}): {', '.join(filled_in)}"
            )

    def knows(
        self, bands: Mapping[str, Sequence[str]], scaling: Mapping[str, tuple[float, float]] | None
    ) -> bool:
        """Say whether this is the feed of such pixels."""
        same = {m: tuple(names) for m, names in bands.items()} == self.bands
        return same and dict(scaling or {}) == self.scaling

    def image(self, pixels: Mapping[str, Tensor], valid: Mapping[str, Tensor] | None) -> Tensor:
        """Align, normalise and resize.

        Args:
            pixels: modality to `[B, C, H, W]`.
            valid: modality to `[B, H, W]` bool; None when all are valid.

        Returns:
            `[B, K, h, w]` float32 in the order of the network's channels.
        """
        absent = [m for m in self.used if m not in pixels]
        if absent:
            raise UsageError(f"no pixels of {', '.join(absent)}, which the model's bands come from")
        device = next(iter(pixels.values())).device
        with torch.autocast(device.type, enabled=False):
            return self._image(pixels, valid)

    def _image(self, pixels: Mapping[str, Tensor], valid: Mapping[str, Tensor] | None) -> Tensor:
        finest = max(self.used, key=lambda m: pixels[m].shape[-2])
        height, width = pixels[finest].shape[-2:]
        size = target(height, width, self.axes.resize)
        planes: dict[int, Tensor] = {}
        for modality in self.used:
            places = [
                k
                for k, s in enumerate(self.sources)
                if s.given is not None and s.modality == modality
            ]
            x = pixels[modality][:, [self.sources[k].channel for k in places]]
            if x.shape[1] != len(places) or pixels[modality].shape[1] != len(self.bands[modality]):
                raise UsageError(
                    f"{modality}: {pixels[modality].shape[1]} channels for the bands "
                    f"{', '.join(self.bands[modality])}"
                )
            x = to_physical(x, *self.scaling.get(modality, (1.0, 0.0)))
            mask = None if valid is None else valid.get(modality)
            norm = self.numbers.select(places)
            made = _shaped(x, mask, norm, size, self.axes)
            for n, k in enumerate(places):
                planes[k] = made[:, n]
        present = torch.stack([planes[k] for k in sorted(planes)], dim=1)
        neutral = (
            present.mean(1) if self.axes.missing == "mean" else torch.zeros_like(present[:, 0])
        )
        return torch.stack([planes.get(k, neutral) for k in range(len(self.sources))], dim=1)

    def values(self, inputs: Inputs) -> list[tuple[str, Tensor]]:
        """What each of the model's bands that the data has would get of some samples."""
        pixels = {m: torch.from_numpy(np.ascontiguousarray(x)) for m, x in inputs.pixels.items()}
        valid = None
        if inputs.valid is not None:
            valid = {m: torch.from_numpy(x) for m, x in inputs.valid.items()}
        image = self.image(pixels, valid)
        real = [(k, s) for k, s in enumerate(self.sources) if s.given is not None]
        return [(s.wanted.name, image[:, k]) for k, s in real]

    def _own_numbers(
        self,
        model: Adapter,
        dtypes: Mapping[str, np.dtype],
        ranges: Mapping[str, Range],
        where: str,
    ) -> Normalisation:
        wants = model.intake
        if wants.normalisation is None or wants.unit is None:
            raise UsageError(
                f"{where}: nobody says how {model.card.name} normalises pixels; give --normaliser "
                f"zscore, minmax, divide or identity"
            )
        shift, scale = list(wants.normalisation.shift), list(wants.normalisation.scale)
        shares = set()
        for k, source in enumerate(self.sources):
            if source.given is None:
                continue
            band = source.given
            full = 1.0
            if wants.unit == "display":
                highs = ranges.get(source.modality)
                high = highs.high[source.channel] if highs is not None else None
                full = full_scale(band, dtypes.get(source.modality), high)
                if full != 255.0:
                    shares.add(f"{source.modality} ({band.unit})")
            elif band.unit != wants.unit:
                raise UsageError(
                    f"{where}: {model.card.name} was normalised in {wants.unit} and "
                    f"{source.modality} is in {band.unit}; give --normaliser zscore or minmax"
                )
            shift[k], scale[k] = shift[k] * full, scale[k] * full
        if shares:
            self.notes.append(
                f"the model's normaliser is of 8-bit pictures; values of {', '.join(shares)} came "
                f"as a share of 10 000 stored, which is darker: compare --normaliser zscore"
            )
        return Normalisation(wants.normalisation.kind, tuple(shift), tuple(scale))


class OwnFeed:
    """Pixels to one of our backbones (`fm.models.Backbone`) by other axes than its own.

    Bands stay what they are; pixels come out normalised and resized, as floats.

    Args:
        model: has `bands`, `normalisation` and `groups`.
        bands: modality to the band names of the data's arrays.
        scaling: modality to (scale, offset) of stored integers.
        where: benchmark, for errors.
        axes: the choices.
        dtypes: modality to the stored type.
        ranges: of the training split, where the normaliser needs them.

    Raises:
        UsageError: an axis that the model cannot have.
    """

    def __init__(
        self,
        model: Any,
        bands: Mapping[str, Sequence[str]],
        scaling: Scaling,
        *,
        where: str,
        axes: Axes,
        dtypes: Mapping[str, np.dtype],
        ranges: Mapping[str, Range],
    ) -> None:
        self.axes, self.scaling = axes, dict(scaling)
        self.where = where
        self.bands = {m: tuple(names) for m, names in bands.items()}
        listed = table(self.bands)
        if axes.missing != "refuse":
            raise UsageError(
                f"{where}: --missing {axes.missing} is for foreign backbones; a checkpoint of "
                f"ours takes other bands by --adapt"
            )
        self.notes: list[str] = []
        if axes.normaliser == "model":
            self.numbers = {m: own_numbers(model, m, items) for m, items in listed.items()}
        else:
            self.numbers = of_data(axes.normaliser, listed, dtypes, ranges)
            self.notes.append(f"normaliser {axes.normaliser}, not the one in the model's card")
        self.plain = axes == Axes()
        self.record = _record(axes, None)
        self.record["bands"] = {m: list(names) for m, names in self.bands.items()}
        if axes.normaliser != "model":
            self.record["numbers"] = {m: n.to_dict() for m, n in self.numbers.items()}
        if axes.resize is not None:
            self.notes.append(f"images resized to {axes.resize} px, not the model's own metres")

    def inputs(self, given: Inputs) -> Inputs:
        """Return normalised and resized pixels with their masks.

        Raises:
            UsageError: a grid that does not come out at a whole number of pixels.
        """
        finest = max(given.pixels.values(), key=lambda x: x.shape[-2])
        height, width = finest.shape[-2:]
        size = target(height, width, self.axes.resize)
        pixels, masks = {}, {}
        for modality, array in given.pixels.items():
            own = array.shape[-2] * size[0] / height, array.shape[-1] * size[1] / width
            if any(side != int(side) for side in own):
                raise UsageError(
                    f"{self.where}: --resize {self.axes.resize} makes {own[0]:.1f} px of "
                    f"{modality}; give a multiple of {height} or of what its grids share"
                )
            x = torch.from_numpy(np.ascontiguousarray(array))
            x = to_physical(x, *self.scaling.get(modality, (1.0, 0.0)))
            valid = None
            if given.valid is not None:
                valid = torch.from_numpy(np.ascontiguousarray(given.valid[modality]))
            norm = self.numbers[modality]
            shape = int(own[0]), int(own[1])
            if self.axes.order == "normalise-first":
                made, mask = resized(norm(x, band_axis=1), valid, shape, self.axes)
            else:
                made, mask = resized(x, valid, shape, self.axes)
                made = norm(made, band_axis=1)
            pixels[modality] = made.numpy()
            if mask is not None:
                masks[modality] = mask.numpy()
        return Inputs(pixels, masks if given.valid is not None else None)

    def values(self, inputs: Inputs) -> list[tuple[str, Tensor]]:
        """What each band would be given as, valid pixels alone."""
        made = self.inputs(inputs)
        found = []
        for modality, names in self.bands.items():
            x = torch.from_numpy(made.pixels[modality])
            for c, name in enumerate(names):
                seen = x[:, c]
                if made.valid is not None:
                    seen = seen[torch.from_numpy(made.valid[modality])]
                found.append((name, seen))
        return found

    def options(self) -> dict[str, Any]:
        """What `encode` must be told: the pixels are normalised already."""
        return {"normalisation": {m: Normalisation.identity(len(n)) for m, n in self.bands.items()}}


def make_feed(model: Any, data: Data, axes: Axes, *, benchmark: str) -> "ForeignFeed | OwnFeed":
    """Decide how a benchmark's pixels come to a model, and look at some of them.

    Raises:
        UsageError: see the two feeds; values that cannot be what their unit says.
    """
    first = data.read(seen(data)[:1])
    dtypes = {m: x.dtype for m, x in first.pixels.items()}
    foreign = isinstance(model, Adapter)
    needs = axes.normaliser in ("zscore", "minmax")
    if axes.normaliser in ("model", "divide", "seco") and (foreign or axes.normaliser != "model"):
        units = {b.unit for items in table(data.bands).values() for b in items}
        kinds = {x.dtype.kind for x in first.pixels.values()}
        needs = "dn" in units and "f" in kinds  # the range of floats is known by looking alone
    ranges = train_ranges(data) if needs else {}
    common: dict[str, Any] = {
        "where": benchmark,
        "axes": axes,
        "dtypes": dtypes,
        "ranges": ranges,
    }
    feed: ForeignFeed | OwnFeed
    if foreign:
        feed = ForeignFeed(model, data.bands, data.scaling, **common)
    else:
        if not getattr(model, "normalisation", None):
            raise UsageError(
                f"{benchmark}: {type(model).__name__} does not say how it normalises pixels, so "
                f"its axes cannot be changed"
            )
        feed = OwnFeed(model, data.bands, data.scaling, **common)
    measured, notes = look(feed.values, data, benchmark)
    feed.record["input"] = measured
    feed.notes += notes
    return feed


def own_numbers(model: Any, modality: str, bands: Sequence[Band]) -> Normalisation:
    """The normalisation of one of our backbones in the order of the data's bands."""
    own = model.bands[modality]
    places = {band.name: n for n, band in enumerate(own)}
    found: Normalisation = model.normalisation[modality]
    if all(band.name in places for band in bands):
        return found.select([places[band.name] for band in bands])
    return normalisation_at(found, own, bands, modality)[0]


def _shaped(
    x: Tensor, mask: Tensor | None, norm: Normalisation, size: tuple[int, int], axes: Axes
) -> Tensor:
    if axes.order == "normalise-first":
        made, valid = resized(norm(x, band_axis=1), mask, size, axes)
        return filled(made, valid)
    made, valid = resized(x, mask, size, axes)
    return filled(norm(made, band_axis=1), valid)


def _pick(numbers: Mapping[str, Normalisation], sources: Sequence[Source]) -> Normalisation:
    """One normalisation in the order of a model's channels; filled-in ones are left as they are."""
    shift, scale = [], []
    for source in sources:
        part = numbers.get(source.modality) if source.given is not None else None
        shift.append(0.0 if part is None else part.shift[source.channel])
        scale.append(1.0 if part is None else part.scale[source.channel])
    kind = next(iter(numbers.values())).kind
    return Normalisation(kind, tuple(shift), tuple(scale))


def _record(axes: Axes, numbers: Normalisation | None) -> dict[str, Any]:
    record: dict[str, Any] = axes.model_dump(mode="json")
    if numbers is not None:
        record["numbers"] = numbers.to_dict()
    return record
