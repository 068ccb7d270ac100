import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

import fm
from fm.errors import UsageError
from fm.sensors import Band, sensor
from probes.backbones.adapter import rgb
from probes.backbones.align import align, table
from probes.backbones.feed import make_feed
from probes.backbones.numbers import full_scale, of_data, train_ranges
from probes.backbones.resize import filled, resized, target
from probes.features.extraction import encode, extract
from probes.settings.features import Axes
from tests.probes import networks
from tests.probes.networks import S2, SCALE


def features(model, given, axes=None):
    return extract(model, given, benchmark="memory@1", axes=axes)


# --- bands


def by(sources):
    return [(s.given.name if s.given else None, s.by) for s in sources]


def test_bands_go_by_name_then_by_wavelength_never_by_place():
    data = table({"s2l2a_10": ("B08", "B02", "B03", "B04")})
    found = align(rgb(), data, Axes(), where="x")
    assert by(found) == [("B04", "wavelength"), ("B03", "wavelength"), ("B02", "wavelength")]
    assert [s.channel for s in found] == [3, 2, 1]
    assert found[0].record() == {
        "model": "R",
        "from": "s2l2a_10 B04",
        "by": "wavelength",
        "off_nm": -0.4,
    }
    shuffled = table({"s2l2a_10": ("B04", "B08", "B03", "B02")})
    own = sensor("sentinel2-l1c").select(["B02", "B08"])
    assert by(align(own, shuffled, Axes(), where="x")) == [("B02", "name"), ("B08", "name")]
    reverse = align(rgb(reverse=True), data, Axes(), where="x")
    assert [s.given.name for s in reverse] == ["B02", "B03", "B04"]


def test_one_name_of_two_sensors_is_not_one_band():
    """B4 is red on Landsat 8 and near infrared on Landsat 7."""
    wanted = sensor("landsat8-oli-l1").select(["B4"])
    data = table({"l7gls_28": ("B1", "B2", "B3", "B4", "B5", "B7")})
    assert by(align(wanted, data, Axes(), where="x")) == [("B3", "wavelength")]


def test_no_band_stands_for_two_and_the_closest_pair_is_made_first():
    wanted = sensor("sentinel2-l1c").select(["B08", "B8A"])
    data = table({"l8l2_30": ("SR_B5",)})
    found = align(wanted, data, Axes(missing="zero"), where="x")
    assert by(found) == [(None, "zero"), ("SR_B5", "wavelength")]
    with pytest.raises(UsageError, match=r"B08 \(832.8 nm\).*within 40 nm.*--missing"):
        align(wanted, data, Axes(), where="x")
    near = align(wanted, data, Axes(missing="nearest"), where="x")
    assert by(near) == [("SR_B5", "nearest"), ("SR_B5", "wavelength")]


def test_radar_goes_by_name_and_polarisation():
    data = table({"s1grd_10": ("VV", "VH")})
    wanted = sensor("sentinel1-grd").select(["VH", "VV"])
    assert [s.channel for s in align(wanted, data, Axes(), where="x")] == [1, 0]
    wrong = (replace(wanted[0], polarisation="HH"),)
    with pytest.raises(UsageError, match="nothing in the data is the model's VH"):
        align(wrong, data, Axes(), where="x")


def test_a_tolerance_that_is_stated_holds():
    data = table({"s2l2a_20": ("B05",)})  # 704.1 nm, red is 665
    red = rgb()[:1]
    assert by(align(red, data, Axes(), where="x")) == [("B05", "wavelength")]
    with pytest.raises(UsageError, match="within 30 nm"):
        align(red, data, Axes(tolerance_nm=30), where="x")


# --- canaries: what is fed wrongly on purpose is refused, or changes nothing, or is flagged


def test_channels_permuted_with_their_names_change_no_bit():
    model = networks.adapter()
    x = networks.s2().astype(np.uint16) * 40
    one = features(model, networks.data({"s2l2a_10": x}, S2, SCALE))
    order = [2, 0, 3, 1]
    names = tuple(S2["s2l2a_10"][i] for i in order)
    permuted = networks.data({"s2l2a_10": x[:, order]}, {"s2l2a_10": names}, SCALE)
    np.testing.assert_array_equal(features(model, permuted), one)


