"""Weights of others: recognised by their keys, converted key by key, reported.

Read in this order: `reading` (files, safely), `networks` (one of several), `shapes` and `recognise`
(sizes and family), `convert` (rules and the strict check), `families` (one file each), `report`;
`inventory` holds the released layouts, `catalogue` what is known of released files.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fm.card import Card
from fm.errors import FMError, UsageError, suggest
from fm.foreign import catalogue
from fm.foreign.bands import on_grid
from fm.foreign.channels import without_zero_channels
from fm.foreign.convert import Choice, convert
from fm.foreign.families import PLANS
from fm.foreign.reading import MAX_BYTES, MAX_TENSORS, Reading, read
from fm.foreign.recognise import FAMILIES, Recognised, recognise, whole
from fm.foreign.report import Entry, Report
from fm.models import Backbone
from fm.models.inputs import Scaling
from fm.normalize import Normalisation
from fm.sensors import Band, sensor_of_modality

__all__ = [
    "Entry",
    "Recognised",
    "Report",
    "inspect",
    "load",
    "on_grid",
    "read",
    "recognise",
]

_ALIKE = {"vit": ("scale_mae", "satmaepp_rgb")}
"""Families that a file cannot always be told from: the caller may name them."""


def inspect(
    source: str | os.PathLike[str] | Mapping[str, Any],
    *,
    part: str | None = None,
    max_bytes: int = MAX_BYTES,
) -> tuple[Reading, Recognised]:
    """Read a weight file and tell what it is; nothing of it is run.

    Raises:
        FMError: see `reading.read` and `recognise.recognise`.
    """
    reading = read(source, part=part, max_bytes=max_bytes)
    return reading, recognise(reading.state, reading.where)


def load(
    source: str | os.PathLike[str] | Mapping[str, Any],
    *,
    bands: Sequence[Band] | Mapping[str, Sequence[Band]] | None = None,
    normalisation: Normalisation | Mapping[str, Normalisation] | str | None = None,
    scaling: Scaling | None = None,
    known: str | None = None,
    family: str | None = None,
    heads: int | None = None,
    pooling: str | None = None,
    token_groups: Mapping[str, Sequence[str]] | None = None,
    channel_order: str | None = None,
    reference_gsd_m: float | None = None,
    layer: str | None = None,
    wavelength_range_nm: Sequence[float] | None = None,
    perception_m: float | None = None,
    position_resize: str | None = None,
    licence: str | None = None,
    part: str | None = None,
    max_bytes: int = MAX_BYTES,
    max_tensors: int = MAX_TENSORS,
) -> tuple[Backbone, Report]:
    """Load a foreign checkpoint as one of our backbones.

    What the file cannot say is an argument; what is needed and not given is an error that names
    it, never a guess.

    Args:
        source: a safetensors or torch file, or a state dict.
        bands: the bands of the file's channels, in the file's order, on the grid that it takes
            them (`on_grid` puts a sensor's bands on one grid); several modalities as a mapping.
        normalisation: of those bands, in physical units; `Normalisation.identity(n)` for pixels
            that come normalised already; of `known` weights the name of one, where several
            circulate.
        scaling: modality to (scale, offset) of integer pixels; the sensor table's when None.
        known: name of released weights in the catalogue (`fm.foreign.catalogue`), which says what
            the file cannot; other arguments go before it.
        family: needed only where families look alike (`scale_mae`'s encoder is a plain ViT's).
        heads: attention heads; no shape depends on them.
        pooling: `mean` or `cls`, of files with a `norm`; `mean` when None.
        token_groups: group to band names, of files with grouped channels.
        channel_order: `rgb` or `bgr` (what the file's columns are, with `bands` listed red, green,
            blue), or `reversed`.
        reference_gsd_m: sampling distance that Scale-MAE's positions count as 1.
        layer: `v2` or `v1` of DOFA's generator.
        wavelength_range_nm: smallest and largest wavelength of the data that LESS ViT's rotations
            were trained on.
        perception_m: radius of LESS ViT's perception field in metres, 0 for none.
        position_resize: how a learned position table is fitted to other grids, `timm` or
            `dinov2` (`fm.models.positions.resized_positions`); timm's way when None.
        licence: SPDX name for the card.
        part: entry of the file that holds the weights, or network, where there are several.
        max_bytes: see `reading.read`.
        max_tensors: see `reading.read`.

    Returns:
        the model in `eval()`, its card naming the file's hash and family as parent, and what
        became of every key.

    Raises:
        FMError: the file cannot be read safely, is of no known family, or is not whole.
        UsageError: an argument is missing or does not fit the file.
    """
    item = None if known is None else catalogue.known(known)
    network = None if item is None else item.network
    reading = read(source, part=part, network=network, max_bytes=max_bytes, max_tensors=max_tensors)
    published: Mapping[str, Any] = {} if item is None else item.arguments

    def said(name: str, given: Any) -> Any:
        return published.get(name) if given is None else given

    found = _family(recognise(reading.state, reading.where), said("family", family), reading.where)
    if item is not None:
        item.check(found, reading.where)
        reading = without_zero_channels(reading, item.zero_channels)
        found = recognise(reading.state, reading.where) if item.zero_channels else found
        bands = item.band_list() if bands is None else bands
        if normalisation is None or isinstance(normalisation, str):
            name, normalisation = item.normaliser(normalisation)
            reading = replace(reading, notes=reading.notes + item.notes(name, reading.sha256))
    if isinstance(normalisation, str):
        raise UsageError(
            f"normalisation={normalisation!r}: a name is of known weights; give known="
        )
    if bands is None:
        raise UsageError(f"{reading.where}: the file cannot say its bands; give bands= or known=")
    if not found.convertible:
        notes = f" ({'; '.join(found.notes)})" if found.notes else ""
        raise FMError(
            f"{reading.where}: recognised as {found.family}, which eofm does not convert{notes}"
        )
    choice = Choice(
        *_described(bands, normalisation, scaling, reading.where),
        heads=said("heads", heads),
        pooling=said("pooling", pooling),
        token_groups=said("token_groups", token_groups),
        channel_order=said("channel_order", channel_order),
        reference_gsd_m=said("reference_gsd_m", reference_gsd_m),
        layer=said("layer", layer),
        wavelength_range_nm=said("wavelength_range_nm", wavelength_range_nm),
        perception_m=said("perception_m", perception_m),
        position_resize=said("position_resize", position_resize),
    )
    with whole(found.family, reading.where):
        plan = PLANS[found.family](reading, found, choice)
    model, report = convert(reading, found.family, plan, choice)
    model.card = Card(
        name=found.family if item is None else item.name,
        architecture=model.architecture,
        bands=model.bands,
        normalisation=model.normalisation,
        scaling=model.scaling,
        objective={} if item is None else {"published": item.objective},
        data={} if item is None else {"published": item.data},
        licence=licence or ("unknown" if item is None else item.licence),
        parent=f"{found.family}, sha256 {reading.sha256 or 'unknown: given in memory'}",
    )
    return model, report


def _family(found: Recognised, wanted: str | None, where: str) -> Recognised:
    if wanted is None or wanted == found.family:
        return found
    if wanted not in FAMILIES:
        raise UsageError(f"there is no family {wanted!r}; {suggest(wanted, FAMILIES)}")
    if wanted not in _ALIKE.get(found.family, ()):
        raise UsageError(f"{where}: the keys are those of {found.family}, not of {wanted}")
    signature = FAMILIES[wanted]
    return replace(found, family=wanted, unsaid=signature.unsaid, notes=signature.notes)


def _described(
    bands: Sequence[Band] | Mapping[str, Sequence[Band]],
    normalisation: Normalisation | Mapping[str, Normalisation] | None,
    scaling: Scaling | None,
    where: str,
) -> tuple[dict[str, tuple[Band, ...]], dict[str, Normalisation], dict[str, tuple[float, float]]]:
    if isinstance(bands, Mapping):
        listed = {modality: tuple(items) for modality, items in bands.items()}
    else:
        listed = {}
        for band in bands:
            listed[band.modality] = (*listed.get(band.modality, ()), band)
    if not listed or not all(listed.values()) or "" in listed:
        raise UsageError(f"{where}: bands= names no modality; see fm.foreign.on_grid")
    if normalisation is None:
        raise UsageError(
            f"{where}: the file cannot say how its pixels are normalised; give normalisation= "
            f"(Normalisation.identity(n) for pixels that come normalised)"
        )
    if isinstance(normalisation, Normalisation):
        if len(listed) > 1:
            raise UsageError(f"{where}: give normalisation= for each of {', '.join(listed)}")
        normalisation = {next(iter(listed)): normalisation}
    for modality, items in listed.items():
        given = normalisation.get(modality)
        if given is None or len(given) != len(items):
            raise UsageError(
                f"{where}: normalisation of {modality} is of {len(given) if given else 0} bands, "
                f"the file takes {len(items)}"
            )
    if scaling is None:
        sensors = {modality: sensor_of_modality(modality) for modality in listed}
        scaling = {m: (s.scale, s.offset) for m, s in sensors.items()}
    return listed, dict(normalisation), dict(scaling)
