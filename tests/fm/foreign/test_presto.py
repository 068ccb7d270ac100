"""Presto: outputs by its own keys, token by token, and what is left out."""

import torch
from torch import Tensor

from fm import checkpoint, foreign
from fm.normalize import Normalisation
from tests.fm.foreign.band_groups import HEADS, LONLAT, PRESTO, Layers, by_name, ndvi, on_the_sphere
from tests.fm.foreign.states import PIXELS

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


def pixel(
    weights: dict[str, Tensor], x: dict[str, Tensor], months: tuple[int, ...], lonlat: Tensor
) -> Tensor:
    """The vector of one pixel, whose bands are series `[T]`; groups without their bands are out."""
    layers = Layers(weights)
    tokens = [layers.linear("encoder.latlon_embed", on_the_sphere(lonlat))]
    for number, group in enumerate((*NAMES, "NDVI")):
        if group == "NDVI":
            if "B08" not in x:
                continue
            values = ndvi(x)[:, None]
        elif NAMES[group].split()[0] not in x:
            continue
        else:
            values = torch.stack([x[name] for name in NAMES[group].split()], dim=1)
        channel = weights["encoder.channel_embed.weight"][number]
        made = layers.linear(f"encoder.eo_patch_embed.{group}", values)
        for at, month in enumerate(months):
            season = weights["encoder.month_embed.weight"][month - 1]
            place = weights["encoder.pos_embed"][0, at]
            if group == "SRTM":
                season, place = torch.zeros_like(season), torch.zeros_like(place)
            if group != "SRTM" or at == 0:
                tokens.append(made[at] + torch.cat([season, channel, place]))
    out = layers.block("encoder.blocks.0", torch.stack(tokens))
    return layers.norm("encoder.norm", out.mean(dim=0))


def wanted(weights: dict[str, Tensor], x: dict[str, Tensor]) -> Tensor:
    rows = []
    for sample in range(2):
        bands = {name: maps.flatten(1) for name, maps in by_name(PRESTO, x, sample).items()}
        for place in range(PRESTO.rows * PRESTO.columns):
            own = {name: series[:, place] for name, series in bands.items()}
            rows.append(pixel(weights, own, PRESTO.months[sample], LONLAT[sample]))
    return torch.stack(rows).unflatten(0, (2, -1))


def test_outputs_are_those_of_its_own_keys(tmp_path) -> None:
    weights, x = PRESTO.state(), PRESTO.series()
    ours, report = PRESTO.load(weights)
    checkpoint.save(tmp_path / "ours", ours)
    again = checkpoint.load(tmp_path / "ours")
    with torch.no_grad():
        found = again.encode(x, times=PRESTO.times, lonlat=LONLAT)
    told = wanted(weights, x)
    assert told.std() > 0.1
    torch.testing.assert_close(found.tokens, told, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.pooled, told.mean(dim=1), rtol=1e-5, atol=1e-5)
    assert (found.grid, found.images) == ({"pixel": (PRESTO.rows, PRESTO.columns)}, 1)
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
        PRESTO.state(), bands=bands, normalisation={modality: rule}, heads=HEADS, scaling=scaling
    )
    stored = ((PRESTO.series()[modality] + 0.11) * 1e4).round().int()
    reflectance = stored * 1e-4 - 0.1
    given = []
    model.eo_patch_embed["NDVI"].register_forward_pre_hook(lambda _, taken: given.append(taken[0]))
    with torch.no_grad():
        model.encode({modality: stored}, times=PRESTO.times, lonlat=LONLAT)
    names = [band.name for band in PIXELS[modality]]
    near, red = (reflectance[:, :, names.index(name)].flatten(2).mT for name in ("B08", "B04"))
    wanted_index = (near - red) / (near + red)
    torch.testing.assert_close(given[0][..., 0], wanted_index, rtol=1e-4, atol=1e-4)


def test_a_pixel_without_any_token_is_the_mean_of_all() -> None:
    """Defect: it was the norm of zeros, whatever the weights of the blocks."""
    ours, _ = PRESTO.load(PRESTO.state())
    x = PRESTO.series()
    valid = {
        name: torch.ones(pixels[:, :, 0].shape, dtype=torch.bool) for name, pixels in x.items()
    }
    for mask in valid.values():
        mask[0, ..., 0, 0] = False
    made = []
    ours.blocks[-1].register_forward_hook(lambda *given: made.append(given[-1]))
    with torch.no_grad():
        found = ours.encode(x, valid=valid, times=PRESTO.times)
        told = ours.norm(made[0][0].mean(dim=0))
    assert found.mask is not None
    assert found.mask[0].tolist() == [False] + [True] * (PRESTO.rows * PRESTO.columns - 1)
    torch.testing.assert_close(found.tokens[0, 0], told, rtol=1e-5, atol=1e-5)
    assert (told - ours.norm.bias).abs().max() > 0.1


def test_groups_that_are_not_given_have_no_tokens() -> None:
    weights, x = PRESTO.state(), PRESTO.series()
    ours, _ = PRESTO.load(weights)
    alone, report = PRESTO.load(weights, ("s2l1c_10",))
    part = {"s2l1c_10": x["s2l1c_10"]}
    with torch.no_grad():
        told = wanted(weights, part)
        for model in (ours, alone):
            found = model.encode(part, times=PRESTO.times, lonlat=LONLAT).tokens
            torch.testing.assert_close(found, told, rtol=1e-5, atol=1e-5)
    assert "bands not given: S1" in {entry.reason for entry in report.dropped}
