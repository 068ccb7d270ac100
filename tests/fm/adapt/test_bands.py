"""Models on other bands and sensors: the adapted model is the original on the estimate."""

import numpy as np
import pytest
import torch
from torch import Tensor

from fm.adapt import estimate, to_bands
from fm.checkpoint import load, save
from fm.errors import UsageError
from fm.export.hub_card import fields
from fm.foreign import on_grid
from fm.models import Backbone, create_model
from fm.normalize import Normalisation
from fm.sensors import Band, sensor

SMALL = {"width": 24, "depth": 1, "heads": 3}
L2A = sensor("sentinel2-l2a")
S2 = on_grid(L2A.bands, 10)  # twelve bands on one grid
NATIVE = L2A.modalities
L8 = sensor("landsat8-oli-l2").modalities
L8_10 = {
    "l8l2_30": tuple(Band(b.name, b.wavelength_nm, b.fwhm_nm, 10.0, b.unit) for b in L8["l8l2_30"])
}
RADAR = sensor("sentinel1-grd").modalities


def numbers(bands: dict[str, tuple[Band, ...]], kind: str = "zscore") -> dict[str, Normalisation]:
    made = {}
    for number, (modality, items) in enumerate(bands.items()):
        shift = tuple(0.08 + 0.02 * i + 0.005 * number for i in range(len(items)))
        scale = tuple(0.05 + 0.01 * ((3 * i) % 5) for i in range(len(items)))
        made[modality] = Normalisation(kind, shift, scale)
    return made


def vit(bands: dict[str, tuple[Band, ...]], token_m: float = 120, **options) -> Backbone:
    torch.manual_seed(0)
    options.setdefault("normalisation", numbers(bands))
    model = create_model("vit_nano", bands=bands, token_m=token_m, **{**SMALL, **options})
    generator = torch.Generator().manual_seed(1)
    for value in model.parameters():
        value.data = torch.randn(value.shape, generator=generator) * 0.2
    return model.eval()


def resnet(bands: dict[str, tuple[Band, ...]]) -> Backbone:
    torch.manual_seed(0)
    model = create_model(
        "resnet_18", bands=bands, blocks=[1, 1, 1, 1], normalisation=numbers(bands)
    )
    model.resnet.bn1.running_mean.normal_()
    return model.eval()


@torch.no_grad()
def tokens(model: Backbone, pixels: dict[str, Tensor], **more) -> Tensor:
    return model.encode(pixels, **more).tokens


@pytest.mark.parametrize("policy", ["response", "nearest"])
def test_the_adapted_model_is_the_original_on_the_estimate(policy: str) -> None:
    model = vit(S2)
    tolerance = 35.0 if policy == "nearest" else None
    adapted, report = to_bands(model, L8_10, policy=policy, tolerance_nm=tolerance)
    one = estimate(S2["s2l2a_10"], L8_10["l8l2_30"], policy=policy, tolerance_nm=tolerance)
    x = torch.rand(2, 7, 24, 24) * 0.4
    seen, known = one.pixels(x)
    assert not known.all()  # B05 to B07 and B09, which then count as their mean
    want = tokens(model, {"s2l2a_10": seen}, valid={"s2l2a_10": known})
    torch.testing.assert_close(tokens(adapted, {"l8l2_30": x}), want, rtol=1e-4, atol=1e-4)
    assert report["exact"] is True
    assert report["dropped"] == {"s2l2a": ["B05", "B06", "B07", "B09"]}
    assert report["values"] == "physical"


