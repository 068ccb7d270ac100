"""Presto: `single_file_presto.py` and `data/default_model.pt` of github.com/nasaharvest/presto."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor

from bench.parity.authors import Row, as_released, beside, drawn, index, module
from fm import foreign
from fm.sensors import sensor

OPTICAL = ["B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"]
BANDS = {
    **foreign.on_grid(sensor("sentinel1-grd").bands, 10),
    **foreign.on_grid(sensor("sentinel2-l1c").select(OPTICAL), 10),
    **beside("era5_10", {"temperature_2m": "K", "total_precipitation": "m"}),
    **beside("srtm_10", {"elevation": "m", "slope": "degree"}),
}
"""In the order of their channels, of which NDVI is the last."""
GIVEN: dict[str, tuple[str, ...]] = {
    "all bands": tuple(BANDS),
    "Sentinel-2 alone": ("s2l1c_10",),
    "Sentinel-1 and weather": ("s1grd_10", "era5_10"),
}
NO_CLASS = 9
"""What their code takes for an image without a class of Dynamic World."""
BATCH, IMAGES, HEIGHT, WIDTH = 2, 12, 2, 3


def compare(name: str, code: Path, weights: Path) -> Iterator[Row]:
    """Compare the vectors of pixels, with all bands and with some, at other places and months."""
    network = module(code, "single_file_presto").Presto.construct()
    network.load_state_dict(foreign.read(weights).state)
    encoder = network.encoder.eval()
    ours, lonlat = as_released(name, weights, BANDS)
    pixels = drawn(BANDS, BATCH, IMAGES, HEIGHT, WIDTH)
    pixels["srtm_10"] = pixels["srtm_10"][:, :1].expand_as(pixels["srtm_10"]).contiguous()
    for first in ((0, 6), (3, 9)):
        times = _times(first)
        for what, modalities in GIVEN.items():
            with torch.inference_mode():
                theirs = encoder(
                    _channels(pixels),
                    torch.full((BATCH * HEIGHT * WIDTH, IMAGES), NO_CLASS),
                    lonlat.flip(1).float().repeat_interleave(HEIGHT * WIDTH, 0),
                    mask=_hidden(modalities),
                    month=torch.tensor(first).repeat_interleave(HEIGHT * WIDTH),
                )
                given = {m: pixels[m] for m in modalities}
                found = ours.encode(given, times=times, lonlat=lonlat)
            words = f"{what}, {BATCH} series of {IMAGES} months from {first[0] + 1}, {first[1] + 1}"
            yield Row.of(words, found.tokens.flatten(0, 1), theirs)


def _channels(pixels: dict[str, Tensor]) -> Tensor:
    """Their input: `[pixels, T, 17]`."""
    x = torch.cat([pixels[m] for m in BANDS], dim=2)
    x = torch.cat([x, index(x[:, :, 4], x[:, :, 8])[:, :, None]], dim=2)
    return x.permute(0, 3, 4, 1, 2).reshape(-1, IMAGES, x.shape[2])


def _hidden(modalities: Sequence[str]) -> Tensor:
    """Their mask of what is not given; NDVI is known with Sentinel-2."""
    hidden = [m not in modalities for m, items in BANDS.items() for _ in items]
    hidden.append("s2l1c_10" not in modalities)
    return torch.tensor(hidden).float().expand(BATCH * HEIGHT * WIDTH, IMAGES, -1)


def _times(first: Sequence[int]) -> Tensor:
    """Seconds of the fifth of each month, from the given ones on (0 is January)."""
    return torch.tensor(
        [
            [
                datetime(2020 + (m + t) // 12, (m + t) % 12 + 1, 5, tzinfo=UTC).timestamp()
                for t in range(IMAGES)
            ]
            for m in first
        ],
        dtype=torch.float64,
    )
