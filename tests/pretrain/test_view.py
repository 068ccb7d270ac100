"""Views of batches: what they are a function of, and what they do to each kind of sensor."""

from typing import Any

import pytest
import torch

from fm.rng import CounterRng
from fm.sensors import sensor
from pretrain.augment import ViewConfig, draw_view, recipe
from pretrain.engine.batches import MicroBatch

S2 = sensor("sentinel2-l2a").modalities
S1 = sensor("sentinel1-grd").modalities
PLAIN: dict[str, Any] = {
    "scale": (1, 1),
    "ratio": (1, 1),
    "flips": "none",
    "optical": {"colour_chance": 0, "grey": 0, "blur_chance": 0},
    "radar": {"speckle_chance": 0},
}


def view_of(**options: Any) -> ViewConfig:
    made = {**PLAIN, **options}
    for kind in ("optical", "radar"):
        made[kind] = {**PLAIN[kind], **options.get(kind, {})}
    return ViewConfig.model_validate(made)


def batch_of(count: int = 6, side: int = 48, **options: Any) -> MicroBatch:
    """Make reflectance on three grids as integers, and backscatter in dB."""
    generator = torch.Generator().manual_seed(1)
    pixels: dict[str, torch.Tensor] = {}
    for name, bands in {**S2, **S1}.items():
        length = side // (int(bands[0].gsd_m) // 10)
        x = torch.rand(count, len(bands), length, length, generator=generator)
        radar = name in S1
        pixels[name] = x * 10 - 20 if radar else (x * 6000).to(torch.int32).to(torch.uint16)
    rng = CounterRng(7, torch.zeros(count, dtype=torch.int64), torch.arange(count))
    scaling = dict.fromkeys(S2, (1e-4, -0.1))
    return MicroBatch(pixels, torch.ones(count), scaling, rng, **options)


def physical(batch: MicroBatch) -> dict[str, torch.Tensor]:
    return {name: x if name in S1 else x.float() * 1e-4 - 0.1 for name, x in batch.pixels.items()}


def test_a_plain_view_is_the_sample_in_physical_units() -> None:
    batch = batch_of()
    view = draw_view(batch, batch.rng, "v", view_of())
    for name, x in physical(batch).items():
        assert view.pixels[name].dtype == torch.float32
        assert torch.allclose(view.pixels[name], x, atol=1e-6)
    assert view.valid is None
    assert view.image.tolist() == [0] * 6