def test_a_flat_spectrum_and_a_line_give_what_the_original_gives() -> None:
    own = on_grid(L2A.select(["B02", "B03", "B04", "B8A", "B11", "B12"]), 10)
    model = vit(own)
    adapted, report = to_bands(model, L8_10, policy="response", beyond="zero")
    assert not report["dropped"]
    ground = torch.rand(2, 1, 24, 24) * 0.4
    want = tokens(model, {"s2l2a_10": ground.expand(-1, 6, -1, -1)})
    found = tokens(adapted, {"l8l2_30": ground.expand(-1, 7, -1, -1)})
    torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-4)
    # a spectrum of constant slope is seen at the centres that the report says
    (off,) = report["off_nm"].values()
    at = torch.tensor([b.wavelength_nm for b in L8_10["l8l2_30"]])
    moved = torch.tensor([b.wavelength_nm + off[b.name] for b in own["s2l2a_10"]])

    def line(x: Tensor) -> Tensor:
        return (ground * (1 + 1e-3 * (x[None, :, None, None] - 400))).float()

    want = tokens(model, {"s2l2a_10": line(moved)})
    torch.testing.assert_close(tokens(adapted, {"l8l2_30": line(at)}), want, rtol=1e-3, atol=1e-3)


def test_bands_that_drop_out_leave_the_others_their_whole_weight() -> None:
    """Ten narrow bands under one wide; of five of them the five weights still add up."""
    wide = {"s2l2a_10": (L2A.band("B08"),)}
    narrow = tuple(
        Band(f"n{i}", 790.0 + 10 * i, 10.0, 10.0, "reflectance", None, "enmap_30")
        for i in range(10)
    )
    model = vit(wide)
    ground = torch.rand(1, 1, 24, 24)
    want = tokens(model, {"s2l2a_10": ground})
    for kept in (narrow, narrow[::2], narrow[7:]):
        adapted, _ = to_bands(model, {"enmap_30": kept}, policy="response")
        found = tokens(adapted, {"enmap_30": ground.expand(-1, len(kept), -1, -1)})
        torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-4)


def test_native_grids_of_sentinel_2_become_landsats_pixels_of_the_same_ground() -> None:
    nested = {m: NATIVE[m] for m in ("s2l2a_10", "s2l2a_60")}
    model = vit(nested)
    adapted, report = to_bands(model, L8, policy="response", beyond="zero")
    assert report["token_px"]["l8l2"] == {
        "from": {"s2l2a_10": 12, "s2l2a_60": 2},
        "to": {"l8l2_30": 4},
    }
    assert report["token_m"]["l8l2"] == {"from": 120.0, "to": 120.0}
    assert report["but"] == ["tokens of fewer pixels, by least squares"]
    assert report["exact"] is False
    # the original on the estimate, each pixel of 30 m shown as 3x3 of 10 m
    bands = [b for items in nested.values() for b in items]
    x = torch.rand(2, 7, 4, 4).repeat_interleave(2, 2).repeat_interleave(2, 3) * 0.4
    one = estimate(bands, L8["l8l2_30"], policy="response", beyond="zero")
    seen, known = one.pixels(x)
    given, valid, start = {}, {}, 0
    for modality, items in nested.items():
        part = slice(start, start + len(items))
        start += len(items)
        side = 240 // int(items[0].gsd_m)
        fine = seen[:, part].repeat_interleave(3, 2).repeat_interleave(3, 3)
        given[modality] = torch.nn.functional.adaptive_avg_pool2d(fine, side)
        valid[modality] = known[:, part, :1, :1].expand(-1, -1, side, side)
    want = tokens(model, given, valid=valid)
    found = tokens(adapted, {"l8l2_30": x})
    torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-4)


def test_finer_pixels_count_as_their_mean() -> None:
    model = vit({"l8l2_30": L8["l8l2_30"]}, token_m=120)
    fine = {"l8l2_30": L8_10["l8l2_30"]}
    adapted, report = to_bands(model, fine, policy="nearest", tolerance_nm=1.0)
    assert report["token_px"]["l8l2"]["to"] == {"l8l2_30": 12}
    assert report["exact"] is True
    x = torch.rand(2, 7, 24, 24)
    want = tokens(model, {"l8l2_30": torch.nn.functional.avg_pool2d(x, 3)})
    torch.testing.assert_close(tokens(adapted, {"l8l2_30": x}), want, rtol=1e-4, atol=1e-4)


