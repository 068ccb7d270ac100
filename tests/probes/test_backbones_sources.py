import importlib.util

import numpy as np
import pytest
import torch
from torch.nn import functional

from fm.errors import FMError, UsageError
from probes import backbones
from probes.backbones.of_packages import lite_state
from probes.features.extraction import extract, model_hash
from probes.settings.features import Axes
from tests.fm.foreign import efficientnet
from tests.probes import networks, onnx_bytes
from tests.probes.networks import S2, SCALE


def given(side=32, count=4):
    x = networks.s2(count=count, side=side).astype(np.uint16) * 40
    return networks.data({"s2l2a_10": x}, S2, SCALE)


def test_wrong_names_are_one_line():
    for name, options, text in (
        ("timm:resnet51", {"weights": "random"}, "did you mean"),
        ("timm:resnet18", {}, "no weights: give --from FILE"),
        ("timm:resnet18", {"weights": "imagenet"}, "give random"),
        ("timm:resnet18", {"weights": "random", "file": "x.pth"}, "exclude each other"),
        ("timm:resnet18", {"file": "nowhere.pth"}, "no such file"),
        ("torchgeo:ResNet50_Weights.MOCO", {"weights": "random"}, "has no weights"),
        ("torchgeo:DOFABase16_Weights.DOFA_MAE", {"weights": "random"}, "fm models convert"),
        ("torchgeo:ResNet50_Weights.FMOW_RGB_GASSL", {"weights": "random"}, "give --bands"),
        ("package:augnet-resnet", {"weights": "random"}, "did you mean 'augnet-resnet50'"),
        ("package:augnet-resnet50", {"file": "x.pth"}, "--from is for"),
        ("onnx:nowhere.onnx", {"bands": "rgb:R,G,B"}, "no such file"),
        ("onnx:a.onnx", {"weights": "random"}, "cannot be given random"),
        ("hub:x", {}, "there is no backbone"),
    ):
        with pytest.raises(FMError, match=text) as error:
            backbones.load(name, **options)
        assert "\n" not in str(error.value), name
    assert backbones.is_backbone("timm:resnet18")
    assert not backbones.is_backbone("runs/mae/export")
    assert not backbones.is_backbone("C:/runs")


def test_package_needs_a_folder(monkeypatch):
    monkeypatch.delenv("EOFM_CACHE", raising=False)
    with pytest.raises(UsageError, match="--packages is missing"):
        backbones.load("package:efficientnet-lite0")


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_efficientnet"])
def test_timm_features_are_timm_s(name, tmp_path):
    """A file of the whole classifier is read; pooled features are those before its last layer."""
    import timm

    torch.manual_seed(3)
    theirs = timm.create_model(name, num_classes=7).eval()
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": theirs.state_dict()}, path)
    model = backbones.load(f"timm:{name}", file=path)
    assert model.pretrained
    assert model.card.parent.startswith(f"timm:{name}, sha256 ")
    x = torch.rand(2, 3, 48, 48)
    with torch.inference_mode():
        made = model.see(x)
        if name == "test_vit":
            theirs = timm.create_model(name, num_classes=7, dynamic_img_size=True).eval()
            theirs.load_state_dict(torch.load(path, weights_only=True)["state_dict"])
        want = theirs.forward_head(theirs.forward_features(x), pre_logits=True)
    torch.testing.assert_close(made.pooled, want)
    assert made.pooled.shape[1] == model.width
    rows, columns = made.grid["image"]
    assert made.tokens.shape[1] == rows * columns
    state = {k: v for k, v in theirs.state_dict().items() if "bias" not in k}
    torch.save(state, path)
    with pytest.raises(FMError, match="do not fit the model"):
        backbones.load(f"timm:{name}", file=path)


