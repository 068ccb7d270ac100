"""Runs that learn from a teacher: where it comes from, that it is the same one, what is told."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from fm.checkpoint import load, read_card, save
from fm.errors import FMError, UsageError
from fm.files import sha256_file
from fm.models import create_model
from pretrain.build import build
from pretrain.data import open_data
from pretrain.loop import Moment, Watcher
from pretrain.objectives.distill.objective import Distill
from pretrain.plan.dryrun import describe
from pretrain.plan.plan import Assumed, plan
from pretrain.ranks.processes import processes
from pretrain.runs.folder import read_lines
from pretrain.trainer import load_config, run
from tests.fm.foreign.states import state_of
from tests.pretrain.test_trainer import config_file

LARGE = {"name": "vit_nano", "token_m": 60, "options": {"depth": 2, "width": 48}}
SMALL = {
    "name": "vit_nano",
    "token_m": 120,
    "options": {"depth": 1, "width": 32},
    "bands": {"s2l1c_10": ["B04", "B03", "B02"], "s2l1c_20": ["B05:B07"]},
}


@pytest.fixture(scope="module", autouse=True)
def _joined() -> Iterator[None]:
    with processes():
        yield


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory, tiny_dataset: Path) -> Path:
    """A checkpoint of a masked autoencoder, of all bands."""
    folder = tmp_path_factory.mktemp("teacher")
    run(str(config_file(folder, tiny_dataset, model=LARGE, schedule={"steps": 2, "warmup": 0})))
    return folder / "run" / "export"


def distilling(folder: Path, dataset: Path, source: Path, **changes: Any) -> Path:
    """Write a recipe of a small student that sees six of thirteen bands."""
    told = {"kind": "distill", "teacher": {"source": str(source), **changes.pop("teacher", {})}}
    values = {"name": "student", "model": SMALL, "objective": told, **changes}
    folder.mkdir(exist_ok=True)
    return config_file(folder, dataset, schedule={"steps": 6, "warmup": 0}, **values)


def curve(folder: Path) -> list[float]:
    return [row["loss"] for row in read_lines(folder / "run" / "metrics.jsonl")]


def test_a_run_leaves_the_student_alone_and_says_who_taught_it(
    tmp_path: Path, tiny_dataset: Path, teacher: Path
) -> None:
    path = distilling(tmp_path, tiny_dataset, teacher)
    result = run(str(path))
    assert result.export is not None
    model, card = load(result.export), read_card(teacher)
    assert [band.name for band in model.bands["s2l1c_20"]] == ["B05", "B06", "B07"]
    assert set(model.bands) == {"s2l1c_10", "s2l1c_20"}
    told = read_card(result.export)
    assert told.parent == (
        f"teacher tiny ({teacher}, weights sha256 {card.weights_sha256}, licence CC0-1.0)"
    )
    assert told.licence == "CC0-1.0"
    assert told.objective["teacher"]["sha256"] == card.weights_sha256
    large = sum(p.numel() for p in load(teacher).parameters())
    assert sum(p.numel() for p in model.parameters()) < large / 2
    # neither the export nor the run's checkpoints hold the teacher
    assert Path(result.export, "model.safetensors").stat().st_size < 4 * large
    (states,) = Path(tmp_path, "run", "checkpoints", "step-00000006").rglob("*model_states.pt")
    kept = torch.load(states, map_location="cpu", weights_only=False)["module"]
    assert not any("teacher" in name for name in kept)
    # what was trained is what was written
    config = load_config(str(path))
    objective = build(config, open_data(config).layout)
    objective.load_state_dict({k.removeprefix("objective."): v for k, v in kept.items()})
    pixels = {
        m: torch.rand(2, len(b), s, s)
        for (m, b), s in zip(model.bands.items(), (24, 12), strict=True)
    }
    with torch.no_grad():
        want = objective.backbone.eval().encode(pixels).pooled
        assert torch.equal(model.encode(pixels).pooled, want)


def test_a_run_goes_on_with_the_same_teacher_wherever_it_lies(
    tmp_path: Path, tiny_dataset: Path, teacher: Path
) -> None:
    """Defect: another file of that name taken for the teacher that a run began with."""
    here = tmp_path / "teacher"
    shutil.copytree(teacher, here)
    path = distilling(tmp_path / "a", tiny_dataset, here)
    whole = distilling(tmp_path / "b", tiny_dataset, here)
    run(str(whole))

    assert run(str(path), watchers=[_Stop()]).export is None
    other = create_model("vit_nano", bands=load(here).bands, token_m=60, depth=2, width=48)
    save(here, other, overwrite=True)
    with pytest.raises(UsageError, match=r"other values of objective\.teacher\.sha256"):
        run(str(path))
    pinned = f"objective.teacher.sha256={read_card(teacher).weights_sha256}"
    with pytest.raises(
        FMError, match=r"the weights there are .*, not the .* of objective\.teacher"
    ):
        run(str(path), [pinned])
    run(str(path), [f"objective.teacher.source={teacher}"])
    assert curve(tmp_path / "a") == curve(tmp_path / "b")


class _Stop(Watcher):
    """Asks the run to stop as a scheduler does."""

    def after_step(self, moment: Moment) -> None:
        if moment.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_weight_file_of_others_teaches_too(
    tmp_path: Path, tiny_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = state_of("dinov2_hub")
    file = tmp_path / "dinov2.pth"
    torch.save({"teacher": state}, file)
    told = {
        "bands": "sentinel2-l1c:B04,B03,B02@10",
        "heads": 3,
        "position_resize": "dinov2",
        "pooling": "cls",
        "normalisation": {
            "s2l1c_10": {"kind": "zscore", "shift": [0.1, 0.2, 0.3], "scale": [0.5, 0.5, 0.5]}
        },
    }
    path = distilling(tmp_path, tiny_dataset, file, teacher=told)
    config = load_config(str(path))
    objective = build(config, open_data(config).layout)
    assert isinstance(objective, Distill)
    assert (
        "the student is wider than its teacher (32 against 24 channels)" in capsys.readouterr().err
    )
    teacher = objective.teacher
    assert torch.equal(teacher.get_buffer("cls_token"), state["cls_token"])
    assert teacher.normalisation["s2l1c_10"].shift == (0.1, 0.2, 0.3)
    assert [band.name for band in objective.teachers_look.bands["s2l1c_10"]] == [
        "B04",
        "B03",
        "B02",
    ]
    result = run(str(path))
    assert result.export is not None
    assert f"weights sha256 {sha256_file(file)}, licence unknown" in str(
        read_card(result.export).parent
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["objective.teacher.source=/nowhere"], "no such checkpoint folder or weight file"),
        (["objective.teacher.source=eofm/none"], r"objective\.teacher: eofm carries no weights"),
        (["objective.teacher.source={run}"], "did you mean .*/run/export"),
        (["objective.teacher.known=dinov2-vits14"], "known is for weight files of others"),
        (["objective.teacher.normalisation=identity"], "normalisation is for weight files"),
        (["objective.teacher.model={{name: vit_tiny}}"], "name is vit_tiny, of .* it is vit_nano"),
        (["data.modalities=[s2l1c_10, s2l1c_20]"], "needs B01, B09, B10 of s2l1c_60, which the"),
        (["data.bands={{s2l1c_20: [B05:B07]}}"], "needs B8A, B11, B12 of s2l1c_20, which"),
        (["model.bands={{s2l1c_10: [B05]}}"], r"model\.bands: no band 'B05'"),
        (["model.bands={{s2l1c: [B05]}}"], r"model\.bands names s2l1c, which is not read"),
        (["objective={{kind: mae}}"], r"model\.bands: .* for a teacher alone"),
        (["objective.teacher.source={file}"], r"objective\.teacher\.bands .* or .*\.known"),
        (
            ["objective.teacher.source={file}", "objective.teacher.bands=sentinel2-l1c:B04@10"],
            "cannot say how its pixels are normalised; give normalisation=",
        ),
    ],
)
def test_what_is_wrong_with_a_teacher_is_one_line(
    tmp_path: Path, tiny_dataset: Path, teacher: Path, words: list[str], said: str
) -> None:
    file = tmp_path / "dinov2.pth"
    torch.save(state_of("dinov2_hub"), file)
    path = distilling(tmp_path, tiny_dataset, teacher)
    given = [word.format(run=teacher.parent, file=file) for word in words]
    with pytest.raises(FMError, match=said) as caught:
        run(str(path), given)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_plan_needs_no_teacher_that_it_is_told_of(
    tmp_path: Path, tiny_dataset: Path, teacher: Path
) -> None:
    path = str(distilling(tmp_path, tiny_dataset, Path("/nowhere")))
    with pytest.raises(FMError, match="no such checkpoint folder"):
        describe(load_config(path))
    told = "objective.teacher.model={name: vit_nano, token_m: 60, options: {depth: 2, width: 48}}"
    found = describe(load_config(path, [told]))
    there = describe(load_config(path, [f"objective.teacher.source={teacher}", told]))
    assert found["parameters"] == there["parameters"]
    assert found["parts"][""]["grids"] == {"s2l1c": [2, 2]}


def test_a_plan_counts_the_teacher_in_memory_and_not_on_disk(
    tmp_path: Path, tiny_dataset: Path, teacher: Path
) -> None:
    """Defect: a teacher in each checkpoint of a plan, or cut among the ranks of ZeRO 3."""
    assumed = Assumed(1.0, None, 1e9, None, 1e9, 1e9, 1)
    path = str(distilling(tmp_path, tiny_dataset, teacher))
    alone = plan(load_config(path), [1], assumed)
    weights = alone["parameters"]["all"]
    assert alone["disk"]["checkpoint"] == 12 * weights
    large = 4 * sum(p.numel() for p in load(teacher).parameters())
    assert alone["on"][0]["memory"][0]["weights"] == pytest.approx(4 * weights + large, rel=1e-3)
    on_eight = plan(load_config(path), [8], assumed)["on"][0]["memory"]
    assert on_eight[3]["weights"] == pytest.approx(4 * weights / 8 + large, rel=1e-3)


def test_the_recipe_runs_on_the_checkpoint_of_its_teachers_recipe(
    tmp_path: Path, tiny_dataset: Path
) -> None:
    words = [f"data.path={tiny_dataset}", "data.crop=24", "data.batch_size=8"]
    words += ["schedule={steps: 2, warmup: 0}", "monitor.pictures=0"]
    mae = run("mae_s2_tiny", [*words, "model.token_m=60", f"out={tmp_path / 'mae'}"])
    source = f"objective.teacher.source={mae.export}"
    taught = run("distill_tiny", [*words, "model.token_m=120", source, f"out={tmp_path / 'small'}"])
    assert taught.export is not None
    assert {m: len(b) for m, b in load(taught.export).bands.items()} == {"s2l1c_10": 4}
    rows = read_lines(tmp_path / "small" / "metrics.jsonl")
    assert {"loss_pooled", "loss_tokens", "cosine"} <= rows[-1].keys()
