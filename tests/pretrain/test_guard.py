"""Steps that would spoil the weights: named, and not taken."""

import json
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import fm
from fm.errors import FMError
from pretrain.engine.engine import Engine, Step
from pretrain.guard import SETTLED, Candidate, Guard
from pretrain.objectives.mae import MAE
from pretrain.ranks.processes import processes
from pretrain.runs.skipped import Skipped
from pretrain.settings.engine import EngineConfig
from pretrain.settings.guard import GuardConfig
from pretrain.settings.optimizer import OptimizerConfig
from pretrain.trainer import run
from tests import ranks
from tests.pretrain import faulty
from tests.pretrain.batches import mae, s2_batch
from tests.pretrain.test_trainer import config_file, losses


def step_of(loss: float, norm: float = 1.0, own: tuple[float, ...] = (1.0, 1.0)) -> Step:
    return Step(loss, {"mse": loss}, 8.0, norm, [torch.tensor(x) for x in own])


def at(step: int, part: str | None = None) -> Candidate:
    return Candidate(step, part, ["a", "b", "c", "d"], 2)


def test_the_level_of_each_part_is_its_own(tmp_path: Path) -> None:
    guard = Guard(GuardConfig(policy="skip", spike=3.0), Skipped(tmp_path))
    for step in range(1, 2 * SETTLED + 1):
        part, loss = (("s2", 1.0), ("hsi", 10.0))[step % 2]
        assert guard.passes(at(step, part), step_of(loss + 0.01 * step))
    assert guard.passes(at(90, "hsi"), step_of(10.0))
    assert not guard.passes(at(91, "s2"), step_of(10.0))
    assert not guard.passes(at(92, "s2"), step_of(1.0, norm=3.1))
    assert guard.passes(at(93, "s2"), step_of(1.0, norm=2.9))
    rows = Skipped(tmp_path).rows()
    assert [(row["step"], list(row["figures"])) for row in rows] == [
        (91, ["loss"]),
        (92, ["grad_norm"]),
    ]
    assert rows[0]["keys"] == ["a", "b", "c", "d"]


def test_what_a_checkpoint_keeps_of_a_guard_is_all_of_it(tmp_path: Path) -> None:
    config = GuardConfig(policy="skip", spike=2.0, in_all=4)
    whole, parted = (Guard(config, Skipped(tmp_path)) for _ in range(2))
    values = [1.0 + 0.3 * math.sin(step) for step in range(60)]
    values[30] = math.nan
    values[40] = values[50] = 2.6
    verdicts = []
    for step, value in enumerate(values):
        if step % 7 == 3:  # as a resume does
            state = json.loads(json.dumps(parted.state()))
            parted = Guard(config, Skipped(tmp_path))
            parted.load(state)
        verdicts.append(whole.passes(at(step), step_of(value)))
        assert parted.passes(at(step), step_of(value)) == verdicts[-1]
    assert [step for step, taken in enumerate(verdicts) if not taken] == [30, 40, 50]
    with pytest.raises(FMError, match=r"the 4th in all \(guard.in_all\): lower optimizer.lr"):
        parted.passes(at(60), step_of(math.inf))


def test_the_message_names_the_samples_of_the_micro_batch_and_the_part_of_the_loss(
    tmp_path: Path,
) -> None:
    guard = Guard(GuardConfig(), Skipped(tmp_path))
    with pytest.raises(FMError) as caught:
        guard.passes(at(7), step_of(math.nan, norm=math.inf, own=(1.0, math.nan)))
    text = str(caught.value)
    assert text.startswith("step 7: loss is nan, grad_norm is inf, mse is nan; samples c, d (")
    assert "guard.policy" in text
    assert "\n" not in text
    (row,) = Skipped(tmp_path).rows()
    assert row["action"] == "stop"
    assert row["keys"] == ["c", "d"]
    assert row["ranks"] == [0]


@pytest.fixture(scope="module")
def device() -> Iterator[torch.device]:
    with processes() as place:
        yield place


def engine_of(stage: int, device: torch.device, clip: float) -> Engine:
    return Engine(
        mae(),
        OptimizerConfig(lr=1e-3, clip=clip),
        EngineConfig(precision="fp32", deepspeed=f"zero{stage}"),
        micro_batch=2,
        accumulate=2,
        device=device,
    )


@pytest.mark.parametrize(
    ("stage", "clip"),
    [(0, 0.1), (2, 0.1)]
    + [pytest.param(*x, marks=pytest.mark.slow) for x in ((0, 0.0), (1, 0.1), (3, 0.1))],
)
def test_a_step_that_is_not_taken_leaves_no_trace(
    stage: int, clip: float, device: torch.device
) -> None:
    """Not in the weights, the moments, their count of steps, nor in the gradients of the next."""
    found = []
    for spoilt in (False, True):
        engine = engine_of(stage, device, clip)
        numbers = []
        for step in range(4):
            batches = s2_batch(4, seed=step, start=4 * step).split(2)
            if spoilt and step == 2:
                other = s2_batch(4, seed=99, start=4 * step).split(2)
                other[1].weight *= 3.0
                result, _ = engine.step(other, 1e-2, stop=False, judge=lambda step: False)
                assert not result.taken
            result, _ = engine.step(batches, 1e-3, stop=False, judge=lambda step: True)
            assert result.taken
            numbers.append((result.loss, result.grad_norm))
        found.append((numbers, engine.objective.state_dict()))
    (plain, weights), (other, others) = found
    assert plain == other
    assert all(torch.equal(others[name], value) for name, value in weights.items())


