"""Presto: outputs by its own keys, token by token, and what is left out."""

import math
from datetime import UTC, datetime

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from fm import checkpoint, foreign
from fm.errors import UsageError
from fm.foreign.inventory import inventory
from fm.normalize import Normalisation
from tests.fm.foreign.states import AS_THEY_ARE, PIXELS, identity

HEADS, IMAGES, SIDE = 2, 5, 2
LONLAT = torch.tensor([[13.4, 52.5], [-70.7, -33.4]], dtype=torch.float64)
MONTHS = ((11, 12, 1, 2, 4), (6, 7, 8, 9, 10))
TIMES = torch.tensor(
    [[datetime(2021, month, 9, tzinfo=UTC).timestamp() for month in row] for row in MONTHS],
    dtype=torch.float64,
)
ORDER = ("S1", "S2_RGB", "S2_Red_Edge", "S2_NIR_10m", "S2_NIR_20m", "S2_SWIR", "ERA5", "SRTM")
NAMES = {
    "S1": "VV VH",
    "S2_RGB": "B02 B03 B04",
    "S2_Red_Edge": "B05 B06 B07",
    "S2_NIR_10m": "B08",
    "S2_NIR_20m": "B8A",
    "S2_SWIR": "B11 B12",
    "ERA5": "temperature_2m total_precipitation",
    "SRTM": "elevation slope",
}


def state() -> dict[str, Tensor]:
    """Weights of some size under the file's keys, and its fixed codes of months."""
    found = inventory("presto")
    generator = torch.Generator().manual_seed(0)
    made = {}
    for key, shape in found.expand(found.tiny).items():
        value = torch.randn(shape, generator=generator) * (0.6 if len(shape) > 1 else 0.2)
        made[key] = value + 1 if ".norm" in key and key.endswith("weight") else value
    return made


def series() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    made = {
        m: torch.randn(2, IMAGES, len(b), SIDE, SIDE, generator=generator)
        for m, b in PIXELS.items()
    }
    made["s2l1c_10"] = made["s2l1c_10"].abs() * 0.3
    return made


def load(weights: dict[str, Tensor], modalities: tuple[str, ...] = tuple(PIXELS)):
    bands = {m: PIXELS[m] for m in modalities}
    scaling = {m: AS_THEY_ARE[m] for m in modalities}
    return foreign.load(
        weights, bands=bands, normalisation=identity(bands), heads=HEADS, scaling=scaling
    )


def pixel(
    weights: dict[str, Tensor], x: dict[str, Tensor], months: tuple[int, ...], lonlat: Tensor
) -> Tensor:
    """The vector of one pixel, whose bands are series `[T]`; groups without their bands are out."""

    def linear(key: str, value: Tensor) -> Tensor:
        return functional.linear(value, weights[f"{key}.weight"], weights[f"{key}.bias"])

    def norm(key: str, value: Tensor) -> Tensor:
        size = value.shape[-1:]
        return functional.layer_norm(value, size, weights[f"{key}.weight"], weights[f"{key}.bias"])

    lon, lat = (math.radians(float(angle)) for angle in lonlat)
    ball = [math.cos(lat) * math.cos(lon), math.cos(lat) * math.sin(lon), math.sin(lat)]
    tokens = [linear("encoder.latlon_embed", torch.tensor(ball))]
    for number, group in enumerate((*ORDER, "NDVI")):
        if group == "NDVI":
            if "B08" not in x:
                continue
            values = ((x["B08"] - x["B04"]) / (x["B08"] + x["B04"]))[:, None]
        elif NAMES[group].split()[0] not in x:
            continue
        else:
            values = torch.stack([x[name] for name in NAMES[group].split()], dim=1)
        channel = weights["encoder.channel_embed.weight"][number]
        made = linear(f"encoder.eo_patch_embed.{group}", values)
        for at, month in enumerate(months):
            season = weights["encoder.month_embed.weight"][month - 1]
            place = weights["encoder.pos_embed"][0, at]
            if group == "SRTM":
                season, place = torch.zeros_like(season), torch.zeros_like(place)
            if group != "SRTM" or at == 0:
                tokens.append(made[at] + torch.cat([season, channel, place]))
    out = torch.stack(tokens)
    for block in ("encoder.blocks.0",):
        parts = linear(f"{block}.attn.qkv", norm(f"{block}.norm1", out))
        q, k, v = (p.unflatten(-1, (HEADS, -1)).transpose(0, 1) for p in parts.chunk(3, dim=-1))
        share = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(dim=-1)
        out = out + linear(f"{block}.attn.proj", (share @ v).transpose(0, 1).flatten(1))
        inside = functional.gelu(linear(f"{block}.mlp.fc1", norm(f"{block}.norm2", out)))
        out = out + linear(f"{block}.mlp.fc2", inside)
    return norm("encoder.norm", out.mean(dim=0))


def wanted(weights: dict[str, Tensor], x: dict[str, Tensor]) -> Tensor:
    rows = []
    for sample in range(2):
        for place in range(SIDE * SIDE):
            bands = {
                band.name: values[sample, :, number].flatten(1)[:, place]
                for modality, values in x.items()
                for number, band in enumerate(PIXELS[modality])
            }
            rows.append(pixel(weights, bands, MONTHS[sample], LONLAT[sample]))
    return torch.stack(rows).unflatten(0, (2, -1))


