"""Going on from a checkpoint under other stages and on other ranks."""

import copy
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from fm.errors import UsageError
from pretrain.engine.engine import Engine
from pretrain.ranks.processes import processes
from pretrain.runs.folder import Position, RunFolder
from pretrain.runs.resume import _load_converted, load_latest, must_convert
from pretrain.settings.engine import EngineConfig
from pretrain.settings.optimizer import OptimizerConfig
from tests import ranks as forked
from tests.pretrain import checkpointed
from tests.pretrain.batches import mae, s2_batch
from tests.pretrain.checkpointed import moments, write_checkpoint
from tests.pretrain.test_trainer import config_file, launch, losses


@pytest.fixture(scope="module")
def device() -> Iterator[torch.device]:
    with processes() as place:
        yield place


def engine_of(stage: int, device: torch.device, seed: int = 0) -> Engine:
    torch.manual_seed(seed)
    objective = mae()
    if seed:  # another start: what is loaded must come from the checkpoint
        with torch.no_grad():
            for parameter in objective.parameters():
                parameter.add_(torch.rand_like(parameter))
    objective.register_buffer("fitted", torch.full((3,), float(seed)))
    objective.frozen = nn.Parameter(torch.full((2, 2), float(seed)), requires_grad=False)
    return Engine(
        objective,
        OptimizerConfig(lr=1e-3, clip=1.0),
        EngineConfig(precision="fp32", deepspeed=f"zero{stage}"),
        micro_batch=4,
        accumulate=1,
        device=device,
    )


def steps(engine: Engine, numbers: range) -> list[float]:
    return [
        engine.step([s2_batch(4, seed=n, start=4 * n)], 1e-3, stop=False)[0].loss for n in numbers
    ]


@pytest.mark.parametrize(
    ("then", "ranks", "now", "here", "converts"),
    [
        (0, 2, 0, 1, False),
        (0, 1, 0, 64, False),
        (1, 2, 1, 2, False),
        (1, 2, 1, 3, True),
        (1, 2, 2, 2, True),
        (2, 8, 1, 16, True),
        (3, 4, 3, 4, False),
        (3, 4, 3, 8, True),
    ],
)
def test_what_is_converted(then: int, ranks: int, now: int, here: int, converts: bool) -> None:
    position = Position(4, 32, ranks, then)
    assert must_convert(Path("step"), position, now, here) is converts


@pytest.mark.parametrize(
    ("then", "now"), [(0, 1), (0, 3), (1, 0), (2, 0), (1, 3), (2, 3), (3, 0), (3, 2)]
)
def test_what_cannot_be_read_is_refused_with_what_can_be_done(then: int, now: int) -> None:
    with pytest.raises(UsageError) as caught:
        must_convert(Path("run/checkpoints/step"), Position(4, 32, 2, then), now, 2)
    text = str(caught.value)
    assert "\n" not in text
    back = {0: "zero0", 1: "zero1 or zero2", 2: "zero1 or zero2", 3: "zero3"}[then]
    assert f"set engine.deepspeed to {back} on any number" in text
    assert "init_from=" in text


def test_zero_1_goes_on_as_zero_2_with_equal_moments(tmp_path: Path, device: torch.device) -> None:
    engine = engine_of(1, device)
    steps(engine, range(2))
    folder = RunFolder(tmp_path)
    write_checkpoint(folder, engine, step=2)
    state = copy.deepcopy(engine.objective.state_dict())
    groups = copy.deepcopy([g["weight_decay"] for g in engine.engine.optimizer.param_groups])
    before = moments(engine)
    want = steps(engine, range(2, 4))
    other = engine_of(2, device, seed=5)
    found = load_latest(folder, other)
    assert found is not None
    assert found[0].step == 2
    assert "written by 1 ranks under ZeRO 1, read by 1 under ZeRO 2" in found[1]
    after = moments(other)
    assert before.keys() == after.keys()
    assert len(before) > 30
    for name, value in before.items():
        assert torch.equal(after[name], value), name
    # weights, what was fitted and what is frozen
    for name, value in other.objective.state_dict().items():
        assert torch.equal(value, state[name]), name
    assert [g["weight_decay"] for g in other.engine.optimizer.param_groups] == groups
    assert groups == [0.05, 0.0]
    assert steps(other, range(2, 4)) == want
    # the checkpoint is as it was, and the converted one has gone
    assert [p.name for p in folder.checkpoints.iterdir()] == ["step-00000002"]