@pytest.mark.parametrize("masked", [False, True])
def test_a_resampled_view_is_the_mean_in_physical_units(masked: bool) -> None:
    """Stored numbers become physical after they are averaged: the same, offset and all."""
    batch = batch_of()
    valid = torch.ones(6, 1, 48, 48, dtype=torch.bool)
    if masked:
        valid[..., :24] = False
        batch.valid = {
            name: valid[..., :: 48 // x.shape[-1], :: 48 // x.shape[-1]].expand(x.shape)
            for name, x in batch.pixels.items()
        }
    view = draw_view(batch, batch.rng, "v", view_of(size=24))
    for name, x in physical(batch).items():
        want = torch.nn.functional.avg_pool2d(x, 2)
        half = want.shape[-1] // 2 if masked else 0
        assert torch.allclose(view.pixels[name][..., half:], want[..., half:], atol=1e-5)
        assert (view.pixels[name][..., :half] == 0).all()


@pytest.mark.parametrize("cropped", ["resized", "cut", "square"])
def test_all_grids_of_a_sample_show_the_same_ground(cropped: str) -> None:
    count = 40
    batch = batch_of(count)
    # each pixel holds where its centre is, in metres from the top and from the left
    for name, x in batch.pixels.items():
        metres = 480 / x.shape[-1]
        at = (torch.arange(x.shape[-1]) + 0.5) * metres
        down, along = at[:, None].expand(x.shape[-2:]), at.expand(x.shape[-2:])
        batch.pixels[name] = torch.stack([down, along]).expand(count, 2, -1, -1).clone()
    options: dict[str, Any] = {
        "resized": {"size": 24, "scale": (0.2, 0.5), "ratio": (0.6, 1.6), "flips": "horizontal"},
        "cut": {"size": 24, "resize": False, "flips": "horizontal"},
        "square": {"size": 24, "scale": (0.2, 0.5), "flips": "square"},
    }[cropped]
    view = draw_view(batch, batch.rng, "v", view_of(**options))
    # the middle of a view, and the step from its half to its other half, along both sides
    found = {}
    for name, x in view.pixels.items():
        assert x.shape[-1] == 24 // (int({**S2, **S1}[name][0].gsd_m) // 10)
        middle = x.shape[-1] // 2
        core = x[:, :, middle - 1 : middle + 1, middle - 1 : middle + 1]
        step = (core[..., 1, :] - core[..., 0, :]).mean(-1) * x.shape[-1]
        other = (core[..., 1] - core[..., 0]).mean(-1) * x.shape[-1]
        found[name] = torch.cat([core.mean(dim=(2, 3)), step, other], dim=1)
    for told in found.values():
        assert torch.allclose(told, found["s2l2a_10"], atol=0.05)  # metres
    assert found["s2l2a_10"].unique(dim=0).shape[0] > 4  # each sample its own
    assert (found["s2l2a_10"][:, 5] < 0).any() or cropped == "square"


def test_a_view_is_a_function_of_the_samples_position_alone() -> None:
    batch = batch_of(6)
    batch.valid = {"s1grd_10": batch.pixels["s1grd_10"] > -18}
    config = ViewConfig(size=24)
    whole = draw_view(batch, batch.rng, "v", config)
    again = draw_view(batch, batch.rng, "v", config)
    for rows in [slice(i, i + 1) for i in range(6)] + [slice(2, 5)]:
        part = batch.select(rows)
        alone = draw_view(part, part.rng, "v", config)
        assert whole.valid is not None
        assert alone.valid is not None
        for name, x in whole.pixels.items():
            assert torch.equal(alone.pixels[name], x[rows])
            assert torch.equal(again.pixels[name], x)
        assert torch.equal(alone.valid["s1grd_10"], whole.valid["s1grd_10"][rows])
    other = draw_view(batch, batch.rng, "w", config)
    assert not torch.allclose(other.pixels["s2l2a_10"], whole.pixels["s2l2a_10"])


@pytest.mark.parametrize("size", [48, 12])
def test_alone_of_its_window_or_with_others_a_sample_is_the_same(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one sample at a time only what is shown is read; at 12 pixels by one axis, then the other.

    Defect: points that are placed from the corner of the image, in a window of it.
    """
    config = view_of(size=size, scale=(0.2, 0.6), flips="square", optical={"blur_chance": 0.5})
    batch = batch_of(5, side=96)
    batch.valid = {name: x.float() > 500 for name, x in batch.pixels.items() if name in S2}
    made = []
    for numbers in (1, 2**30):
        monkeypatch.setattr(recipe, "TOGETHER", numbers)
        made.append(draw_view(batch, batch.rng, "v", config))
    alone, together = made
    assert alone.valid is not None
    assert together.valid is not None
    for name, x in alone.pixels.items():
        assert torch.equal(x, together.pixels[name])
    for name, x in alone.valid.items():
        assert torch.equal(x, together.valid[name])


def test_light_is_one_factor_for_all_bands_and_grids_and_no_business_of_radar() -> None:
    batch = batch_of(30)
    view = draw_view(batch, batch.rng, "v", view_of(optical={"colour_chance": 1, "contrast": 0}))
    found = []
    for name, x in physical(batch).items():
        if name in S1:
            assert torch.equal(view.pixels[name], x)
            continue
        bright = x > 0.1
        ratio = torch.where(bright, view.pixels[name] / x, torch.nan)
        found.append(ratio.flatten(1).nanmean(dim=1))
        spread = (ratio - found[-1][:, None, None, None]).nan_to_num().abs()
        assert spread.max() < 1e-5
    for other in found[1:]:
        assert torch.allclose(other, found[0], atol=1e-5)
    assert found[0].min() >= 0.6
    assert found[0].max() <= 1.4
    assert found[0].std() > 0.15


def test_a_chance_of_none_or_all_is_kept_and_half_is_about_half() -> None:
    batch = batch_of(200, side=12)
    for chance, low, high in ((0.0, 0, 0), (0.5, 70, 130), (1.0, 199, 200)):
        view = draw_view(batch, batch.rng, "v", view_of(optical={"colour_chance": chance}))
        changed = (view.pixels["s2l2a_10"] - physical(batch)["s2l2a_10"]).abs().amax(dim=(1, 2, 3))
        assert low <= (changed > 1e-5).sum() <= high


def test_radar_is_blurred_in_power_and_its_gain_must_be_asked_for() -> None:
    batch = batch_of(3)
    config = view_of(radar={"blur_chance": 1, "blur": (30 / 16, 30 / 16)})
    x = batch.pixels["s1grd_10"]
    made = draw_view(batch, batch.rng, "v", config).pixels["s1grd_10"]
    # a wide blur of power comes near the mean power, which lies above the mean of dB
    middle = made[..., 20:28, 20:28].mean(dim=(2, 3))
    power = 10 * torch.log10((10 ** (x / 10)).mean(dim=(2, 3)))
    assert (middle - power).abs().max() < 0.5 < (power - x.mean(dim=(2, 3))).min()
    gain = draw_view(batch, batch.rng, "v", view_of(radar={"gain_db": 2.0})).pixels["s1grd_10"] - x
    assert gain.abs().max() <= 2.0
    assert gain.abs().min() > 0
    assert gain.flatten(1).std(dim=1).max() < 1e-5


def test_hyperspectral_spectra_keep_their_shape() -> None:
    bands = sensor("enmap-l2a").modalities
    name, own = next(iter(bands.items()))
    rng = CounterRng(7, torch.zeros(8, dtype=torch.int64), torch.arange(8))
    spectrum = torch.linspace(0.05, 0.5, len(own))[None, :, None, None]
    pixels = {name: (spectrum * (0.8 + 0.4 * torch.rand(8, 1, 12, 12))).contiguous()}
    batch = MicroBatch(pixels, torch.ones(8), {}, rng)
    x = draw_view(batch, rng, "v", ViewConfig(), bands=bands).pixels[name]
    cosine = torch.nn.functional.cosine_similarity(x, spectrum.expand_as(x), dim=1)
    assert cosine.min() > 0.9995  # an angle below 2 degrees
    assert not torch.allclose(x, pixels[name])


def test_what_has_no_data_stays_without() -> None:
    batch = batch_of(20)
    valid = torch.ones_like(batch.pixels["s2l2a_10"], dtype=torch.bool)
    valid[:, :, :, :24] = False
    batch.valid = {"s2l2a_10": valid}
    batch.pixels["s2l2a_10"][:, :, :, :24] = 0
    config = ViewConfig.model_validate(
        {"size": 24, "optical": {"colour_chance": 1, "blur_chance": 1, "solarise": 1}}
    )
    view = draw_view(batch, batch.rng, "v", config)
    assert view.valid is not None
    mask, x = view.valid["s2l2a_10"], view.pixels["s2l2a_10"]
    assert (x[~mask] == 0).all()
    share = mask.float().mean()
    assert 0.2 < share < 0.8
    # stored 0 would be -0.1: it never enters a valid pixel (noise of 0 to 0.5 averages to 0.2)
    assert x[mask].min() > -0.16


def test_a_view_of_a_series_is_of_one_image_with_its_time_and_labels() -> None:
    batch = batch_of(3)
    pixels = batch.pixels
    batch.pixels = {
        n: torch.stack([x.view(torch.int16) if n in S2 else x] * 2, dim=1)
        for n, x in pixels.items()
    }
    batch.pixels["s1grd_10"][:, 1] = -3.0
    for name in S2:
        batch.pixels[name] = batch.pixels[name].view(torch.uint16)
    batch.times = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, float("nan")]], dtype=torch.float64)
    batch.labels = {"cover": torch.arange(12.0).view(3, 2, 2), "one": torch.ones(3, 2)}
    view = draw_view(batch, batch.rng, "v", view_of(), torch.tensor([1, 0, 1]))
    assert view.times is None
    assert view.time is not None
    assert view.time[:2].tolist() == [2.0, 3.0]
    assert view.time[2].isnan()
    assert view.labels["cover"].tolist() == [[2, 3], [4, 5], [10, 11]]
    assert view.labels["one"].shape == (3, 2)
    assert (view.pixels["s1grd_10"][[0, 2]] == -3).all()
    assert torch.equal(view.pixels["s1grd_10"][1], pixels["s1grd_10"][1])


def test_published_8_bit_arithmetic_wraps_only_when_asked() -> None:
    batch = batch_of(40, side=12)
    batch.pixels = {"s2l2a_10": torch.full((40, 4, 12, 12), 0.9)}
    batch.pixels["s2l2a_10"][..., :6] = 0.8
    plain = draw_view(batch, batch.rng, "v", view_of(optical={"colour_chance": 1}))
    wrapped = draw_view(
        batch, batch.rng, "v", view_of(optical={"colour_chance": 1, "legacy_wrap": True})
    )
    assert plain.pixels["s2l2a_10"].max() > 1.1
    assert plain.pixels["s2l2a_10"].min() > 0.3
    assert wrapped.pixels["s2l2a_10"].max() <= 1.0
    # 0.9 x 1.2 is 275 of 255: it comes back as 19
    assert wrapped.pixels["s2l2a_10"].min() < 0.1


def test_a_view_is_made_on_the_meta_device_too() -> None:
    batch = batch_of(2)
    batch.pixels = {n: torch.empty_like(x, device="meta") for n, x in batch.pixels.items()}
    batch.weight = batch.weight.to("meta")
    zeros = torch.zeros(2, dtype=torch.int64, device="meta")
    config = ViewConfig.model_validate({"size": 24, "flips": "square", "optical": {"solarise": 1}})
    view = draw_view(batch, CounterRng(0, zeros, zeros), "v", config)
    assert view.pixels["s2l2a_60"].shape == (2, 3 if len(S2["s2l2a_60"]) == 3 else 2, 4, 4)