def test_zeros_change_nothing_and_names_alone_are_not_enough() -> None:
    few = on_grid(L2A.select(["B02", "B03", "B04"]), 10)
    model = vit(few)
    adapted, report = to_bands(model, S2, policy="zero")
    x = torch.rand(2, 12, 24, 24)
    want = tokens(model, {"s2l2a_10": x[:, 1:4]})
    torch.testing.assert_close(tokens(adapted, {"s2l2a_10": x}), want, rtol=1e-5, atol=1e-5)
    assert report["bands"]["s2l2a_10"][0] == {"band": "B01", "from": []}
    with pytest.raises(UsageError, match="s2l2a_10: the model never saw B01"):
        to_bands(model, S2)


def test_normalised_values_stand_for_normalised_ones_where_the_new_numbers_are_given() -> None:
    model = vit(S2)
    new = {"l8l1_30": sensor("landsat8-oli-l1").modalities["l8l1_30"][:7]}
    with pytest.raises(UsageError, match=r"l8l1: B1 cannot stand for the model's B01: one is dn"):
        to_bands(model, new, policy="response")
    own = {"l8l1_30": Normalisation("zscore", (9000.0,) * 7, tuple(range(500, 1200, 100)))}
    adapted, report = to_bands(model, new, policy="response", normalisation=own)
    assert report["values"] == "normalised"
    assert adapted.normalisation == own
    z = torch.randn(1, 7, 8, 8)
    scale = torch.tensor(own["l8l1_30"].scale)[:, None, None]
    found = tokens(adapted, {"l8l1_30": z * scale + 9000})
    one = estimate(S2["s2l2a_10"], new["l8l1_30"], policy="response")
    seen, known = one.pixels(z)
    norm = model.normalisation["s2l2a_10"]
    x = seen * torch.tensor(norm.scale)[:, None, None] + torch.tensor(norm.shift)[:, None, None]
    fine, mask = (t.repeat_interleave(3, 2).repeat_interleave(3, 3) for t in (x, known))
    want = tokens(model, {"s2l2a_10": fine}, valid={"s2l2a_10": mask})
    torch.testing.assert_close(found, want, rtol=1e-3, atol=1e-3)
    for wrong, words in (
        ({"l8l1_30": Normalisation.identity(7)}, "is divide, the model's is zscore"),
        ({"l8l1_30": Normalisation("zscore", (0.0,), (1.0,))}, "is of 1 bands, there are 7"),
        ({}, r"normalisation names \[\]"),
    ):
        with pytest.raises(UsageError, match=words):
            to_bands(model, new, policy="response", normalisation=wrong)


def test_uncalibrated_numbers_of_two_products_do_not_stand_for_each_other() -> None:
    model = vit({"l8l1_30": sensor("landsat8-oli-l1").modalities["l8l1_30"]})
    seven = sensor("landsat7-etm-l1").modalities
    with pytest.raises(UsageError, match=r"both are uncalibrated numbers \(dn\)"):
        to_bands(model, {"l7l1_30": seven["l7l1_30"][:4]}, policy="response")