def test_normaliser_and_channel_order_of_timm_go_together():
    plain = backbones.load("timm:test_resnet", weights="random")
    assert [b.name for b in plain.bands["image"]] == ["R", "G", "B"]
    assert not plain.pretrained
    assert "random weights" in plain.card.name
    mean = plain.normalisation["image"].shift
    bgr = backbones.load("timm:test_resnet", weights="random", bands="rgb:B,G,R")
    assert bgr.normalisation["image"].shift == mean[::-1]
    other = backbones.load("timm:test_resnet", weights="random", bands="sentinel2-l2a:B08,B04@10")
    assert other.normalisation == {}
    with pytest.raises(UsageError, match="nobody says how"):
        extract(other, given(), benchmark="b@1")
    assert extract(other, given(), benchmark="b@1", axes=Axes(normaliser="zscore")).shape[0] == 4


def test_random_weights_are_those_of_the_seed():
    hashes = [
        model_hash(backbones.load("timm:test_resnet", weights="random", seed=seed))
        for seed in (0, 0, 1)
    ]
    assert hashes[0] == hashes[1] != hashes[2]
    fresh = backbones.load("timm:test_resnet", weights="random", seed=0).fresh(1)
    assert model_hash(fresh) == hashes[2]


def test_torchgeo_states_bands_and_units():
    """MoCo divides stored reflectance by 10 000; the 13 bands are named as the sensor does."""
    model = backbones.load("torchgeo:ResNet18_Weights.SENTINEL2_ALL_MOCO", weights="random")
    names = [band.name for band in model.intake.bands]
    assert names[7:11] == ["B08", "B8A", "B09", "B10"]
    assert model.intake.unit == "reflectance"
    np.testing.assert_allclose(model.intake.normalisation.scale, 1.0)
    rgb = backbones.load("torchgeo:ResNet18_Weights.SENTINEL2_RGB_MOCO", weights="random")
    assert [band.name for band in rgb.intake.bands] == ["B04", "B03", "B02"]
    moco = extract(rgb, given(), benchmark="b@1")
    divided = extract(rgb, given(), benchmark="b@1", axes=Axes(normaliser="divide"))
    np.testing.assert_allclose(moco, divided, atol=1e-5)
    radar = backbones.load("torchgeo:ViTSmall16_Weights.SENTINEL1_GRD_MAE", weights="random")
    assert radar.intake.unit == "dB"
    np.testing.assert_allclose(radar.intake.normalisation.shift, (-12.59, -20.26))
    landsat = backbones.load("torchgeo:ResNet18_Weights.LANDSAT_ETM_SR_MOCO", weights="random")
    assert landsat.intake.unit == "display"
    with pytest.raises(UsageError, match=r"B01 .*--missing"):
        extract(model, given(), benchmark="b@1")


def test_torchgeo_s_table_of_satlas_is_not_believed():
    """Its `meta` says resnet50 for a ResNet-152; 8-bit colours and reflectance have no one unit."""
    from torchgeo.models import ResNet152_Weights

    from probes.backbones.of_torchgeo import ARCHITECTURES, normaliser

    weights = ResNet152_Weights.SENTINEL2_MI_MS_SATLAS
    assert weights.meta["model"] == "resnet50"
    assert ARCHITECTURES[type(weights).__name__] == "resnet152"
    bands = networks.rgb()
    assert normaliser(weights.transforms, bands * 3)[1] is None


# --- ONNX


def _onnx(tmp_path, **options):
    weight = np.random.default_rng(0).normal(size=(6, 3, 1, 1)).astype(np.float32)
    path = tmp_path / "net.onnx"
    path.write_bytes(onnx_bytes.model(weight, **options))
    return path, torch.from_numpy(weight)


@pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime") is not None, reason="onnxruntime is installed"
)
def test_without_onnxruntime_one_line_says_so(tmp_path):
    path, _ = _onnx(tmp_path)
    with pytest.raises(UsageError, match="pip install eofm"):
        backbones.load(f"onnx:{path}", bands="rgb:R,G,B")


