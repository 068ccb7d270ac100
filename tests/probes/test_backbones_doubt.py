"""Wrong bands, units and normalisers that are fed on purpose: refused, or flagged in the result."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import fm
import fm.checkpoint
from fm.cli import main
from fm.errors import UsageError
from fm.normalize import Normalisation
from fm.sensors import sensor
from probes import backbones
from probes.backbones.align import align, table
from probes.backbones.feed import make_feed
from probes.backbones.look import units
from probes.backbones.of_timm import parsed
from probes.judging.evaluation import evaluate_many
from probes.judging.feeding import fed
from probes.result import Result, is_warning
from probes.settings.features import Axes
from tests.probes import networks, onnx_bytes, standin

S2 = networks.S2
ALL = {"s2l1c_10": tuple(band.name for band in sensor("sentinel2-l1c").bands)}
LEVELS = {"B08": 0.30, "B8A": 0.32, "B09": 0.12, "B10": 0.001, "B11": 0.2, "B12": 0.12}


def sentinel2(order=ALL["s2l1c_10"]):
    """Plausible reflectance of 13 bands, stored; band `order[i]` lies where band i is said to."""
    rng = np.random.default_rng(0)
    spread = rng.uniform(0.7, 1.3, (12, 1, 6, 6))
    level = np.array([LEVELS.get(name, 0.08) for name in order])[:, None, None]
    stored = {"s2l1c_10": (1e4 * level * spread).astype(np.uint16)}
    return networks.data(stored, ALL, {"s2l1c_10": (1e-4, 0.0)})


def test_bands_of_sentinel2_in_another_order_are_a_warning():
    assert units(sentinel2(), "b") == []
    names = list(ALL["s2l1c_10"])
    names.remove("B8A")
    last = sentinel2((*names, "B8A"))  # EuroSAT's files, read as if in the sensor's order
    found = units(last, "b")
    assert len(found) == 3
    assert all(is_warning(text) for text in found)
    assert "mean(B8A)" in found[0]
    assert "another order" in found[0]


def radar(values):
    pixels = {"s1grd_10": values.astype(np.float32)}
    return networks.data(pixels, {"s1grd_10": ("VV", "VH")}, {"s1grd_10": (1.0, 0.0)})


def test_linear_backscatter_is_no_decibels():
    power = np.random.default_rng(0).gamma(2.0, 0.05, (12, 2, 6, 6))
    assert units(radar(10 * np.log10(power)), "b") == []
    with pytest.raises(UsageError, match=r"s1grd_10 VV has no negative value: .* linear"):
        units(radar(power), "b")


def test_reflectance_scaled_twice_is_refused_whatever_the_model():
    stored = networks.s2().astype(np.uint16) * 40
    twice = networks.data({"s2l2a_10": stored}, S2, {"s2l2a_10": (1e-8, 0.0)})
    with pytest.raises(UsageError, match="no reflectance above"):
        units(twice, "b")
    # a median says nothing of scenes that are mostly empty
    stored[:, :, 2:] = 0
    percent = networks.data({"s2l2a_10": stored}, S2, networks.SCALE)
    assert units(percent, "b") == []


def test_every_row_of_a_session_is_warned(monkeypatch, pairs):
    """Floors too: who compares them with a model reads the same data."""
    from probes.judging import session

    monkeypatch.setattr(session, "units", lambda data, name: ["WARNING: bands"])
    [row] = evaluate_many(None, "bigearthnet-s2", ["raw-pixel"], data=pairs)
    assert row.benchmark["notes"][0] == "WARNING: bands"


def test_a_checkpoint_is_looked_at_by_families_that_read_pixels_themselves(tmp_path):
    """Fine-tuning and dense heads do not extract features, and were given anything in silence."""
    model = fm.create_model(
        "vit_nano",
        bands={"s2l2a_10": sensor("sentinel2-l2a").modalities["s2l2a_10"]},
        token_m=40,
        width=32,
        depth=1,
        heads=2,
        normalisation={"s2l2a_10": Normalisation("zscore", (1000.0,) * 4, (500.0,) * 4)},
        scaling={"s2l2a_10": (1e-4, 0.0)},
    )
    data = networks.data({"s2l2a_10": networks.s2().astype(np.uint16) * 40}, S2, networks.SCALE)
    job = standin.job(SimpleNamespace(), networks.benchmark(), data, model)
    [note] = fed(job).account.notes
    assert is_warning(note)
    assert "hardly varies" in note


def test_blue_of_colour_models_is_blue():
    """The nominal blue of a camera, 460 nm, lies closer to B01 than to B02."""
    data = table({"s2l2a_10": ("B02", "B03", "B04", "B08"), "s2l2a_60": ("B01", "B09")})
    found = align(parsed("rgb:B,G,R"), data, Axes(), where="x")
    assert [source.given.name for source in found] == ["B02", "B03", "B04"]


def notes(model, data, axes=None):
    return make_feed(model, data, axes or Axes(normaliser="zscore"), benchmark="b@1").notes


def test_channels_that_only_the_user_declares_are_told_and_named(tmp_path, pairs):
    data = networks.data({"s2l2a_10": networks.s2().astype(np.uint16) * 40}, S2, networks.SCALE)
    usual = backbones.load("timm:test_resnet", weights="random", bands="rgb:R,G,B")
    assert not any("declared" in text for text in notes(usual, data))
    swapped = backbones.load("timm:test_resnet", weights="random", bands="rgb:B,G,R")
    assert any("declared by --bands rgb:B,G,R; timm's own" in text for text in notes(swapped, data))
    made = [
        evaluate_many(model, "bigearthnet-s2", ["knn"], data=pairs, with_floors=False)[0]
        for model in (usual, swapped)
    ]
    assert made[0].id != made[1].id
    assert made[1].id.endswith("--channels-rgb-B-G-R--s0")
    assert made[1].axes["changed"] == {"channels": "rgb:B,G,R"}


def test_channels_that_contradict_torchgeo_are_a_warning():
    name = "torchgeo:ResNet18_Weights.SENTINEL2_RGB_MOCO"
    data = networks.data({"s2l2a_10": networks.s2().astype(np.uint16) * 40}, S2, networks.SCALE)
    same = backbones.load(name, weights="random", bands="sentinel2-l2a:B04,B03,B02@10")
    assert same.intake.declared is None
    other = backbones.load(name, weights="random", bands="sentinel2-l2a:B02,B03,B04@10")
    [text] = [text for text in notes(other, data) if is_warning(text)]
    assert "torchgeo lists B4, B3, B2" in text


def test_an_onnx_file_confirms_no_bands(tmp_path):
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    path = tmp_path / "net.onnx"
    path.write_bytes(onnx_bytes.model(np.ones((5, 3, 1, 1), np.float32)))
    data = networks.data({"s2l2a_10": networks.s2().astype(np.uint16) * 40}, S2, networks.SCALE)
    model = backbones.load(f"onnx:{path}", bands="rgb:R,G,B")
    assert any("cannot confirm" in text for text in notes(model, data))


def test_bands_far_from_the_model_s_are_a_warning():
    stored = networks.s2().astype(np.uint16)[:, [1, 1, 2, 3]] * 40
    bands = {"s2l2a_10": ("B08", "B02", "B03")}
    data = networks.data({"s2l2a_10": stored[:, :3]}, bands, networks.SCALE)
    with pytest.raises(UsageError, match=r"R \(665 nm\) by name or within 40 nm"):
        notes(networks.adapter(), data)
    made = notes(networks.adapter(), data, Axes(normaliser="zscore", tolerance_nm=200))
    [text] = [text for text in made if is_warning(text)]
    assert text == "WARNING: bands far from the model's: R from s2l2a_10 B08 (+167.8 nm)"


def test_another_normaliser_than_the_model_s_is_told():
    data = networks.data({"s2l2a_10": networks.s2().astype(np.uint16) * 40}, S2, networks.SCALE)
    model = backbones.load("timm:test_resnet", weights="random")
    assert "normaliser identity, not the model's own" in notes(
        model, data, Axes(normaliser="identity")
    )


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    import timm

    folder = tmp_path_factory.mktemp("weights")
    for seed in (1, 2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = timm.create_model("test_resnet", num_classes=0)
        torch.save(net.state_dict(), folder / f"{seed}.pth")
    return folder


def test_a_result_of_other_weights_is_not_replaced_in_silence(weights, pairs, tmp_path, capsys):
    words = ["probe", "timm:test_resnet", "--benchmark", "bigearthnet-s2", "--protocol", "knn"]
    words += ["--data", str(pairs), "--no-floors", "--out", str(tmp_path)]
    assert main([*words, "--from", str(weights / "1.pth")]) == 0
    [path] = tmp_path.glob("*.json")
    first = path.read_bytes()
    assert main([*words, "--from", str(weights / "2.pth")]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "is of other weights" in said
    assert "--name" in said
    assert path.read_bytes() == first
    assert main([*words, "--from", str(weights / "2.pth"), "--name", "longer run"]) == 0
    assert sorted(Result.load(p).model["name"] for p in tmp_path.glob("*.json")) == [
        "longer run",
        "test_resnet",
    ]
    assert main([*words, "--from", str(weights / "1.pth")]) == 0  # the same again is no other


def test_a_run_trained_again_replaces_its_result_and_says_so(blocks, tmp_path, capsys):
    model = standin.Encoder()
    folder = tmp_path / "results"
    model.card = SimpleNamespace(name="mine", weights_sha256="a" * 64)
    model.source = "runs/mine"
    options = {"data": blocks, "out": folder, "with_floors": False}
    evaluate_many(model, "indian-pines", ["knn"], **options)
    model.card.weights_sha256 = "b" * 64
    evaluate_many(model, "indian-pines", ["knn"], **options)
    assert "will be replaced" in capsys.readouterr().err
    other = standin.write_scene(tmp_path / "other", *standin.scene(seed=1))
    with pytest.raises(UsageError, match=r"is of other data \(scene, manifest .*--out"):
        evaluate_many(model, "indian-pines", ["knn"], **{**options, "data": other})
    model.source = "runs/other"
    model.card.weights_sha256 = "c" * 64
    with pytest.raises(UsageError, match="of other weights"):
        evaluate_many(model, "indian-pines", ["knn"], **options)


def test_a_warning_is_printed_beside_the_cell_it_is_of(pairs, tmp_path, capsys):
    """The notes of the first row alone were printed."""
    words = ["probe", "timm:test_resnet", "--weights", "random", "--benchmark", "bigearthnet-s2"]
    words += ["--protocol", "knn", "--data", str(pairs), "--no-floors"]
    assert main([*words, "--normaliser", "zscore,identity,divide"]) == 0
    lines = capsys.readouterr().out.splitlines()
    [text] = [line for line in lines if "normaliser identity" in line and "own" in line]
    assert text.endswith("seed 0) normaliser-identity]")


def test_a_score_in_doubt_has_a_mark_in_the_grid():
    from probes.cli import grid
    from probes.cli import table as lines

    def made(size, notes):
        return Result(
            model={"name": "m", "kind": "random-init"},
            benchmark={
                **{"name": "b", "version": 1, "n_train": 1, "n_val": 1, "n_test": 1},
                "notes": notes,
            },
            protocol={"name": "knn", "version": 1},
            seed=0,
            metrics={"oa": {"value": 0.5, "low": None, "high": None}},
            primary="oa",
            overlap={},
            axes={"resize": size, "normaliser": "model", "changed": {"resize": size}},
        )

    results = [made(32, ["few"]), made(64, ["few", "WARNING: far"])]
    assert [line.split() for line in grid(results).splitlines()[1:]] == [
        ["px", "model"],
        ["32", "0.5000"],
        ["64", "0.5000!"],
    ]
    assert lines(results).splitlines()[-2:] == ["note: few", "WARNING: far [knn m resize-64]"]


def test_folders_that_cannot_be_written_to_are_told_first(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    common = ["probe", "--benchmark", "indian-pines", "--data", "nowhere", "--protocol", "linear"]
    for words, text in (
        (["--out", str(tmp_path / "file" / "results")], "is a file; name a folder"),
        (["--cache", str(tmp_path / "file")], "is a file; name a folder"),
        (["--protocol", ","], "names nothing"),
        (["tim:resnet18"], "did you mean 'timm'?"),
        (["--name", "x"], "give a word for the model"),
    ):
        assert main([*common, *words]) == 2, words
        said = capsys.readouterr().err.strip()
        assert text in said, said
        assert len(said.splitlines()) == 1
    assert [path.name for path in Path(tmp_path).iterdir()] == ["file"]


def test_a_copy_of_an_intake_keeps_what_was_declared():
    model = backbones.load("timm:test_resnet", weights="random", bands="rgb:B,G,R")
    assert replace(model.intake, multiple=2).declared == "rgb:B,G,R"
    assert model.fresh(1).intake.declared == "rgb:B,G,R"