def test_a_resnet_takes_the_estimate_and_says_where_it_is_not_exact() -> None:
    model = resnet(S2)
    adapted, report = to_bands(model, L8_10, policy="response", beyond="zero")
    assert report["exact"] is False
    assert report["but"] == ["the border of the image"]
    one = estimate(S2["s2l2a_10"], L8_10["l8l2_30"], policy="response")
    x = torch.rand(1, 7, 96, 96) * 0.4
    seen, known = one.pixels(x)
    norm = model.normalisation["s2l2a_10"]
    full = torch.where(known, seen, torch.tensor(norm.shift)[:, None, None])

    def stem(net: Backbone, values: Tensor, norm: Normalisation) -> Tensor:
        return net.resnet.bn1(net.resnet.conv1(norm(values)))[..., 2:-2, 2:-2]

    with torch.no_grad():
        want = stem(model, full, norm)
        found = stem(adapted, x, adapted.normalisation["l8l2_30"])
    torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-4)
    # one for one nothing is off anywhere
    fewer, report = to_bands(
        model, on_grid(L2A.select(["B04", "B02"]), 10), policy="nearest", tolerance_nm=1.0
    )
    assert report["exact"] is True
    part = torch.rand(1, 2, 96, 96)
    whole = torch.tensor(norm.shift)[None, :, None, None].repeat(1, 1, 96, 96)
    whole[:, 3], whole[:, 1] = part[:, 0], part[:, 1]
    with torch.no_grad():
        want, found = model.encode({"s2l2a_10": whole}), fewer.encode({"s2l2a_10": part})
    torch.testing.assert_close(found.pooled, want.pooled, rtol=1e-4, atol=1e-4)
    with pytest.raises(UsageError, match="a ResNet takes bands of one grid"):
        to_bands(model, NATIVE, policy="zero")


def test_clipped_values_are_said_not_to_be_exact() -> None:
    model = vit(S2, normalisation=numbers(S2, "percentile"))
    assert to_bands(model, L8_10, policy="response")[1]["but"] == [
        "values that the normalisation clips"
    ]
    ten = on_grid(L2A.select(["B04", "B02"]), 10)
    _, report = to_bands(model, ten, policy="nearest", tolerance_nm=1.0)
    assert report["exact"] is True


def test_groups_find_their_counterparts() -> None:
    model = vit({**NATIVE, **RADAR})
    new = {"l8l2_30": L8["l8l2_30"]}
    adapted, report = to_bands(model, new, policy="response")
    assert report["groups"] == {"l8l2": "s2l2a"}
    assert report["absent"] == ["s1grd"]
    # the code of the group left alone has joined its tokens
    one = estimate(
        [b for items in NATIVE.values() for b in items], L8["l8l2_30"], policy="response"
    )
    x = torch.full((1, 7, 4, 4), 0.3)
    seen, known = one.pixels(x)
    given, valid, start = {}, {}, 0
    for modality, items in NATIVE.items():
        side = 120 // int(items[0].gsd_m)
        part = slice(start, start + len(items))
        start += len(items)
        given[modality] = seen[:, part, :1, :1].expand(-1, -1, side, side).contiguous()
        valid[modality] = known[:, part, :1, :1].expand(-1, -1, side, side)
    want = tokens(model, given, valid=valid)
    torch.testing.assert_close(tokens(adapted, {"l8l2_30": x}), want, rtol=1e-4, atol=1e-4)
    both, report = to_bands(model, {**new, **RADAR}, policy="response")
    assert report["groups"] == {"l8l2": "s2l2a", "s1grd": "s1grd"}
    assert set(both.group_embed) == {"l8l2", "s1grd"}
    two = vit({**NATIVE, **sensor("sentinel2-l1c").modalities})
    with pytest.raises(UsageError, match=r"l8l2: the model has 2 groups of optical bands"):
        to_bands(two, new, policy="response")
    _, report = to_bands(two, new, policy="response", like={"l8l2_30": "s2l1c"})
    assert report["groups"] == {"l8l2": "s2l1c"}
    with pytest.raises(UsageError, match="the model has no s3"):
        to_bands(two, new, policy="response", like={"l8l2": "s3"})


