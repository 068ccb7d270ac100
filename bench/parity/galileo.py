"""Galileo: `single_file_galileo.py` of github.com/nasaharvest/galileo, `encoder.pt` of a model.

`config.json` must lie beside the weights, as it was released.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.parity.authors import Row, as_released, beside, drawn, index, module
from bench.parity.presto import BANDS as PRESTO
from fm import adapt
from fm.errors import FMError
from fm.models.galileo import CROPS, WORLD

BANDS = {
    **PRESTO,
    **beside("monthly_10", dict.fromkeys(("def", "soil", "aet", "avg_rad"), "")),
    **beside("maps_10", dict.fromkeys((*WORLD, *CROPS), "")),
    **beside(
        "still_10",
        dict.fromkeys(("population", *(f"{name}_static" for name in (*WORLD, *CROPS))), ""),
    ),
}
MONTHS = ((11, 12, 1), (6, 7, 9))
TOKENS, OWN_PATCH = 2, 8
GIVEN: dict[str, tuple[str, ...]] = {
    "all groups": tuple(BANDS),
    "Sentinel-2 alone": ("s2l1c_10",),
    "radar, terrain, weather": ("s1grd_10", "srtm_10", "era5_10"),
}
CASES = [
    *(("all groups", patch, gsd, True) for patch in (1, 2, 3, 4, 6, 8, 12) for gsd in (10, 30)),
    *((what, 8, 10, placed) for what in GIVEN for placed in (True, False)),
]
"""What is given, pixels along a patch, metres of a pixel, whether the place is known."""


def compare(name: str, code: Path, weights: Path) -> Iterator[Row]:
    """Compare the vectors of patches and of the whole, over patches, pixels and groups."""
    single = module(code, "single_file_galileo")
    if not (weights.parent / "config.json").is_file():
        raise FMError(f"{weights.parent}: no config.json beside the weights, as it was released")
    encoder = single.Encoder.load_from_folder(weights.parent, torch.device("cpu")).eval()
    ours, lonlat = as_released(name, weights, BANDS)
    times = torch.tensor(
        [[datetime(2021, m, 9, tzinfo=UTC).timestamp() for m in row] for row in MONTHS],
        dtype=torch.float64,
    )
    for what, patch, gsd, placed in dict.fromkeys(CASES):
        side = TOKENS * patch
        pixels = drawn(BANDS, len(MONTHS), len(MONTHS[0]), side, side)
        sized = ours if patch == OWN_PATCH else adapt.to_size(ours, patch_size=patch)[0]
        with torch.inference_mode():
            out = encoder(
                *_values(single, pixels, lonlat),
                *_hidden(single, pixels, GIVEN[what], placed),
                torch.tensor(MONTHS) - 1,
                patch_size=patch,
                input_resolution_m=gsd,
            )
            found = sized.encode(
                {m: pixels[m] for m in GIVEN[what]},
                times=times,
                lonlat=lonlat if placed else None,
                gsd=dict.fromkeys(GIVEN[what], float(gsd)),
            )
        words = f"{what}{'' if placed else ', no place'}, {patch} px of {gsd} m"
        by_patch = encoder.apply_mask_and_average_tokens_per_patch(*out[:8])
        yield Row.of(f"{words}: patches", found.tokens, by_patch)
        yield Row.of(f"{words}: pooled", found.pooled, encoder.average_tokens(*out[:8]))


def _values(single: Any, pixels: Mapping[str, Tensor], lonlat: Tensor) -> tuple[Tensor, ...]:
    """Their four inputs, of space and time, space, time and neither, by their lists of bands."""
    maps = {band.name: pixels[m][:, :, c] for m, b in BANDS.items() for c, band in enumerate(b)}
    maps["NDVI"] = index(maps["B04"], maps["B08"])
    lon, lat = torch.deg2rad(lonlat).float().unbind(1)
    ball = {"x": lat.cos() * lon.cos(), "y": lat.cos() * lon.sin(), "z": lat.sin()}
    of = _names(single)
    images = {name: x.mean(dim=(2, 3)) for name, x in maps.items()}
    still = {name: x[:, 0] for name, x in images.items()} | ball
    return (
        torch.stack([maps[n].permute(0, 2, 3, 1) for n in of["space_time"]], dim=-1),
        torch.stack([maps[n][:, 0] for n in of["space"]], dim=-1),
        torch.stack([images[n] for n in of["time"]], dim=-1),
        torch.stack([still[n] for n in of["static"]], dim=-1),
    )


def _hidden(
    single: Any, pixels: Mapping[str, Tensor], given: tuple[str, ...], placed: bool
) -> tuple[Tensor, ...]:
    """Their four masks: a group is hidden where its first band is not given."""
    known = {band.name for m in given for band in BANDS[m]}
    known |= {"NDVI"} if "B04" in known else set()
    known |= {"x"} if placed else set()
    batch, images, _, height, width = next(iter(pixels.values())).shape
    shapes = {
        "space_time": (batch, height, width, images),
        "space": (batch, height, width),
        "time": (batch, images),
        "static": (batch,),
    }
    made = []
    for kind, shape in shapes.items():
        groups = getattr(single, _TABLES[kind]).values()
        hidden = [float(_names(single)[kind][of[0]] not in known) for of in groups]
        made.append(torch.tensor(hidden).expand(*shape, -1))
    return tuple(made)


_TABLES = {
    "space_time": "SPACE_TIME_BANDS_GROUPS_IDX",
    "space": "SPACE_BAND_GROUPS_IDX",
    "time": "TIME_BAND_GROUPS_IDX",
    "static": "STATIC_BAND_GROUPS_IDX",
}
_LISTS = {kind: f"{kind.upper()}_BANDS" for kind in _TABLES}
_OURS = {
    **{f"B{number}": f"B0{number}" for number in range(2, 9)},
    "total_precipitation_sum": "total_precipitation",
    "b1": "population",
}
"""Their name of a band to ours, where they differ."""


def _names(single: Any) -> dict[str, list[str]]:
    """Their lists of bands, by our names."""
    return {k: [_OURS.get(n, n) for n in getattr(single, of)] for k, of in _LISTS.items()}
