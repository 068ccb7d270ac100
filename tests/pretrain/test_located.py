"""What a run of images against places leaves behind, and what can be made of its files."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch.nn import functional

import fm
import shards
from fm.cli import main
from fm.errors import FMError, UsageError
from fm.location.checkpoint import describe
from pretrain.runs.offline import export
from pretrain.trainer import run
from probes.embed import parquet
from probes.location.database import open_database
from probes.location.encoders import get_encoder
from tests import ranks as forked
from tests.pretrain.test_validation import config_file
from tests.ranks import command

WORDS = ["schedule.steps=3", "objective.view.size=12", "objective.scale=20"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_dataset: Path) -> Path:
    """A run of three steps, validated on six samples."""
    folder = tmp_path_factory.mktemp("trained")
    run(str(config_file(folder, tiny_dataset)), WORDS)
    return folder / "run"


def held_out(dataset: Path) -> shards.Dataset:
    return shards.open(dataset, where="split == 'val'")


def test_keys_from_files_are_those_of_validation(trained: Path, tiny_dataset: Path) -> None:
    """The last line of `validation.jsonl` again, from what the run left and the dataset."""
    pair = fm.location.pair(trained)
    batches = held_out(tiny_dataset).loader(
        batch_size=4, shuffle=False, pad=True, modalities=["s2l1c_10"]
    )
    made = pair.embed(batches)
    assert made.keys.shape == (6, 8)
    assert made.features.shape == (6, 32)
    assert made.keys.norm(dim=1) == pytest.approx(torch.ones(6))
    with torch.no_grad():
        places = functional.normalize(pair.places(made.lonlat), dim=1)
    logits = pair.head.scale * made.keys @ places.T
    own = torch.arange(6)
    want = json.loads((trained / "validation.jsonl").read_text().splitlines()[-1])
    assert functional.cross_entropy(logits, own).item() == pytest.approx(want["loss_image"], 1e-5)
    assert functional.cross_entropy(logits.T, own).item() == pytest.approx(want["loss_place"], 1e-5)
    assert pair.head.scale != 1.0


def test_images_alone_are_those_of_a_dataset(trained: Path, tiny_dataset: Path) -> None:
    pair, ds = fm.location.pair(trained / "location"), held_out(tiny_dataset)
    words = {"batch_size": 6, "shuffle": False, "modalities": ["s2l1c_10"]}
    made = pair.embed(ds.loader(pad=True, **words))
    batch = next(ds.loader(pad=True, **words))
    with torch.no_grad():
        alone = pair.images(batch.pixels, scaling=batch.scaling)
        # physical, and the centre alone
        physical = batch.pixels["s2l1c_10"].float() * batch.scaling["s2l1c_10"][0]
        cut = pair.images({"s2l1c_10": physical[..., 6:18, 6:18]})
    assert torch.allclose(alone, made.keys, atol=1e-6)
    assert torch.allclose(cut, made.keys, atol=1e-5)
    with pytest.raises(UsageError, match="give single images"):
        pair.images({"s2l1c_10": physical[:, None]})
    with pytest.raises(FMError, match="pad=True"):
        pair.embed(ds.loader(**words))


def test_fm_embed_of_the_location_folder_makes_keys_of_retrieval(
    trained: Path, tmp_path: Path, tiny_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Defect: features before the head, which are no keys, and are of another width."""
    where = ["--where", "split == 'val'"]
    for part, name in (("location", "keys"), ("export", "values")):
        words = ["embed", str(trained / part), str(tiny_dataset), *where]
        assert main([*words, "--out", str(tmp_path / f"{name}.parquet")]) == 0
    keys, values = (tmp_path / f"{name}.parquet" for name in ("keys", "values"))
    pair = fm.location.pair(trained)
    batches = held_out(tiny_dataset).loader(
        batch_size=4, shuffle=False, pad=True, modalities=["s2l1c_10"]
    )
    made = pair.embed(batches)
    found = parquet.read(keys)
    assert found.about["model"] == "places"
    assert torch.allclose(torch.from_numpy(found.embedding), made.keys, atol=1e-6)
    database = open_database([keys, values])
    assert database.values.shape == (6, 32)
    encoder = get_encoder(str(trained / "location"), None)
    assert [head.name for head in database.on(encoder)] == ["places-range", "places-range-plus"]
    encoder.about["weights_sha256"] = "of another"
    with pytest.raises(UsageError, match="the space of another location encoder than places"):
        database.on(encoder)
    capsys.readouterr()
    open_database([values])
    assert "does not say in which space" in capsys.readouterr().err


def test_a_stopped_run_gives_both_encoders(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Defect: `--export` writes the image encoder alone."""
    copy = Path(shutil.copytree(trained, tmp_path / "run"))
    shutil.rmtree(copy / "export")
    shutil.rmtree(copy / "location")
    assert main(["pretrain", str(copy), "--export", str(tmp_path / "model")]) == 0
    whole, ours = fm.location.pair(trained), fm.location.pair(tmp_path / "model")
    for name, value in whole.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), name
    assert ours.head.scale == whole.head.scale
    told, want = (describe(f / "location") for f in (tmp_path / "model", trained))
    assert told["weights_sha256"] == want["weights_sha256"]
    assert told["image_head"]["encoder"] == ".."
    assert told["training"]["steps"] == 3
    early = copy / "checkpoints" / "step-00000001"
    export(early, tmp_path / "early")
    assert not torch.equal(
        fm.location.load(tmp_path / "early" / "location").state_dict()["first.weight"],
        whole.places.state_dict()["first.weight"],
    )
    assert fm.load(tmp_path / "early").card.training["steps"] == 1
    moved = Path(shutil.move(tmp_path / "model", tmp_path / "moved"))
    assert fm.location.pair(moved).head.scale == whole.head.scale
    with pytest.raises(FMError, match="exists already"):
        export(copy, moved)


def test_what_does_not_belong_together_is_refused(trained: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(trained, tmp_path / "run"))
    export(copy / "checkpoints" / "step-00000001", tmp_path / "early")
    with pytest.raises(FMError, match=r"not the image encoder that the head in .* learned for"):
        fm.location.pair(copy, image_encoder=tmp_path / "early")
    weights = copy / "location" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    for load in (fm.location.load, fm.location.pair):
        with pytest.raises(FMError, match=r"not what location\.json was written for"):
            load(copy / "location")
    alone = fm.location.create("wrap", width=8, dim=4, depth=1)
    fm.location.save(tmp_path / "alone", alone)
    assert describe(tmp_path / "alone")["format_version"] == 1
    with pytest.raises(FMError, match="without the head of an image encoder"):
        fm.location.pair(tmp_path / "alone")


@pytest.mark.slow
@pytest.mark.parametrize("stage", [2, 3])
def test_two_ranks_under_zero_leave_the_same(
    stage: int, trained: Path, tmp_path: Path, tiny_dataset: Path
) -> None:
    path = config_file(tmp_path, tiny_dataset)
    words = ("pretrain", str(path), *WORDS, f"engine.deepspeed=zero{stage}")
    done = forked.launch(tmp_path / "told", command, *words, ranks=2)
    assert done.returncode == 0, done.stderr
    export(tmp_path / "run", tmp_path / "model")
    ours = fm.location.pair(tmp_path / "run").state_dict()
    offline = fm.location.pair(tmp_path / "model").state_dict()
    for name, value in fm.location.pair(trained).state_dict().items():
        assert torch.equal(ours[name], offline[name]), name
        assert torch.allclose(ours[name], value, atol=2e-4), name
