"""Bands as foreign models take them: often all of a sensor on one grid."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fm.errors import FMError, UsageError
from fm.files import read_json
from fm.models.layout import group_of
from fm.normalize import Normalisation
from fm.sensors import Band, sensor


def on_grid(bands: Sequence[Band], gsd_m: float) -> dict[str, tuple[Band, ...]]:
    """Put bands of one sensor on one grid, as models take them that resample first.

    Args:
        bands: in the order of the file's channels.
        gsd_m: metres of the grid; one of the sensor's own, so that its modality has a name.

    Returns:
        one modality, `<sensor and level>_<gsd_m>`, to the bands.

    Raises:
        UsageError: bands of several sensors, or none.
    """
    families = {group_of(band.modality) for band in bands}
    if len(families) != 1 or "" in families:
        raise UsageError(
            f"on_grid: bands of one sensor and level, got {sorted(families) or 'none'}"
        )
    if len({band.modality for band in bands}) == 1 and {band.gsd_m for band in bands} == {gsd_m}:
        return {bands[0].modality: tuple(bands)}  # as they lie, whatever the name says of the grid
    modality = f"{families.pop()}_{gsd_m:g}"
    return {modality: tuple(replace(b, gsd_m=float(gsd_m), modality=modality) for b in bands)}


def parse(text: str, *, native: bool = False) -> dict[str, tuple[Band, ...]]:
    """Read `SENSOR[:BAND,BAND,...][@METRES]`, such as `sentinel2-l1c:B04,B03,B02@10`.

    Args:
        text: see above.
        native: bands of several grids and no `@` are those of several modalities.

    Returns:
        modality to bands.

    Raises:
        UsageError: not of that form, an unknown sensor or band, or several grids and no `@`.
    """
    head, _, metres = text.partition("@")
    name, _, names = head.partition(":")
    bands = sensor(name).select(names.split(",")) if names else sensor(name).bands
    if not metres and native:
        return replace(sensor(name), bands=tuple(bands)).modalities
    if not metres:
        grids = sorted({band.gsd_m for band in bands})
        if len(grids) > 1:
            raise UsageError(
                f"--bands {text}: bands on grids of {', '.join(f'{g:g}' for g in grids)} m; "
                f"add the one the file takes, as @{grids[0]:g}"
            )
        return on_grid(bands, grids[0])
    try:
        gsd_m = float(metres)
    except ValueError:
        gsd_m = math.nan
    if not 0 < gsd_m < math.inf:
        raise UsageError(f"--bands {text}: {metres!r} is no number of metres")
    return on_grid(bands, gsd_m)


def parse_groups(text: str) -> dict[str, list[str]]:
    """Read `g0=B02,B03;g1=B05`.

    Raises:
        UsageError: not of that form.
    """
    result: dict[str, list[str]] = {}
    for part in text.split(";"):
        name, found, names = part.partition("=")
        if not found or not name.strip() or not names.strip():
            raise UsageError(f"--groups {text!r}: write NAME=BAND,BAND;NAME=BAND")
        result[name.strip()] = [item.strip() for item in names.split(",")]
    return result


def parse_normalisation(text: str, counts: dict[str, int]) -> dict[str, Normalisation]:
    """Read `identity`, or a JSON file of one normalisation or one a modality.

    Args:
        text: the word or the file.
        counts: modality to number of bands.

    Raises:
        FMError: no such file, or not of that form.
    """
    if text == "identity":
        return {modality: Normalisation.identity(n) for modality, n in counts.items()}
    values = read_json(Path(text), "normalisation")
    if not isinstance(values, dict):
        raise FMError(f"{text}: expected {json.dumps({'kind': '...', 'shift': [], 'scale': []})}")
    if "kind" in values and len(counts) == 1:
        return {next(iter(counts)): _normalisation(text, values)}
    if missing := sorted(set(counts) - set(values)):
        raise FMError(f"{text}: no normalisation of {', '.join(missing)}")
    return {modality: _normalisation(text, values[modality]) for modality in counts}


def _normalisation(text: str, values: Any) -> Normalisation:
    if not isinstance(values, dict):
        raise FMError(f"{text}: a normalisation has the keys kind, shift, scale; got {values!r}")
    try:
        return Normalisation.from_dict(values)
    except FMError as error:
        raise FMError(f"{text}: {error}") from None