@pytest.fixture
def at_steps(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make a fault at some steps of the runs of this process."""

    def put(fault: str, *steps: int) -> None:
        monkeypatch.setattr(MAE, "forward", faulty.faulty(FORWARD, fault, 0, steps))

    return put


FORWARD = MAE.forward


def short(tmp_path: Path, dataset: Path, **guard: Any) -> str:
    return str(
        config_file(
            tmp_path,
            dataset,
            schedule={"steps": 12, "warmup": 1},
            guard=guard,
            checkpoint={"every": 4, "keep": 9, "asynchronous": False},
        )
    )


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return fm.load(folder / "export").state_dict()


def test_a_skipped_batch_is_passed_over_and_a_resume_passes_it_over_too(
    tmp_path: Path, tiny_dataset: Path, at_steps: Callable[..., None]
) -> None:
    at_steps("nan", 6)
    path = short(tmp_path, tiny_dataset, policy="skip")
    result = run(path)
    folder = tmp_path / "run"
    assert result.steps == 12
    curve, end = losses(folder), weights_of(folder)
    steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").open()]
    assert steps == [1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12]
    (row,) = Skipped(folder).rows()
    assert row["step"] == 6
    assert row["action"] == "skip"
    assert len(row["keys"]) == 8
    # as after a crash between a checkpoint and the next, before and after the skipped step
    for back in (4, 8):
        shutil.rmtree(folder / "export")
        (folder / "latest").write_text(f"step-{back:08d}\n")
        at_steps("nan", *((6,) if back == 4 else ()))
        run(path)
        assert losses(folder) == curve
        assert Skipped(folder).rows() == [row]
        assert all(torch.equal(end[name], value) for name, value in weights_of(folder).items())


@pytest.mark.slow
def test_a_rollback_goes_on_from_the_weights_of_the_checkpoint(
    tmp_path: Path, tiny_dataset: Path, at_steps: Callable[..., None]
) -> None:
    """The steps between the checkpoint and the fault are as if they had not been taken."""
    at_steps("leap", 22)
    words = ["schedule.steps=26"]
    run(short(tmp_path, tiny_dataset, policy="rollback", spike=5.0), words)
    rolled = tmp_path / "run"
    (row,) = Skipped(rolled).rows()
    assert row["step"] == 22
    assert row["action"] == "rollback"
    assert row["levels"]["loss"] > 0
    # the same by another way: skip all of the steps since the checkpoint of step 20
    at_steps("nan", 21, 22)
    (tmp_path / "skipping").mkdir()
    run(short(tmp_path / "skipping", tiny_dataset, policy="skip"), words)
    skipping = tmp_path / "skipping" / "run"
    assert losses(rolled)[-4:] == losses(skipping)[-4:]
    pairs = weights_of(skipping)
    assert all(torch.equal(pairs[name], value) for name, value in weights_of(rolled).items())


def test_too_many_in_a_row_end_the_run_and_the_last_checkpoint_is_sound(
    tmp_path: Path, tiny_dataset: Path, at_steps: Callable[..., None]
) -> None:
    at_steps("nan", *range(6, 13))
    path = short(tmp_path, tiny_dataset, policy="skip", in_row=2)
    with pytest.raises(FMError, match=r"step 7: loss is nan.*the 2nd in a row"):
        run(path)
    state = json.loads((tmp_path / "run" / "state.json").read_text())
    assert state["status"] == "failed"
    assert "step 7" in state["reason"]
    at_steps("nan")
    assert run(path).steps == 12


def test_ranks_agree_and_the_one_with_the_fault_is_named(
    tmp_path: Path, tiny_dataset: Path
) -> None:
    config = config_file(tmp_path, tiny_dataset, guard={"policy": "skip"})
    words = ("schedule.steps=6", "schedule.warmup=1", "engine.micro_batch=2", "watchdog.step=20")
    given = ("nan", 1, 3, [str(config), *words])
    done = ranks.launch(tmp_path / "told", faulty.run, *given, ranks=2)
    assert done.returncode == 0, done.stderr
    (row,) = Skipped(tmp_path / "run").rows()
    assert row["step"] == 3
    assert row["ranks"] == [1]
    assert len(row["keys"]) == 4
    assert done.stderr.count("passed over") == 1
    found = losses(tmp_path / "run")
    assert len(found) == 5
    assert all(map(math.isfinite, found))
