"""What a first layer becomes on other bands: each policy against its formula, by its outputs."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fm.adapt import estimate
from fm.errors import FMError, UsageError
from fm.first_layer import POLICIES, Column, adapted_kernels, begin_with
from fm.foreign import on_grid
from fm.models import Backbone, VisionTransformer, create_model
from fm.models.embed.patch_size import resized_kernel
from fm.models.positions import resized_positions
from fm.sensors import Band, sensor
from fm.spectral import same_band

S2 = sensor("sentinel2-l1c")
RGB = on_grid(S2.select(["B04", "B03", "B02"]), 10)
ALL = on_grid(S2.bands, 10)
RADAR = on_grid(sensor("sentinel1-grd").bands, 10)
NATIVE = {m: b for m, b in S2.modalities.items() if m != "s2l1c_60"}
SIZE = {"width": 24, "depth": 1, "heads": 3, "positions": "learned"}


def vit(bands: dict[str, tuple[Band, ...]], seed: int, grid: int = 2, **options) -> Backbone:
    torch.manual_seed(seed)
    model = create_model("vit_nano", bands=bands, token_m=80, **{**SIZE, "grid": grid, **options})
    generator = torch.Generator().manual_seed(seed)
    for value in model.parameters():
        value.data = torch.randn(value.shape, generator=generator) * 0.2
    return model.eval()


def resnet(bands: dict[str, tuple[Band, ...]], seed: int) -> Backbone:
    torch.manual_seed(seed)
    return create_model("resnet_18", bands=bands, blocks=[1, 1, 1, 1]).eval()


def kernel(model: Backbone) -> Tensor:
    """Return the first layer of a model of one modality as `[D, C, p, p]`."""
    ((_, bands),) = model.bands.items()
    state = model.state_dict()
    if "resnet.conv1.weight" in state:
        return state["resnet.conv1.weight"]
    (key,) = [k for k in state if k.endswith("proj.weight") and k.startswith("patch_embed.")]
    weight = state[key]
    return weight.view(len(weight), len(bands), 8, 8)


def names(bands: dict[str, tuple[Band, ...]]) -> list[str]:
    return [band.name for items in bands.values() for band in items]


@pytest.mark.parametrize("make", [vit, resnet])
@pytest.mark.parametrize("policy", sorted({*POLICIES} - {"nearest", "response"}))
def test_rgb_to_thirteen_bands(make, policy: str) -> None:
    parent, target = make(RGB, 1), make(ALL, 2)
    before = {key: value.clone() for key, value in target.state_dict().items()}
    old, fresh = kernel(parent), kernel(target).clone()
    if policy == "select":
        with pytest.raises(UsageError, match="select has no B01 among B04, B03, B02"):
            begin_with(target, parent, policy, "here")
        assert all(torch.equal(before[k], v) for k, v in target.state_dict().items())
        return
    told = begin_with(target, parent, policy, "here")
    new = kernel(target)
    shared = {"B04": 0, "B03": 1, "B02": 2}
    for i, name in enumerate(names(ALL)):
        origin = told.first_layer["s2l1c_10"][name]
        if policy == "repeat_mean":
            torch.testing.assert_close(new[:, i], old.mean(dim=1) * 3 / 13)
            assert origin == "mean of 3 bands times 3/13"
        elif policy == "random" or (policy == "name_match" and name not in shared):
            assert torch.equal(new[:, i], fresh[:, i])
            assert origin == "fresh"
        elif name in shared:
            assert torch.equal(new[:, i], old[:, shared[name]])
            assert origin == "its own"
        else:
            assert policy == "zero_pad"
            assert not new[:, i].any()
            assert origin == "zeros"
    # the rest moved as it is
    for key, value in parent.state_dict().items():
        if not key.startswith(("patch_embed.", "resnet.conv1.")):
            assert torch.equal(target.state_dict()[key], value), key
    # the bias: that of the weights, but for a layer that is fresh altogether
    for key, value in target.state_dict().items():
        if key.startswith("patch_embed.") and key.endswith("bias"):
            source = before if policy == "random" else parent.state_dict()
            assert torch.equal(value, source[key])


@pytest.mark.parametrize("make", [vit, resnet])
@pytest.mark.parametrize(("policy", "tolerance"), [("response", None), ("nearest", 45.0)])
def test_another_sensor_begins_with_the_estimate(make, policy: str, tolerance) -> None:
    eight = tuple(b for b in sensor("landsat8-oli-l2").bands)
    ten = tuple(replace(b, gsd_m=10.0, modality="l8l2_30") for b in eight)
    parent, target = make(ALL, 1), make({"l8l2_30": ten}, 2)
    fresh = kernel(target).clone()
    told = begin_with(target, parent, policy, "here", tolerance).first_layer["l8l2_30"]
    found = estimate(ALL["s2l1c_10"], ten, policy=policy, tolerance_nm=tolerance)
    want = torch.einsum(
        "dkij,kg->dgij", kernel(parent).double(), torch.from_numpy(found.matrix)
    ).float()
    torch.testing.assert_close(kernel(target), want)
    assert told["SR_B5"].startswith("from 1 B08 + 1 B8A")
    # a band that nothing of the weights is near keeps its own
    odd = (*ten[:3], replace(ten[3], name="X", wavelength_nm=1100.0))
    target = make({"l8l2_30": odd}, 2)
    fresh = kernel(target).clone()
    told = begin_with(target, parent, policy, "here", tolerance).first_layer["l8l2_30"]
    assert torch.equal(kernel(target)[:, 3], fresh[:, 3])
    assert told["X"] == "fresh"
    with pytest.raises(UsageError, match=r"no wavelength|nothing in"):
        begin_with(make(RADAR, 2), parent, policy, "here", tolerance)


def test_kernels_of_other_grids_are_brought_to_the_pixels() -> None:
    parent, target = vit(RGB, 1), vit({"s2l1c_20": NATIVE["s2l1c_20"]}, 2)
    told = begin_with(target, parent, "nearest", "here", 45.0)
    assert told.first_layer["s2l1c_20"]["B05"] == "from 1 B04, resized"
    weight = target.state_dict()["patch_embed.s2l1c.embed.s2l1c_20.proj.weight"].view(24, 6, 4, 4)
    want = resized_kernel(kernel(parent)[:, 0], 4)
    torch.testing.assert_close(weight[:, 0], want)
    with pytest.raises(UsageError, match="policy nearest needs tolerance_nm"):
        begin_with(target, parent, "nearest", "here")
    with pytest.raises(UsageError, match="tolerance_nm is for nearest; select takes none"):
        begin_with(target, parent, "select", "here", 45.0)


def test_a_grey_image_looks_the_same_under_repeat_mean() -> None:
    parent, target = vit(RGB, 1), vit(ALL, 2)
    begin_with(target, parent, "repeat_mean", "here")
    grey = torch.rand(2, 1, 16, 16)
    with torch.no_grad():
        a = parent.encode({"s2l1c_10": grey.expand(-1, 3, -1, -1)}).tokens
        b = target.encode({"s2l1c_10": grey.expand(-1, 13, -1, -1)}).tokens
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("policy", ["zero_pad", "select"])
def test_shared_bands_see_what_they_saw(policy: str) -> None:
    wanted = ALL if policy == "zero_pad" else on_grid(S2.select(["B02", "B04"]), 10)
    parent, target = vit(RGB, 1), vit(wanted, 2)
    begin_with(target, parent, policy, "here")
    x = torch.randn(2, len(names(wanted)), 16, 16)
    known = torch.zeros(2, 3, 16, 16)
    for i, name in enumerate(names(wanted)):
        if name in names(RGB):
            known[:, names(RGB).index(name)] = x[:, i]
    with torch.no_grad():
        a = target.encode({"s2l1c_10": x}).tokens
        b = parent.encode({"s2l1c_10": known}).tokens
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make", [vit, resnet])
def test_rgb_to_two_polarisations(make) -> None:
    parent, target = make(RGB, 1), make(RADAR, 2)
    for policy in ("zero_pad", "name_match"):
        with pytest.raises(UsageError, match=f"{policy} finds none of VV, VH among B04, B03, B02"):
            begin_with(target, parent, policy, "here")
    begin_with(target, parent, "repeat_mean", "here")
    wanted = kernel(parent).mean(dim=1, keepdim=True).expand(-1, 2, -1, -1) * 3 / 2
    torch.testing.assert_close(kernel(target), wanted)


def test_members_of_a_token_share_the_bias_and_the_scale() -> None:
    # six bands of one grid in two modalities, and one token made of both
    ten = tuple(S2.select(["B02", "B03", "B04"]))
    more = tuple(
        Band(f"X{i}", 900.0 + i, 20.0, 10.0, "reflectance", None, "s2l1c_20") for i in range(3)
    )
    parent = vit(RGB, 1)
    target = vit({"s2l1c_10": ten, "s2l1c_20": more}, 2)
    told = begin_with(target, parent, "repeat_mean", "here")
    assert set(told.first_layer) == {"s2l1c_10", "s2l1c_20"}
    grey = torch.rand(1, 1, 16, 16).expand(-1, 3, -1, -1)
    with torch.no_grad():
        a = parent.encode({"s2l1c_10": grey}).tokens
        b = target.encode({"s2l1c_10": grey, "s2l1c_20": grey}).tokens
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_kernels_of_another_size_are_refused_and_fresh_ones_are_not() -> None:
    parent = vit(RGB, 1)
    with pytest.raises(UsageError, match=r"8x8 px and width 24 do not fit B05, of 4x4 px"):
        begin_with(vit(NATIVE, 2), parent, "repeat_mean", "here")
    target = vit(NATIVE, 2)
    told = begin_with(target, parent, "name_match", "here")
    assert told.first_layer["s2l1c_10"]["B04"] == "its own"
    assert told.first_layer["s2l1c_20"]["B05"] == "fresh"
    begin_with(vit(NATIVE, 2), parent, "random", "here")


@pytest.mark.parametrize("how", ["timm", "dinov2"])
def test_a_learned_table_is_resized_as_the_weights_say(how: str) -> None:
    parent, target = vit(RGB, 1, grid=5, position_resize=how), vit(ALL, 2, grid=2)
    told = begin_with(target, parent, "random", "here")
    assert told.positions == (5, 2, how)
    table = parent.state_dict()["pos_embed"]
    own = target.state_dict()["pos_embed"]
    assert torch.equal(own[:, :1], table[:, :1])
    assert torch.equal(own[0, 1:], resized_positions(table[0, 1:], 2, 2, how))


def test_what_no_shape_tells_must_agree() -> None:
    with pytest.raises(UsageError, match=r"heads of the weights is 6, of the model 3; .*heads=6"):
        begin_with(vit(ALL, 2), vit(RGB, 1, heads=6), "random", "here")
    fixed = create_model("vit_nano", bands=RGB, token_m=80, width=24, depth=1, heads=3)
    with pytest.raises(
        UsageError, match="positions of the weights is sincos, of the model learned"
    ):
        begin_with(vit(ALL, 2), fixed, "random", "here")
    with pytest.raises(UsageError, match="PlainResNet weights do not begin a VisionTransformer"):
        begin_with(vit(ALL, 2), resnet(RGB, 1), "random", "here")
    with pytest.raises(FMError, match=r"not known \(blocks.0.ls1.gamma"):
        begin_with(vit(ALL, 2), vit(RGB, 1, layer_scale=1.0), "random", "here")
    with pytest.raises(UsageError, match="no policy 'mean'"):
        begin_with(vit(ALL, 2), vit(RGB, 1), "mean", "here")  # type: ignore[arg-type]


def test_bands_of_one_name_on_other_sensors_are_others() -> None:
    def band(name: str, nm: float | None, width: float = 30.0) -> Band:
        return Band(name, nm, width, 10.0, "reflectance", None, "s2l1c_10")

    assert same_band(band("B4", 665.0), band("B4", 655.0))
    assert not same_band(band("B4", 665.0), band("B4", 835.0))
    assert same_band(band("B8", 830.0, 110.0), band("B8", 880.0))
    assert same_band(band("VV", None), band("VV", None))
    known = [Column(band("B4", 665.0), torch.ones(2, 1, 1))]
    fresh = [Column(band("B4", 835.0), torch.zeros(2, 1, 1))]
    with pytest.raises(UsageError, match="finds none"):
        adapted_kernels(known, fresh, "name_match")


def test_towers_begin_each_with_the_weights() -> None:
    torch.manual_seed(0)
    parent = vit(RGB, 1)
    options = {**SIZE, "grid": 2}
    target = create_model(
        "towers_vit_nano", bands={**ALL, **RADAR}, token_m=80, tower_options=options
    )
    told = begin_with(target, parent, "random", "here")
    assert set(told.first_layer) == {*ALL, *RADAR}
    for name in target.groups:
        tower = target.tower(name)
        assert isinstance(tower, VisionTransformer)
        assert torch.equal(tower.cls_token, parent.cls_token)


@pytest.mark.parametrize(("make", "side"), [(vit, 16), (resnet, 64)])
def test_level_2a_under_select_is_thirteen_bands_with_a_plane_of_zeros(make, side: int) -> None:
    """SatCLIP's zero B10, without the plane; reflectance is not normalised in either."""
    parent, target = make(ALL, 1), make(on_grid(sensor("sentinel2-l2a").bands, 10), 2)
    begin_with(target, parent, "select", "here")
    x = torch.rand(2, 13, side, side, generator=torch.Generator().manual_seed(3))
    x[:, names(ALL).index("B10")] = 0
    rest = x[:, [i for i, name in enumerate(names(ALL)) if name != "B10"]]
    ((of_parent, _),), ((of_target, _),) = parent.bands.items(), target.bands.items()
    with torch.no_grad():
        want, found = parent.encode({of_parent: x}).pooled, target.encode({of_target: rest}).pooled
    torch.testing.assert_close(found, want, atol=1e-5, rtol=1e-5)
