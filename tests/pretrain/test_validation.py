"""Validation on held-out samples: without chance, the same on any ranks, and never on test."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from fm.errors import FMError, UsageError
from fm.rng import CounterRng
from pretrain.objectives.place.satclip import SatCLIP
from pretrain.runs.folder import read_lines
from pretrain.trainer import load_config, run
from tests import ranks as forked
from tests.conformance.objectives import OBJECTIVES
from tests.pretrain.test_trainer import losses
from tests.ranks import command

HELD_OUT = {"where": "split == 'val'", "every_samples": 16, "batch_size": 4}


def config_file(folder: Path, dataset: Path, **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    values = {
        "name": "places",
        "out": str(folder / "run"),
        "data": {
            "path": str(dataset),
            "where": "split == 'train'",
            "batch_size": 8,
            "modalities": ["s2l1c_10"],
        },
        "model": {"name": "vit_nano", "token_m": 60, "options": {"depth": 1, "width": 32}},
        "objective": {
            "kind": "satclip",
            "image": "tuned",
            "width": 8,
            "view": {"size": 12},
            "location": {"width": 16, "options": {"L": 4}},
        },
        "augment": {"dihedral": True},
        "engine": {"precision": "fp32"},
        "schedule": {"steps": 5, "warmup": 0},
        "checkpoint": {"every": 1, "keep": 5},
        "monitor": {
            "pictures": 0,
            "tensorboard": False,
            "detail_every": 0,
            "features_every": 0,
        },
        "validation": HELD_OUT,
        **changes,
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def rows(folder: Path) -> list[dict[str, Any]]:
    found = read_lines(folder / "run" / "validation.jsonl")
    return [{k: v for k, v in row.items() if k != "seconds"} for row in found]


@pytest.fixture(scope="module")
def validated(tmp_path_factory: pytest.TempPathFactory, tiny_dataset: Path) -> Path:
    """A run of five steps of eight samples, validated on six others."""
    folder = tmp_path_factory.mktemp("validated")
    run(str(config_file(folder, tiny_dataset)))
    return folder


def test_it_is_judged_before_on_the_way_and_at_the_end(validated: Path) -> None:
    found = rows(validated)
    assert [row["step"] for row in found] == [0, 2, 4, 5]
    assert {row["count"] for row in found} == {6}
    assert {row["left_out"] for row in found} == {row["unreadable"] for row in found} == {0}
    logged = {row["step"]: row for row in read_lines(validated / "run" / "metrics.jsonl")}
    for row in found[1:]:
        for name in ("loss", "found/place", "within_km/25", "km/median"):
            assert logged[row["step"]][f"validation/{name}"] == row[name]
    assert "validation/loss" not in logged[3]
    assert found[0]["loss"] != found[1]["loss"]


def test_looking_changes_nothing_of_what_is_learned(
    validated: Path, tmp_path: Path, tiny_dataset: Path
) -> None:
    path = config_file(tmp_path, tiny_dataset, validation=None)
    run(str(path))
    assert losses(tmp_path / "run") == losses(validated / "run")
    seen, bare = load_config(str(validated / "config.yaml")), load_config(str(path))
    assert seen.hash() == bare.hash()


def test_two_ranks_judge_the_same_weights_alike(
    validated: Path, tmp_path: Path, tiny_dataset: Path
) -> None:
    """Defect: what is encoded at once, or the gallery, depends on the number of ranks."""
    path = config_file(tmp_path, tiny_dataset)
    done = forked.launch(tmp_path / "told", command, "pretrain", str(path), ranks=2)
    assert done.returncode == 0, done.stderr
    one, two = rows(validated), rows(tmp_path)
    assert one[0] == two[0]  # the weights are the same bits there
    assert len(two) == len(one)
    for ours, theirs in zip(two, one, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)
    assert losses(tmp_path / "run") == pytest.approx(losses(validated / "run"), rel=1e-6)


def test_a_run_that_goes_on_has_the_same_lines(validated: Path, tmp_path: Path) -> None:
    shutil.copytree(validated, tmp_path / "again")
    folder = tmp_path / "again"
    shutil.rmtree(folder / "run" / "export")
    (folder / "run" / "latest").write_text("step-00000002\n")
    result = run(str(folder / "config.yaml"), [f"out={folder / 'run'}"])
    assert result.steps == 5
    assert rows(folder) == rows(validated)
    assert losses(folder / "run") == losses(validated / "run")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"validation": {**HELD_OUT, "where": "split != 'test'"}}, "12 of its 18 .* trained on"),
        ({"validation": {**HELD_OUT, "where": "split == 'test'"}}, "6 of its 6 .* the split test"),
        ({"validation": {**HELD_OUT, "split": ["blocks.json", "test"]}}, "test is for the end"),
        ({"validation": {"every_samples": 8}}, "say which samples are held out"),
        ({"objective": {"kind": "mae"}}, "mae cannot be judged on held-out samples"),
        ({"data": {"parts": {"a": {"path": "x"}}}}, "is of one dataset"),
    ],
)
def test_what_is_no_validation_is_refused_before_anything_is_written(
    changes: dict[str, Any], match: str, tmp_path: Path, tiny_dataset: Path
) -> None:
    with pytest.raises(UsageError, match=match):
        run(str(config_file(tmp_path, tiny_dataset, **changes)))
    assert not (tmp_path / "run").exists()


def test_one_sample_alone_says_nothing(tmp_path: Path, tiny_dataset: Path) -> None:
    where = "split == 'val' and key == 'tiny_002'"
    path = config_file(tmp_path, tiny_dataset, validation={**HELD_OUT, "where": where})
    with pytest.raises(FMError, match="1 of the held-out samples have a place"):
        run(str(path))


def test_nothing_is_left_to_chance() -> None:
    """Defect: validation with the crops, flips, blur and jitter of training (SatCLIP's code)."""
    case = OBJECTIVES["satclip-tuned"]
    view = {"size": 12, "resize": False, "flips": "square"}
    objective = replace(case, config={**case.config, "view": view, "jitter_degrees": 1.0}).build()
    assert isinstance(objective, SatCLIP)
    objective.eval()
    batch = case.batch(objective, 6)
    lonlat = batch.lonlat
    assert lonlat is not None
    lonlat[2] = float("nan")
    made = objective.compared(batch)
    assert made["known"].tolist() == [1, 1, 0, 1, 1, 1]
    again = CounterRng(99, batch.rng.epochs, batch.rng.positions + 1000)
    other = objective.compared(replace(batch, rng=again))
    for name, value in made.items():
        assert torch.equal(value, other[name]), name
    # by hand: the centre, as it is stored
    finest = max(x.shape[-1] for x in batch.pixels.values())

    def centre(x: torch.Tensor) -> torch.Tensor:
        side = 12 * x.shape[-1] // finest
        edge = (x.shape[-1] - side) // 2
        return x[..., edge : edge + side, edge : edge + side]

    pixels = {m: centre(x) for m, x in batch.pixels.items()}
    valid = None if batch.valid is None else {m: centre(x) for m, x in batch.valid.items()}
    with torch.no_grad():
        seen = objective.backbone.encode(pixels, valid=valid, scaling=batch.scaling)
        image = objective.projector(seen.pooled)
        place = objective.location(lonlat[3:].double())
    known = made["known"] > 0
    assert torch.allclose(made["image"][known], image[known], atol=1e-5)
    assert torch.allclose(made["place"][3:], place.float(), atol=1e-6)