def test_channels_without_names_are_refused():
    model = networks.adapter()
    x = torch.zeros(1, 3, 8, 8)
    with pytest.raises(UsageError, match="without band names"):
        model.encode({"s2l2a_10": x}, scaling=SCALE)
    with pytest.raises(UsageError, match="3 channels for the bands"):
        model.encode({"s2l2a_10": x}, bands=S2, scaling=SCALE)
    with pytest.raises(UsageError, match="no band B99"):
        model.encode({"s2l2a_10": x}, bands={"s2l2a_10": ("B04", "B03", "B99")}, scaling=SCALE)
    with pytest.raises(UsageError, match="named twice"):
        model.encode({"s2l2a_10": x}, bands={"s2l2a_10": ("B04", "B04", "B02")}, scaling=SCALE)


def test_one_image_in_three_units_gives_one_vector():
    model = networks.adapter()
    eight = networks.s2()
    stored = eight.astype(np.uint16) * 40
    physical = (eight * np.float32(0.004)).astype(np.float32)
    versions = {
        "stored": (stored, (1e-4, 0.0)),
        "offset": (stored + np.uint16(1000), (1e-4, -0.1)),
        "8 bits": (eight, (0.004, 0.0)),
        "reflectance": (physical, (1.0, 0.0)),
    }
    for axes in (None, Axes(normaliser="zscore"), Axes(normaliser="divide", resize=12)):
        made = {
            name: features(model, networks.data({"s2l2a_10": x}, S2, {"s2l2a_10": scale}), axes)
            for name, (x, scale) in versions.items()
        }
        for name, found in made.items():
            np.testing.assert_allclose(found, made["stored"], atol=1e-4, err_msg=name)


def test_units_that_nobody_declared_are_refused():
    model = networks.adapter()
    x = networks.s2().astype(np.uint16)
    with pytest.raises(UsageError, match="no declared scale"):
        model.encode({"s2l2a_10": torch.from_numpy(x)}, bands=S2)
    with pytest.raises(UsageError, match="no modality 's2_10'"):
        features(model, networks.data({"s2_10": x}, {"s2_10": S2["s2l2a_10"]}, {"s2_10": (1, 0)}))
    radar = networks.data(
        {"s1grd_10": np.random.default_rng(0).normal(-12, 3, (6, 2, 8, 8)).astype(np.float32)},
        {"s1grd_10": ("VV", "VH")},
        {"s1grd_10": (1.0, 0.0)},
    )
    sar = networks.adapter(sensor("sentinel1-grd").bands, None, None)
    with pytest.raises(UsageError, match="nobody says how conv normalises"):
        features(sar, radar)
    with pytest.raises(UsageError, match="dB has no full scale"):
        features(sar, radar, Axes(normaliser="divide"))
    assert np.isfinite(features(sar, radar, Axes(normaliser="zscore"))).all()