@pytest.mark.parametrize("batch", ["B", 3])
def test_onnx_files_give_what_they_compute(tmp_path, batch):
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    path, weight = _onnx(tmp_path, batch=batch)
    model = backbones.load(f"onnx:{path}", bands="rgb:B,G,R")
    mapped = backbones.load(f"onnx:{path}#map", bands="rgb:B,G,R")
    data = given(side=8, count=4)
    axes = Axes(normaliser="divide")
    made = extract(model, data, benchmark="b@1", axes=axes)
    pixels = torch.from_numpy(data.read(np.arange(4)).pixels["s2l2a_10"]).float() / 1e4
    want = functional.conv2d(pixels[:, :3], weight)  # B02, B03, B04 are blue, green, red
    np.testing.assert_allclose(made, want.mean((2, 3)).numpy(), atol=1e-5)
    tokens = extract(mapped, data, benchmark="b@1", axes=axes, words=("centre",))
    np.testing.assert_allclose(tokens, want[:, :, 4, 4].numpy(), atol=1e-5)
    two = extract(model, data, benchmark="b@1", axes=axes, batch_size=1, processes=2)
    np.testing.assert_array_equal(
        two, extract(model, data, benchmark="b@1", axes=axes, batch_size=1)
    )
    with pytest.raises(UsageError, match="cannot be trained"):
        model.bind(model.feed).see(torch.zeros(1, 3, 8, 8))


def test_onnx_files_that_do_not_fit_are_refused(tmp_path):
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    path, _ = _onnx(tmp_path, height=8, width=8)
    with pytest.raises(UsageError, match="give --bands"):
        backbones.load(f"onnx:{path}")
    with pytest.raises(UsageError, match="2 bands are named, the file takes 3"):
        backbones.load(f"onnx:{path}", bands="rgb:R,G")
    with pytest.raises(UsageError, match="no output nothing"):
        backbones.load(f"onnx:{path}#nothing", bands="rgb:R,G,B")
    model = backbones.load(f"onnx:{path}", bands="rgb:R,G,B")
    with pytest.raises(UsageError, match="give --resize 8"):
        extract(model, given(side=9), benchmark="b@1", axes=Axes(normaliser="divide"))
    path.write_bytes(b"not protobuf")
    with pytest.raises(FMError, match="not an ONNX file"):
        backbones.load(f"onnx:{path}", bands="rgb:R,G,B")


# --- packages


def test_lite0_on_timm_s_keys_computes_what_its_own_keys_say():
    """Random weights under the file's 296 keys: the mapped network gives the same numbers."""
    generator = torch.Generator().manual_seed(0)
    state = efficientnet.random_state("efficientnet_lite0", generator)
    assert len(state) == 296
    model = backbones.load("package:efficientnet-lite0", weights="random")
    mapped = lite_state(state)
    own = model.network.state_dict()
    model.network.load_state_dict({k: v for k, v in mapped.items() if k in own})
    for side in (64, 45):
        x = torch.randn(2, 3, side, side, generator=generator)
        with torch.inference_mode():
            made, want = model.see(x).pooled, efficientnet.by_its_own_keys(state, x).mean((2, 3))
        assert want.std() > 0.05
        torch.testing.assert_close(made, want, atol=1e-4, rtol=1e-4)
    with pytest.raises(FMError, match="no key of EfficientNet-Lite0"):
        lite_state({"_blocks.0._expand_conv.weight": torch.zeros(1)})


@pytest.mark.data
def test_packages_carry_what_was_checked(package_cache):
    for name, width, count in (
        ("efficientnet-lite0", 1280, 3_371_008),
        ("augnet-resnet50", 2048, 23_508_032),
    ):
        try:
            model = backbones.load(f"package:{name}", packages=package_cache)
        except FMError as error:
            pytest.skip(str(error))
        assert model.width == width
        assert sum(p.numel() for p in model.parameters()) == count
        assert model.card.licence in ("MIT", "Apache-2.0")
        axes = Axes(normaliser="zscore")
        made = extract(model, given(), benchmark="b@1", axes=axes)
        other = extract(model.fresh(0), given(), benchmark="b@1", axes=axes)
        assert made.shape == (4, width)
        assert np.abs(made - other).max() > 0.1
