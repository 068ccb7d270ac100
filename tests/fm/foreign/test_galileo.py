"""Galileo: outputs by its own keys, token by token, and what is left out."""

import math
from datetime import UTC, datetime

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from fm import adapt, checkpoint, foreign
from fm.errors import FMError, UsageError
from fm.foreign.inventory import inventory
from fm.models import create_model
from fm.models.galileo import CROPS, WORLD
from tests.fm.foreign.states import AS_THEY_ARE, GALILEO, identity

HEADS, IMAGES, PATCH, ROWS, COLUMNS = 2, 3, 4, 2, 3
LONLAT = torch.tensor([[13.4, 52.5], [-70.7, -33.4]], dtype=torch.float64)
MONTHS = ((11, 12, 1), (6, 7, 9))
TIMES = torch.tensor(
    [[datetime(2021, month, 9, tzinfo=UTC).timestamp() for month in row] for row in MONTHS],
    dtype=torch.float64,
)
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
FLAT = ("era5_10", "monthly_10")
"""Modalities of one number an image."""


def state() -> dict[str, Tensor]:
    """Weights of some size under the file's keys, which differ from what the model computes."""
    found = inventory("galileo")
    generator = torch.Generator().manual_seed(0)
    made = {}
    for key, shape in found.expand({**found.tiny, "D": 32}).items():
        value = torch.randn(shape, generator=generator) * (0.3 if len(shape) > 1 else 0.2)
        made[key] = value + 1 if "norm" in key and key.endswith("weight") else value
    return made


def series(side: int = PATCH) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    made = {
        m: torch.randn(2, IMAGES, len(b), ROWS * side, COLUMNS * side, generator=generator)
        for m, b in GALILEO.items()
    }
    made["s2l1c_10"] = made["s2l1c_10"].abs() * 0.3
    return made


def load(weights: dict[str, Tensor], modalities: tuple[str, ...] = tuple(GALILEO)):
    bands = {m: GALILEO[m] for m in modalities}
    scaling = {m: AS_THEY_ARE[m] for m in modalities}
    return foreign.load(
        weights, bands=bands, normalisation=identity(bands), heads=HEADS, scaling=scaling
    )


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

    def linear(key: str, value: Tensor) -> Tensor:
        weight = weights[f"{key}.weight"]
        return functional.linear(value, weight.flatten(1), weights[f"{key}.bias"])

    def norm(key: str, value: Tensor) -> Tensor:
        size = value.shape[-1:]
        return functional.layer_norm(value, size, weights[f"{key}.weight"], weights[f"{key}.bias"])

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
        tokens.append(linear(lead, values.flatten()) + torch.cat(code))
        homes.append(cell)

    for kind, groups in ORDER.items():
        for group, names in groups.items():
            if group == "location":
                if lonlat is not None:
                    lon, lat = (math.radians(float(angle)) for angle in lonlat)
                    ball = [math.cos(lat) * math.cos(lon), math.cos(lat) * math.sin(lon)]
                    add(kind, group, torch.tensor([*ball, math.sin(lat)]), None, None)
                continue
            if names.split()[0] not in x:
                continue
            if group == "NDVI":
                maps = ((x["B08"] - x["B04"]) / (x["B08"] + x["B04"]))[None]
            else:
                maps = torch.stack([x[name] for name in names.split()])
            for at in range(IMAGES) if kind.endswith("time") else (None,):
                image = maps[:, at or 0]
                if not kind.startswith("space"):
                    add(kind, group, image.mean(dim=(1, 2)), at, None)
                    continue
                for cell in range(ROWS * COLUMNS):
                    top, left = (PATCH * n for n in divmod(cell, COLUMNS))
                    add(kind, group, image[:, top : top + PATCH, left : left + PATCH], at, cell)
    out = torch.stack(tokens)
    for number in range(2):
        block = f"blocks.{number}"
        put = norm(f"{block}.norm1", out)
        q, k, v = (
            linear(f"{block}.attn.{name}", put).unflatten(-1, (HEADS, -1)).transpose(0, 1)
            for name in "qkv"
        )
        share = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(dim=-1)
        out = out + linear(f"{block}.attn.proj", (share @ v).transpose(0, 1).flatten(1))
        inside = functional.gelu(linear(f"{block}.mlp.fc1", norm(f"{block}.norm2", out)))
        out = out + linear(f"{block}.mlp.fc2", inside)
    out = norm("norm", out)
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
        bands = {
            band.name: values[number, :, channel]
            for modality, values in x.items()
            for channel, band in enumerate(GALILEO[modality])
        }
        place = None if lonlat is None else lonlat[number]
        rows.append(sample(weights, bands, MONTHS[number], place, step))
    tokens, pooled = zip(*rows, strict=True)
    return torch.stack(tokens), torch.stack(pooled)


