"""Galileo: outputs by its own keys, token by token, and what is left out."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from fm import adapt, checkpoint, foreign
from fm.errors import FMError, UsageError
from fm.models import create_model
from fm.models.galileo import CROPS, WORLD
from tests.fm.foreign.band_groups import (
    GALILEO_OF_4,
    HEADS,
    LONLAT,
    Layers,
    by_name,
    ndvi,
    on_the_sphere,
)
from tests.fm.foreign.states import GALILEO, identity

PATCH, ROWS, COLUMNS = 4, 2, 3
TIMES = GALILEO_OF_4.times
ORDER = {
    "space_time": {
        "S1": "VV VH",
        "S2_RGB": "B02 B03 B04",
        "S2_Red_Edge": "B05 B06 B07",
        "S2_NIR_10m": "B08",
        "S2_NIR_20m": "B8A",
        "S2_SWIR": "B11 B12",
        "NDVI": "B08 B04",
    },
    "space": {"SRTM": "elevation slope", "DW": " ".join(WORLD), "WC": " ".join(CROPS)},
    "time": {
        "ERA5": "temperature_2m total_precipitation",
        "TC": "def soil aet",
        "VIIRS": "avg_rad",
    },
    "static": {
        "LS": "population",
        "location": "",
        "DW_static": " ".join(f"{name}_static" for name in WORLD),
        "WC_static": " ".join(f"{name}_static" for name in CROPS),
    },
}
CODES = {"space_time": "s_t", "space": "sp", "time": "t", "static": "st"}


def waves(width: int, at: float) -> list[float]:
    """The released frequencies, one number after the other."""
    angles = [at / 10000 ** (k / width / 2) for k in range(width // 2)]
    return [math.sin(a) for a in angles] + [math.cos(a) for a in angles]


def sample(
    weights: dict[str, Tensor],
    x: dict[str, Tensor],
    months: tuple[int, ...],
    lonlat: Tensor | None,
    step: float = PATCH,
) -> tuple[Tensor, Tensor]:
    """Vectors of the patches `[P, D]` and of all, of bands `[T, H, W]`, one token at a time."""
    layers = Layers(weights)
    quarter = weights["pos_embed"].shape[1]
    still = torch.zeros(quarter)
    tokens, homes = [], []

    def add(kind: str, group: str, values: Tensor, at: int | None, cell: int | None) -> None:
        number = list(ORDER[kind]).index(group)
        lead = f"{kind}_embed.{group}" + (".proj" if kind.startswith("space") else "")
        where = still
        if cell is not None:
            row, column = divmod(cell, COLUMNS)
            ends = [waves(quarter // 2, step * place) for place in (column, row)]
            where = torch.tensor(ends[0] + ends[1])
        code = [
            weights[f"{CODES[kind]}_channel_embed"][number],
            still if at is None else weights["pos_embed"][at],
            still if at is None else weights["month_embed.weight"][months[at] - 1],
            where,
        ]
        tokens.append(layers.linear(lead, values.flatten()) + torch.cat(code))
        homes.append(cell)

    for kind, groups in ORDER.items():
        for group, names in groups.items():
            if group == "location":
                if lonlat is not None:
                    add(kind, group, on_the_sphere(lonlat), None, None)
                continue
            if names.split()[0] not in x:
                continue
            if group == "NDVI":
                maps = ndvi(x)[None]
            else:
                maps = torch.stack([x[name] for name in names.split()])
            for at in range(GALILEO_OF_4.images) if kind.endswith("time") else (None,):
                image = maps[:, at or 0]
                if not kind.startswith("space"):
                    add(kind, group, image.mean(dim=(1, 2)), at, None)
                    continue
                for cell in range(ROWS * COLUMNS):
                    top, left = (PATCH * n for n in divmod(cell, COLUMNS))
                    add(kind, group, image[:, top : top + PATCH, left : left + PATCH], at, cell)
    out = torch.stack(tokens)
    for number in range(2):
        out = layers.block(f"blocks.{number}", out)
    out = layers.norm("norm", out)
    patches = [
        torch.stack([token for token, home in zip(out, homes, strict=True) if home in (None, cell)])
        for cell in range(ROWS * COLUMNS)
    ]
    return torch.stack([patch.mean(dim=0) for patch in patches]), out.mean(dim=0)


def wanted(
    weights: dict[str, Tensor],
    x: dict[str, Tensor],
    lonlat: Tensor | None = LONLAT,
    step: float = PATCH,
) -> tuple[Tensor, Tensor]:
    rows = []
    for number in range(2):
        bands = by_name(GALILEO_OF_4, x, number)
        place = None if lonlat is None else lonlat[number]
        rows.append(sample(weights, bands, GALILEO_OF_4.months[number], place, step))
    tokens, pooled = zip(*rows, strict=True)
    return torch.stack(tokens), torch.stack(pooled)


def close(found, told: tuple[Tensor, Tensor]) -> None:
    assert told[0].std() > 0.1
    torch.testing.assert_close(found.tokens, told[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.pooled, told[1], rtol=1e-5, atol=1e-5)


def test_outputs_are_those_of_its_own_keys(tmp_path) -> None:
    weights, x = GALILEO_OF_4.state(), GALILEO_OF_4.series()
    ours, report = GALILEO_OF_4.load(weights)
    checkpoint.save(tmp_path / "ours", ours)
    again = checkpoint.load(tmp_path / "ours")
    with torch.no_grad():
        found = again.encode(x, times=TIMES, lonlat=LONLAT)
    close(found, wanted(weights, x))
    assert (found.grid, found.images) == ({"patch": (ROWS, COLUMNS)}, 1)
    assert not report.dropped


def test_a_fresh_model_has_the_released_codes() -> None:
    """By hand: within 2e-6 of those in the nano file."""
    bands = {"s2l1c_10": GALILEO["s2l1c_10"]}
    fresh = create_model("galileo_nano", bands=bands, token_m=80, longest=5)
    told = torch.tensor([waves(32, at) for at in range(5)])
    torch.testing.assert_close(fresh.get_parameter("pos_embed").detach(), told)
    season = [[trig(math.pi * month / 6) for trig in (math.sin, math.cos)] for month in range(12)]
    table = fresh.get_submodule("month_embed").weight
    torch.testing.assert_close(table[:, [0, 15]], torch.tensor(season)[:, [0, 0]])
    torch.testing.assert_close(table[:, [16, 31]], torch.tensor(season)[:, [1, 1]])


def test_codes_of_places_are_of_the_ground() -> None:
    weights, x = GALILEO_OF_4.state(), GALILEO_OF_4.series()
    ours, _ = GALILEO_OF_4.load(weights)
    with torch.no_grad():
        far = ours.encode(x, times=TIMES, lonlat=LONLAT, gsd=dict.fromkeys(x, 30.0))
        with pytest.raises(UsageError, match="gsd of Galileo's modalities disagree"):
            ours.encode(x, times=TIMES, gsd={"s2l1c_10": 30.0})
    close(far, wanted(weights, x, step=3 * PATCH))


def test_groups_that_are_not_given_have_no_tokens() -> None:
    weights, x = GALILEO_OF_4.state(), GALILEO_OF_4.series()
    ours, _ = GALILEO_OF_4.load(weights)
    alone, report = GALILEO_OF_4.load(weights, ("s2l1c_10",))
    part = {"s2l1c_10": x["s2l1c_10"]}
    for model in (ours, alone):
        with torch.no_grad():
            close(model.encode(part, times=TIMES), wanted(weights, part, None))
    reasons = {entry.reason for entry in report.dropped}
    assert reasons == {
        f"bands not given: {group}"
        for groups in ORDER.values()
        for group, names in groups.items()
        if names and not names.startswith("B")
    }


def test_ndvi_is_of_what_came_in_and_not_of_the_normalised() -> None:
    weights, x = GALILEO_OF_4.state(), GALILEO_OF_4.series()
    part = {"s2l1c_10": x["s2l1c_10"]}
    bands = {"s2l1c_10": GALILEO["s2l1c_10"]}
    own = identity(bands)["s2l1c_10"]
    shift = tuple(0.05 for _ in own.shift)
    moved = {"s2l1c_10": type(own)("zscore", shift, own.scale)}
    ours, _ = foreign.load(weights, bands=bands, normalisation=moved, heads=HEADS)
    plain, _ = GALILEO_OF_4.load(weights, ("s2l1c_10",))
    seen = {}
    for name, model in (("moved", ours), ("plain", plain)):
        inputs = model.inputs(part, times=TIMES)
        seen[name] = model._values(inputs)
    torch.testing.assert_close(seen["moved"]["NDVI"], seen["plain"]["NDVI"])
    torch.testing.assert_close(seen["moved"]["S2_RGB"][0], seen["plain"]["S2_RGB"][0] - 0.05)


@pytest.mark.parametrize("side", [2, 8])
def test_other_patches_keep_the_weights_and_what_they_say_of_an_image(side: int) -> None:
    ours, _ = GALILEO_OF_4.load(GALILEO_OF_4.state())
    other, report = adapt.to_size(ours, patch_size=side)
    assert report["resize"] == "bicubic"
    assert other.groups["patch"].token_m == 10.0 * side
    for key, value in ours.state_dict().items():
        assert torch.equal(other.state_dict()[key], value)
    x = GALILEO_OF_4.series(side / PATCH)
    with torch.no_grad():
        found = other.encode(x, times=TIMES, lonlat=LONLAT)
    assert found.grid == {"patch": (ROWS, COLUMNS)}
    weight = ours.get_submodule("space_embed.SRTM.proj").weight
    image = torch.randn(1, 2, PATCH, PATCH, generator=torch.Generator().manual_seed(3))
    if side > PATCH:  # for fewer pixels it is a least-squares answer
        grown = functional.interpolate(image, (side, side), mode="bicubic", antialias=True)
        fitted = torch.einsum("dcij,ia,jb->dcab", weight, other.fit, other.fit)
        told, found = (weight * image).sum((1, 2, 3)), (fitted * grown).sum((1, 2, 3))
        torch.testing.assert_close(found, told, rtol=1e-4, atol=1e-4)


def test_codes_of_other_groups_are_refused() -> None:
    weights = GALILEO_OF_4.state()
    weights["t_channel_embed"] = torch.zeros(4, 8)
    with pytest.raises(FMError, match=r"codes of \[7, 3, 4, 4\] groups, of Galileo they are"):
        GALILEO_OF_4.load(weights)