def test_zero_3_converted_goes_on_bit_for_bit(tmp_path: Path, device: torch.device) -> None:
    """Defect: DeepSpeed gives all groups the first one's decay, and one count of steps."""
    engine = engine_of(3, device)
    steps(engine, range(2))
    folder = RunFolder(tmp_path)
    write_checkpoint(folder, engine, step=2)
    before, want = moments(engine), steps(engine, range(2, 5))
    other = engine_of(3, device, seed=5)
    found = folder.latest()
    assert found is not None
    _load_converted(folder, found[0], other)  # as on another number of ranks
    after = moments(other)
    for name, value in before.items():
        assert torch.equal(after[name], value), name
    assert steps(other, range(2, 5)) == want


@pytest.mark.parametrize("stage", [0, 1])
def test_a_checkpoint_of_earlier_versions_still_opens(
    stage: int, tmp_path: Path, device: torch.device
) -> None:
    """DeepSpeed's own writer, no client state, four keys in `position.json`."""
    engine = engine_of(stage, device)
    steps(engine, range(2))
    step = tmp_path / "checkpoints" / "step-00000002"
    own = engine.engine.checkpoint_engine
    engine.engine.checkpoint_engine = own._files
    engine.engine.save_checkpoint(str(step), tag="deepspeed", save_latest=False)
    engine.engine.checkpoint_engine = own
    position = {"step": 2, "samples": 8, "world_size": 1, "zero_stage": stage}
    (step / "position.json").write_text(json.dumps(position))
    (tmp_path / "latest").write_text("step-00000002\n")
    want = steps(engine, range(2, 4))
    for now in {0: (0,), 1: (1, 2)}[stage]:
        other = engine_of(now, device, seed=5)
        assert load_latest(RunFolder(tmp_path), other) is not None
        assert steps(other, range(2, 4)) == want


def back_to(folder: Path, step: int) -> None:
    """As if a crash had come before the next checkpoint."""
    shutil.rmtree(folder / "export", ignore_errors=True)
    (folder / "latest").write_text(f"step-{step:08d}\n")


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_two_ranks_then_one_then_two(stage: int, tmp_path: Path, tiny_dataset: Path) -> None:
    config = config_file(tmp_path, tiny_dataset, checkpoint={"every": 4, "keep": 9})
    options = ("schedule.steps=16", f"engine.deepspeed=zero{stage}")
    folder = tmp_path / "run"
    first = launch(config, *options, ranks=2)
    assert first.returncode == 0, first.stderr
    curve = losses(folder)
    back_to(folder, 4)
    second = launch(config, *options)
    assert second.returncode == 0, second.stderr
    assert "going on after step 4" in second.stderr
    # one rank sums the gradients of a batch in another order
    assert losses(folder) == pytest.approx(curve, rel=2e-6)
    back_to(folder, 12)
    third = launch(config, *options, ranks=2)
    assert third.returncode == 0, third.stderr
    assert "going on after step 12" in third.stderr
    assert losses(folder) == pytest.approx(curve, rel=2e-6)


@pytest.mark.slow
def test_two_ranks_go_on_under_the_other_stage_bit_for_bit(
    tmp_path: Path, tiny_dataset: Path
) -> None:
    config = config_file(tmp_path, tiny_dataset, checkpoint={"every": 4, "keep": 9})
    folder = tmp_path / "run"
    first = launch(config, "schedule.steps=12", "engine.deepspeed=zero1", ranks=2)
    assert first.returncode == 0, first.stderr
    curve = losses(folder)
    back_to(folder, 4)
    second = launch(config, "schedule.steps=12", "engine.deepspeed=zero2", ranks=2)
    assert second.returncode == 0, second.stderr
    assert "written by 2 ranks under ZeRO 1, read by 2 under ZeRO 2" in second.stderr
    assert losses(folder) == curve


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "now"), [(1, 2), (2, 1), (3, 3)])
def test_moments_on_other_ranks_are_the_gathered_ones(stage: int, now: int, tmp_path: Path) -> None:
    for ranks, words in ((2, ("write", stage)), (1, ("read", now)), (3, ("read", now))):
        done = forked.launch(tmp_path / "told", checkpointed.main, tmp_path, *words, ranks=ranks)
        assert done.returncode == 0, done.stderr
    want = torch.load(tmp_path / "written.pt", weights_only=True)
    for ranks in (1, 3):
        found = torch.load(tmp_path / f"read-{ranks}.pt", weights_only=True)
        assert found.keys() == want.keys()
        for name, value in want.items():
            assert torch.equal(found[name], value), (ranks, name)