def test_what_cannot_be_adapted_is_refused_in_a_line() -> None:
    model = vit(NATIVE)
    gls = {"l7gls_28": sensor("landsat7-etm-gls").bands}
    own = {"l7gls_28": Normalisation("zscore", (90.0,) * 6, (20.0,) * 6)}
    with pytest.raises(
        UsageError, match=r"120 m is not whole pixels of 28.5 m, or give token_m \(--p"
    ):
        to_bands(model, gls, policy="response", normalisation=own)
    adapted, report = to_bands(model, gls, policy="response", normalisation=own, token_m=114)
    assert report["token_m"] == {"l7gls": {"from": 120.0, "to": 114.0}}
    assert adapted.groups["l7gls"].token_m == 114.0
    for ground in (0.0, 28.5e5):
        with pytest.raises(UsageError, match=r"l7gls: token_m .* a token has 1 to 256 px of 28.5"):
            to_bands(model, gls, policy="response", normalisation=own, token_m=ground)
    with pytest.raises(UsageError, match="token_m names l8l2; the groups of the data: l7gls"):
        to_bands(model, gls, policy="response", normalisation=own, token_m={"l8l2": 120})
    with pytest.raises(UsageError, match="s1grd: VV: the model has no VV in dB"):
        to_bands(model, RADAR, policy="response", like={"s1grd": "s2l2a"})
    with pytest.raises(UsageError, match="l8l2: nothing of the data tells"):
        to_bands(model, L8, policy="zero")
    with pytest.raises(UsageError, match="tolerance_nm is for the policies nearest"):
        to_bands(model, NATIVE, tolerance_nm=3.0)
    made = create_model(
        "vit_nano",
        bands={"s2l2a_10": NATIVE["s2l2a_10"]},
        token_m=80,
        tokenizer="generator",
        **SMALL,
    )
    with pytest.raises(UsageError, match=r"GeneratedEmbed; it takes other bands as they are"):
        to_bands(made, L8, policy="response")
    less = create_model("less_nano", bands={"s2l2a_10": NATIVE["s2l2a_10"]})
    with pytest.raises(UsageError, match="less_nano: only a ViT with one token group a sensor"):
        to_bands(less, L8, policy="response")


def test_the_card_says_what_the_model_is_and_what_it_was(tmp_path) -> None:
    save(tmp_path / "own", vit(NATIVE))
    model = load(tmp_path / "own")
    adapted, report = to_bands(model, L8, policy="response")
    save(tmp_path / "new", adapted)
    again = load(tmp_path / "new")
    x = {"l8l2_30": torch.rand(1, 7, 8, 8)}
    assert torch.equal(tokens(again, x), tokens(adapted, x))
    card = again.card
    assert card.name == "own (adapted)"
    assert {m: [b.name for b in items] for m, items in card.bands.items()} == {
        "l8l2_30": [b.name for b in L8["l8l2_30"]]
    }
    assert card.adapted_from["bands"]["s2l2a_60"] == ["B01", "B09"]
    assert card.adapted_from["weights_sha256"] == model.card.weights_sha256
    assert card.adapted_from["report"] == report
    words = (tmp_path / "new" / "README.md").read_text()
    assert "Not as it was trained: made of own" in words
    assert "| l8l2_30 | 7: SR_B1" in words
    hub = fields(card)["geo_embedding"]
    assert hub["bands"].keys() == {"l8l2_30"}
    assert hub["adapted_from"]["bands"].keys() == set(NATIVE)
    assert "adapted_from" not in fields(model.card)["geo_embedding"]
    # by name too, and once more
    fewer, _ = to_bands(again, {"l8l2_30": L8["l8l2_30"][1:4]})
    assert [b.name for b in fewer.card.bands["l8l2_30"]] == ["SR_B2", "SR_B3", "SR_B4"]
    assert fewer.card.name == "own (adapted)"
    assert fewer.card.adapted_from["adapted_from"]["name"] == "own"
    assert np.isclose(fewer.card.adapted_from["token_m"]["l8l2"], 120.0)


def test_a_card_without_the_field_is_of_a_model_as_it_was_trained(tmp_path) -> None:
    save(tmp_path / "own", vit(NATIVE))
    assert load(tmp_path / "own").card.adapted_from is None
    assert "adapted_from" not in (tmp_path / "own" / "card.json").read_text()