def test_outputs_are_those_of_its_own_keys(tmp_path) -> None:
    weights, x = state(), series()
    ours, report = load(weights)
    checkpoint.save(tmp_path / "ours", ours)
    again = checkpoint.load(tmp_path / "ours")
    with torch.no_grad():
        found = again.encode(x, times=TIMES, lonlat=LONLAT)
    told = wanted(weights, x)
    assert told.std() > 0.1
    torch.testing.assert_close(found.tokens, told, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.pooled, told.mean(dim=1), rtol=1e-5, atol=1e-5)
    assert (found.grid, found.images) == ({"pixel": (SIDE, SIDE)}, 1)
    reasons = {entry.reason for entry in report.dropped}
    assert reasons == {"decoder", "classes of Dynamic World, which are labels"}


def test_ndvi_is_of_reflectance_whatever_the_normalisation() -> None:
    """Of bands that are centred, the ratio would mean nothing: their sum is near zero."""
    modality = "s2l1c_10"
    bands = {modality: PIXELS[modality]}
    count = len(PIXELS[modality])
    rule = Normalisation(kind="zscore", shift=(0.2,) * count, scale=(0.1,) * count)
    scaling = {modality: (1e-4, -0.1)}
    model, _ = foreign.load(
        state(), bands=bands, normalisation={modality: rule}, heads=HEADS, scaling=scaling
    )
    stored = ((series()[modality] + 0.11) * 1e4).round().int()
    reflectance = stored * 1e-4 - 0.1
    given = []
    model.eo_patch_embed["NDVI"].register_forward_pre_hook(lambda _, taken: given.append(taken[0]))
    with torch.no_grad():
        model.encode({modality: stored}, times=TIMES, lonlat=LONLAT)
    names = [band.name for band in PIXELS[modality]]
    near, red = (reflectance[:, :, names.index(name)].flatten(2).mT for name in ("B08", "B04"))
    wanted_index = (near - red) / (near + red)
    torch.testing.assert_close(given[0][..., 0], wanted_index, rtol=1e-4, atol=1e-4)


def test_groups_that_are_not_given_have_no_tokens() -> None:
    weights, x = state(), series()
    ours, _ = load(weights)
    alone, report = load(weights, ("s2l1c_10",))
    part = {"s2l1c_10": x["s2l1c_10"]}
    with torch.no_grad():
        told = wanted(weights, part)
        for model in (ours, alone):
            found = model.encode(part, times=TIMES, lonlat=LONLAT).tokens
            torch.testing.assert_close(found, told, rtol=1e-5, atol=1e-5)
    assert "bands not given: S1" in {entry.reason for entry in report.dropped}


def test_invalid_values_take_their_token_away_and_no_other() -> None:
    weights, x = state(), series()
    ours, _ = load(weights)
    last = {m: values[:, :-1] for m, values in x.items()}
    valid = {m: torch.ones(2, IMAGES, SIDE, SIDE, dtype=torch.bool) for m in x}
    for modality in valid:
        valid[modality][:, -1] = False
        x[modality] = torch.where(valid[modality][:, :, None], x[modality], torch.nan)
    with torch.no_grad():
        found = ours.encode(x, times=TIMES, lonlat=LONLAT, valid=valid)
        short = ours.encode(last, times=TIMES[:, :-1], lonlat=LONLAT)
    torch.testing.assert_close(found.tokens, short.tokens, rtol=1e-5, atol=1e-5)
    assert found.mask is not None
    assert found.mask.all()


def test_unknown_places_have_no_token_and_unknown_months_no_code() -> None:
    ours, _ = load(state())
    x, some = series(), LONLAT.clone()
    some[1] = float("nan")
    with torch.no_grad():
        both = ours.encode(x, times=TIMES, lonlat=LONLAT).tokens
        half = ours.encode(x, times=TIMES, lonlat=some).tokens
        none = ours.encode(x, times=TIMES).tokens
        timeless = ours.encode(x, times=torch.full_like(TIMES, float("nan"))).tokens
    torch.testing.assert_close(half[0], both[0])
    torch.testing.assert_close(half[1], none[1])
    assert not torch.allclose(both, none, atol=1e-3)
    assert not torch.allclose(timeless, none, atol=1e-3)


def test_what_does_not_fit_is_said() -> None:
    weights = state()
    part = {"s2l1c_10": PIXELS["s2l1c_10"][:2]}
    with pytest.raises(UsageError, match=r"Presto's S2_RGB is B02, B03, B04; B04 is missing"):
        foreign.load(weights, bands=part, normalisation=identity(part), heads=HEADS)
    ours, _ = load(weights)
    x = {m: torch.cat([values, values], dim=1) for m, values in series().items()}
    with pytest.raises(UsageError, match="series of 10 images, the model knows 6 at most"):
        ours.encode(x, times=torch.cat([TIMES, TIMES], dim=1))
