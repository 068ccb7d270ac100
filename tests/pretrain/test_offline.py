"""Exports of a stopped run's checkpoints."""

import shutil
from pathlib import Path

import pytest
import torch

import fm
from fm.cli import main
from fm.errors import FMError, UsageError
from pretrain.runs.offline import export
from pretrain.trainer import run
from tests.pretrain.test_trainer import config_file, launch


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory, tiny_dataset: Path) -> Path:
    """A run whose checkpoints are of steps 2, a milestone, and 3, 4."""
    path = tmp_path_factory.mktemp("stopped")
    config = config_file(path, tiny_dataset, checkpoint={"every": 1, "keep": 2, "milestones": 2})
    run(str(config), ["schedule.steps=4", "schedule.warmup=1", "engine.deepspeed=zero1"])
    return path / "run"


def test_the_newest_checkpoint_is_the_export_of_the_run(stopped: Path, tmp_path: Path) -> None:
    card = export(stopped, tmp_path / "model")
    ours, own = fm.load(tmp_path / "model"), fm.load(stopped / "export")
    for name, value in own.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), name
    assert card.training["steps"] == 4
    assert card.training["samples_seen"] == 32
    for key in ("data", "objective", "bands", "licence"):
        assert getattr(card, key) == getattr(own.card, key)


def test_an_earlier_checkpoint_by_the_command(
    stopped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    step = stopped / "checkpoints" / "step-00000002"
    assert main(["pretrain", str(step), "--export", str(tmp_path / "model")]) == 0
    assert "2 steps" in capsys.readouterr().out
    ours, last = (fm.load(f).state_dict() for f in (tmp_path / "model", stopped / "export"))
    assert any(not torch.equal(ours[name], last[name]) for name in last)


def test_what_is_not_there_is_told(stopped: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither a run's folder nor one"):
        export(tmp_path, tmp_path / "model")
    (tmp_path / "there").mkdir()
    with pytest.raises(FMError, match="exists already"):
        export(stopped, tmp_path / "there")
    copy = Path(shutil.copytree(stopped, tmp_path / "run"))
    torch.save(Path("x"), copy / "checkpoints/step-00000004/deepspeed/mp_rank_00_model_states.pt")
    with pytest.raises(FMError, match="not a file of a checkpoint"):
        export(copy, tmp_path / "model")
    (copy / "card.json").unlink()
    with pytest.raises(FMError, match=r"has no card\.json"):
        export(copy, tmp_path / "model")
    (copy / "latest").unlink()
    with pytest.raises(FMError, match="has not written a checkpoint yet"):
        export(copy, tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("stage", "ranks"),
    [(1, 1), (2, 2), *(pytest.param(*x, marks=pytest.mark.slow) for x in ((2, 1), (1, 2), (3, 2)))],
)
def test_bfloat16_weights_come_from_the_float32_copy(
    stage: int, ranks: int, tmp_path: Path, tiny_dataset: Path
) -> None:
    """Defect: exports of a checkpoint under ZeRO 1 and 2 hold weights rounded to bfloat16."""
    config = config_file(tmp_path, tiny_dataset)
    words = ["schedule.steps=3", "schedule.warmup=1", f"engine.deepspeed=zero{stage}"]
    words.append("engine.precision=pure-bf16")
    if ranks == 1:
        run(str(config), words)
    else:
        done = launch(config, *words, ranks=ranks)
        assert done.returncode == 0, done.stderr
    export(tmp_path / "run", tmp_path / "model")
    ours, own = (fm.load(f).state_dict() for f in (tmp_path / "model", tmp_path / "run/export"))
    for name, value in own.items():
        assert ours[name].dtype is torch.float32
        assert torch.equal(ours[name], value), name
    weight = ours["blocks.0.mlp.fc1.weight"]
    assert not torch.equal(weight, weight.bfloat16().float())
    if (stage, ranks) == (2, 2):
        next((tmp_path / "run/checkpoints/step-00000003").rglob("*rank_1_*optim*")).unlink()
        with pytest.raises(FMError, match="2 ranks wrote it, 1 are there"):
            export(tmp_path / "run", tmp_path / "other")


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 2, 3])
def test_what_two_ranks_wrote(stage: int, tmp_path: Path, tiny_dataset: Path) -> None:
    config = config_file(tmp_path, tiny_dataset)
    words = ("schedule.steps=3", "schedule.warmup=1", f"engine.deepspeed=zero{stage}")
    done = launch(config, *words, ranks=2)
    assert done.returncode == 0, done.stderr
    export(tmp_path / "run", tmp_path / "model")
    ours, own = (fm.load(f).state_dict() for f in (tmp_path / "model", tmp_path / "run/export"))
    for name, value in own.items():
        assert torch.equal(ours[name], value), name