def test_a_wrong_scale_is_refused_and_a_wrong_normaliser_flagged():
    stored = networks.s2().astype(np.uint16) * 40
    wrong = networks.data({"s2l2a_10": stored}, S2, {"s2l2a_10": (1.0, 0.0)})
    model = networks.adapter()
    with pytest.raises(UsageError, match=r"B02 has a median of .* reflectance is a fraction"):
        features(model, wrong)
    right = networks.data({"s2l2a_10": stored}, S2, SCALE)
    assert any("8-bit pictures" in n for n in make_feed(model, right, Axes(), benchmark="b").notes)
    picture = networks.data(
        {"rgb_0": networks.s2()[:, :3]}, {"rgb_0": ("R", "G", "B")}, {"rgb_0": (1.0, 0.0)}
    )
    assert make_feed(model, picture, Axes(), benchmark="b").notes == []
    told, note = make_feed(model, picture, Axes(normaliser="identity"), benchmark="b").notes
    assert told == "normaliser identity, not the model's own"
    assert note.startswith("WARNING")
    assert "check units and normaliser" in note
    tiny = networks.data({"s2l2a_10": stored // 400}, S2, SCALE)
    notes = make_feed(model, tiny, Axes(normaliser="divide"), benchmark="b").notes
    assert any("hardly varies" in note for note in notes)


def test_red_and_blue_changed_places_show_and_bgr_weights_get_blue_first():
    model = networks.adapter()
    x = networks.s2().astype(np.uint16) * 40
    right = features(model, networks.data({"s2l2a_10": x}, S2, SCALE))
    swapped = networks.data({"s2l2a_10": x[:, [2, 1, 0, 3]]}, S2, SCALE)
    assert np.abs(features(model, swapped) - right).max() > 1e-2
    other = networks.Conv()
    with torch.no_grad():
        other.conv.weight.copy_(model.network.conv.weight.flip(1))
    bgr = networks.adapter(rgb(reverse=True), network=other)
    np.testing.assert_allclose(
        features(bgr, networks.data({"s2l2a_10": x}, S2, SCALE)), right, atol=1e-6
    )


# --- missing bands


def test_missing_bands_by_each_policy_are_told():
    x = networks.s2().astype(np.uint16) * 40
    given = networks.data({"s2l2a_10": x[:, 1:]}, {"s2l2a_10": ("B03", "B04", "B08")}, SCALE)
    model = networks.adapter()
    with pytest.raises(UsageError, match=r"B \(490 nm\).*--missing zero, mean or nearest"):
        make_feed(model, given, Axes(), benchmark="b")
    pixels = {"s2l2a_10": torch.from_numpy(x[:, 1:])}
    images = {}
    for policy in ("zero", "mean", "nearest"):
        feed = make_feed(model, given, Axes(missing=policy), benchmark="b")
        assert feed.record["missing"] == policy
        assert feed.record["bands"][2]["by"] == policy
        assert any("filled in" in note for note in feed.notes)
        images[policy] = feed.image(pixels, None)
    assert (images["zero"][:, 2] == 0).all()
    torch.testing.assert_close(images["mean"][:, 2], images["mean"][:, :2].mean(1))
    torch.testing.assert_close(images["nearest"][:, 2], images["nearest"][:, 1])


# --- numbers


def test_ranges_are_those_of_valid_training_pixels():
    rng = np.random.default_rng(0)
    x = rng.integers(900, 4000, (600, 2, 4, 4)).astype(np.uint16)
    valid = rng.random((600, 4, 4)) < 0.7
    given = networks.data(
        {"s2l2a_20": x},
        {"s2l2a_20": ("B05", "B06")},
        {"s2l2a_20": (1e-4, 0.1)},
        {"s2l2a_20": valid},
    )
    found = train_ranges(given)["s2l2a_20"]
    train = given.of("train")
    for band in range(2):
        values = x[train][:, band][valid[train]].astype(np.float64) * 1e-4 + 0.1
        np.testing.assert_allclose(found.mean[band], values.mean(), rtol=1e-6)
        np.testing.assert_allclose(found.std[band], values.std(), rtol=1e-5)
        np.testing.assert_allclose(found.low[band], values.min(), rtol=1e-6)
        np.testing.assert_allclose(found.high[band], values.max(), rtol=1e-6)


def test_normalisers_against_their_formulas():
    x = networks.s2().astype(np.uint16) * 40
    given = networks.data({"s2l2a_10": x}, S2, SCALE)
    ranges, listed = train_ranges(given), table(S2)
    dtypes = {"s2l2a_10": np.dtype(np.uint16)}
    physical = x.astype(np.float64) * 1e-4
    train = physical[given.of("train")]
    mean, std = train.mean((0, 2, 3)), train.std((0, 2, 3))
    low, high = train.min((0, 2, 3)), train.max((0, 2, 3))
    wide = (slice(None), None, None)
    wanted = {
        "divide": x / 10_000,
        "identity": physical,
        "zscore": (physical - mean[wide]) / std[wide],
        "minmax": (physical - low[wide]) / (high - low)[wide],
        "seco": np.clip(x / 2750, 0, 1),
    }
    for name, values in wanted.items():
        made = of_data(name, listed, dtypes, ranges)["s2l2a_10"](physical)
        np.testing.assert_allclose(made, values, atol=1e-5, err_msg=name)


def test_full_scales():
    dn = Band("R", 640.0, 80.0, 1.0, "dn", None, "m")
    assert full_scale(dn, np.dtype(np.uint8), None) == 255
    assert full_scale(dn, np.dtype(np.uint16), None) == 10_000
    assert full_scale(dn, np.dtype(np.float32), 254.0) == 255
    with pytest.raises(UsageError, match="unknown range"):
        full_scale(dn, np.dtype(np.float32), None)
    with pytest.raises(UsageError, match="linear has no full scale"):
        full_scale(replace(dn, unit="linear"), np.dtype(np.float32), 1.0)
    listed = {"m": (dn,)}
    with pytest.raises(UsageError, match="of 8 bits"):
        of_data("seco", listed, {"m": np.dtype(np.uint8)}, {})


# --- sizes


@pytest.mark.parametrize("axes", [Axes(), Axes(antialias=True), Axes(interpolation="nearest")])
def test_resizing_without_invalid_pixels_is_plain_interpolation(axes):
    x = torch.rand(2, 3, 9, 7)
    options = {"mode": axes.interpolation}
    if axes.interpolation == "bilinear":
        options["antialias"] = axes.antialias
    for size in ((18, 14), (4, 3)):
        made, mask = resized(x, torch.ones(2, 9, 7, dtype=torch.bool), size, axes)
        torch.testing.assert_close(made, interpolate(x, size=size, **options))
        assert mask.all()
    assert target(9, 7, 14) == (18, 14)
    assert target(9, 7, None) == (9, 7)


def test_invalid_pixels_do_not_bleed_into_their_neighbours():
    x = torch.rand(1, 2, 8, 8)
    valid = torch.ones(1, 8, 8, dtype=torch.bool)
    valid[:, :, 5:] = False
    worse = torch.where(valid[:, None], x, 1e6)
    one, mask = resized(x, valid, (21, 21), Axes())
    two, _ = resized(worse, valid, (21, 21), Axes())
    torch.testing.assert_close(one, two)
    assert one.max() <= x.max() * (1 + 1e-6)  # a mean of equal numbers may round up
    assert mask[0, :, :13].all()
    assert not mask[0, :, -6:].any()
    flat = filled(worse, valid)
    mean = x[0, :, :, :5].mean((-2, -1))
    torch.testing.assert_close(flat[0, :, 0, 7], mean)


def test_order_matters_to_clipping_normalisers_alone():
    x = networks.s2(side=8).astype(np.uint16) * 40
    given = networks.data({"s2l2a_10": x}, S2, SCALE)
    model = networks.adapter()
    for name, alike in (("zscore", True), ("seco", False)):
        first = features(model, given, Axes(normaliser=name, resize=19))
        second = features(model, given, Axes(normaliser=name, resize=19, order="resize-first"))
        assert np.allclose(first, second, atol=1e-4) is alike, name


def test_several_grids_come_to_the_finest_one():
    rng = np.random.default_rng(0)
    fine = rng.integers(500, 3000, (6, 4, 12, 12)).astype(np.uint16)
    coarse = rng.integers(500, 3000, (6, 1, 6, 6)).astype(np.uint16)
    given = networks.data(
        {"s2l2a_10": fine, "s2l2a_20": coarse},
        {**S2, "s2l2a_20": ("B05",)},
        {**SCALE, "s2l2a_20": (1e-4, 0.0)},
    )
    bands = sensor("sentinel2-l2a").select(["B05", "B04"])
    feed = make_feed(
        networks.adapter(bands, None, None), given, Axes(normaliser="divide"), benchmark="b"
    )
    pixels = {m: torch.from_numpy(x) for m, x in given.read(np.arange(6)).pixels.items()}
    image = feed.image(pixels, None)
    torch.testing.assert_close(image[:, 1], pixels["s2l2a_10"][:, 2].float() * 1e-4)
    wide = interpolate(pixels["s2l2a_20"].float() * 1e-4, size=(12, 12), mode="bilinear")
    torch.testing.assert_close(image[:, 0], wide[:, 0])


def test_sizes_a_network_does_not_take_are_refused_with_one_it_takes():
    x = networks.s2(side=15).astype(np.uint16) * 40
    given = networks.data({"s2l2a_10": x}, S2, SCALE)
    with pytest.raises(UsageError, match="multiples of 16; give --resize 16"):
        features(networks.adapter(multiple=16), given)
    with pytest.raises(UsageError, match="takes 32x32 alone; give --resize 32"):
        features(networks.adapter(size=(32, 32), fixed=True), given)
    model = networks.adapter(size=(32, 32), fixed=True)
    assert features(model, given, Axes(resize=32)).shape == (12, 5)


# --- the adapter as a model


def test_the_middle_token_and_the_mean_can_be_read():
    x = networks.s2(side=10).astype(np.uint16) * 40
    given = networks.data({"s2l2a_10": x}, S2, SCALE)
    model = networks.adapter()
    inputs = given.read(np.arange(3))
    with torch.inference_mode():
        whole = encode(model, inputs, given.bands, given.scaling, ("pooled", "mean", "centre"))
        pixels = {m: torch.from_numpy(v) for m, v in inputs.pixels.items()}
        made = model.encode(pixels, bands=given.bands, scaling=given.scaling)
    assert made.grid == {"image": (5, 5)}
    want = [made.pooled, made.tokens.mean(1), made.tokens[:, 12]]
    torch.testing.assert_close(whole, torch.cat(want, 1))
    with pytest.raises(UsageError, match="has 0 blocks"):
        encode(model, inputs, given.bands, given.scaling, ("mean@1",))


def test_a_copy_trains_apart_and_gradients_flow():
    x = networks.s2().astype(np.uint16) * 40
    given = networks.data({"s2l2a_10": x}, S2, SCALE)
    model = networks.adapter()
    bound = model.bind(make_feed(model, given, Axes(normaliser="zscore"), benchmark="b"))
    other = copy.deepcopy(bound)
    inputs = given.read(np.arange(4))
    encode(other, inputs, given.bands, given.scaling).sum().backward()
    assert other.network.conv.weight.grad is not None
    assert bound.network.conv.weight.grad is None
    assert other.feed.axes == bound.feed.axes


# --- our own backbones by other axes


def own_model():
    torch.manual_seed(0)
    bands = {"s2l2a_10": fm.sensor("sentinel2-l2a").select(S2["s2l2a_10"])}
    from fm.normalize import Normalisation

    return fm.create_model(
        "vit_nano",
        bands=bands,
        token_m=40,
        width=16,
        depth=1,
        heads=2,
        normalisation={"s2l2a_10": Normalisation("zscore", (0.2,) * 4, (0.1,) * 4)},
        scaling={"s2l2a_10": (1e-4, 0.0)},
    ).eval()


def test_a_checkpoint_of_ours_keeps_its_own_way_unless_asked():
    x = networks.s2().astype(np.uint16) * 40
    given = networks.data({"s2l2a_10": x}, S2, SCALE)
    model = own_model()
    inputs = given.read(np.arange(12))
    with torch.inference_mode():
        plain = encode(model, inputs, given.bands, given.scaling).numpy()
    np.testing.assert_array_equal(features(model, given), plain)
    feed = make_feed(model, given, Axes(), benchmark="b")
    assert feed.notes == []
    assert feed.record["input"]["mean"] != [0.0, 0.0]
    # the model's own numbers fed from outside are the model's own way
    same = features(model, given, Axes(order="resize-first"))
    np.testing.assert_allclose(same, plain, atol=1e-5)
    other = make_feed(model, given, Axes(normaliser="minmax"), benchmark="b")
    assert other.notes == ["normaliser minmax, not the one in the model's card"]
    assert np.abs(features(model, given, Axes(normaliser="minmax")) - plain).max() > 1e-2
    with pytest.raises(UsageError, match="--adapt"):
        make_feed(model, given, Axes(missing="zero"), benchmark="b")


def test_a_checkpoint_of_ours_resized_sees_the_larger_image():
    x = networks.s2(side=8).astype(np.uint16) * 40
    given = networks.data({"s2l2a_10": x}, S2, SCALE)
    model = own_model()
    made = features(model, given, Axes(resize=16))
    physical = torch.from_numpy(x).float() * 1e-4
    larger = interpolate(physical, size=(16, 16), mode="bilinear")
    with torch.inference_mode():
        want = model.encode({"s2l2a_10": larger}, bands=S2).pooled
    np.testing.assert_allclose(made, want.numpy(), atol=1e-5)