def close(found, told: tuple[Tensor, Tensor]) -> None:
    assert told[0].std() > 0.1
    torch.testing.assert_close(found.tokens, told[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.pooled, told[1], rtol=1e-5, atol=1e-5)


def test_outputs_are_those_of_its_own_keys(tmp_path) -> None:
    weights, x = state(), series()
    ours, report = load(weights)
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
    weights, x = state(), series()
    ours, _ = load(weights)
    with torch.no_grad():
        far = ours.encode(x, times=TIMES, lonlat=LONLAT, gsd=dict.fromkeys(x, 30.0))
        with pytest.raises(UsageError, match="gsd of Galileo's modalities disagree"):
            ours.encode(x, times=TIMES, gsd={"s2l1c_10": 30.0})
    close(far, wanted(weights, x, step=3 * PATCH))


def test_groups_that_are_not_given_have_no_tokens() -> None:
    weights, x = state(), series()
    ours, _ = load(weights)
    alone, report = load(weights, ("s2l1c_10",))
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
    weights, x = state(), series()
    part = {"s2l1c_10": x["s2l1c_10"]}
    bands = {"s2l1c_10": GALILEO["s2l1c_10"]}
    own = identity(bands)["s2l1c_10"]
    shift = tuple(0.05 for _ in own.shift)
    moved = {"s2l1c_10": type(own)("zscore", shift, own.scale)}
    ours, _ = foreign.load(weights, bands=bands, normalisation=moved, heads=HEADS)
    plain, _ = load(weights, ("s2l1c_10",))
    seen = {}
    for name, model in (("moved", ours), ("plain", plain)):
        inputs = model.inputs(part, times=TIMES)
        seen[name], _ = model._values(inputs)
    torch.testing.assert_close(seen["moved"]["NDVI"], seen["plain"]["NDVI"])
    torch.testing.assert_close(seen["moved"]["S2_RGB"], seen["plain"]["S2_RGB"] - 0.05)


def test_invalid_values_take_their_token_away_and_no_other() -> None:
    weights, x = state(), series()
    ours, _ = load(weights)
    last = {m: values[:, :-1] for m, values in x.items()}
    valid = {m: torch.ones(2, IMAGES, *v.shape[-2:], dtype=torch.bool) for m, v in x.items()}
    for modality in valid:
        valid[modality][:, -1] = False
        x[modality] = torch.where(valid[modality][:, :, None], x[modality], torch.nan)
    with torch.no_grad():
        found = ours.encode(x, times=TIMES, lonlat=LONLAT, valid=valid)
        short = ours.encode(last, times=TIMES[:, :-1], lonlat=LONLAT)
    torch.testing.assert_close(found.tokens, short.tokens, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.pooled, short.pooled, rtol=1e-5, atol=1e-5)
    assert found.mask is not None
    assert found.mask.all()


def test_unknown_places_have_no_token_and_unknown_months_no_code() -> None:
    ours, _ = load(state())
    x, some = series(), LONLAT.clone()
    some[1] = float("nan")
    with torch.no_grad():
        both = ours.encode(x, times=TIMES, lonlat=LONLAT).pooled
        half = ours.encode(x, times=TIMES, lonlat=some).pooled
        none = ours.encode(x, times=TIMES).pooled
        timeless = ours.encode(x, times=torch.full_like(TIMES, float("nan"))).pooled
    torch.testing.assert_close(half[0], both[0])
    torch.testing.assert_close(half[1], none[1])
    assert not torch.allclose(both, none, atol=1e-3)
    assert not torch.allclose(timeless, none, atol=1e-3)


@pytest.mark.parametrize("side", [2, 8])
def test_other_patches_keep_the_weights_and_what_they_say_of_an_image(side: int) -> None:
    ours, _ = load(state())
    other, report = adapt.to_size(ours, patch_size=side)
    assert report["resize"] == "bicubic"
    assert other.groups["patch"].token_m == 10.0 * side
    for key, value in ours.state_dict().items():
        assert torch.equal(other.state_dict()[key], value)
    x = series(side)
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


def test_what_does_not_fit_is_said() -> None:
    weights = state()
    part = {"s2l1c_10": GALILEO["s2l1c_10"][:2]}
    with pytest.raises(UsageError, match=r"Galileo's S2_RGB is B02, B03, B04; B04 is missing"):
        foreign.load(weights, bands=part, normalisation=identity(part), heads=HEADS)
    ours, _ = load(weights)
    x = {m: torch.cat([values] * 3, dim=1) for m, values in series().items()}
    with pytest.raises(UsageError, match="series of 9 images, the model knows 6 at most"):
        ours.encode(x, times=torch.cat([TIMES] * 3, dim=1))
    weights["t_channel_embed"] = torch.zeros(4, 8)
    with pytest.raises(FMError, match=r"codes of \[7, 3, 4, 4\] groups, of Galileo they are"):
        load(weights)
