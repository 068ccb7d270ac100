"""Momentum teachers under ZeRO: where they go, in which precision, and when."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fm.errors import UsageError
from pretrain.engine.engine import Engine, check_passes
from pretrain.engine.teachers import Teachers
from pretrain.ranks.processes import processes
from pretrain.runs.universal import convert
from pretrain.schedule import Clock
from pretrain.settings.ramp import Ramp
from tests import ranks
from tests.pretrain import momentum
from tests.pretrain.momentum import STEPS, Contrast, engine_of, found, step


@pytest.fixture(scope="module", autouse=True)
def _joined() -> Iterator[None]:
    with processes():
        yield


def students(engine: Engine) -> dict[str, Tensor]:
    """Return the followed weights by the names of their teachers, in double."""
    state = engine.state_of(engine.objective)
    names = [name for name in state if name.startswith("teacher")]
    own = {n: n.replace("teacher_head", "head").replace("teacher", "backbone") for n in names}
    return {name: state[own[name]].double() for name in names}


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_teacher_is_the_running_mean_of_what_its_student_was_after_each_step(
    stage: int, tmp_path: Path
) -> None:
    ramp = Ramp(start=0.5, end=1.0, kind="linear")
    engine = engine_of(Contrast(momentum=ramp), tmp_path, stage=stage)
    want = students(engine)
    for number in range(STEPS):
        step(engine, number)
        before = want
        share = 0.5 + 0.5 * number / (STEPS - 1)
        now = students(engine)
        want = {n: share * x + (1 - share) * now[n] for n, x in want.items()}
    state = engine.state_of(engine.objective)
    for name, value in want.items():
        assert state[name].dtype is torch.float32
        assert torch.allclose(state[name].double(), value, atol=1e-7), name
        assert torch.equal(value, before[name])  # the ramp has ended at 1 with the last step
    assert any((now[n] - x).abs().max() > 1e-4 for n, x in want.items())


@pytest.mark.parametrize("stage", [1, 3])
def test_the_teacher_of_a_bfloat16_student_moves_in_float32(stage: int, tmp_path: Path) -> None:
    """In bfloat16 a ten-thousandth of a difference is rounded away."""
    engine = engine_of(Contrast(momentum=0.9999), tmp_path, stage=stage, precision="pure-bf16")
    start = engine.state_of(engine.objective)["teacher_head.weight"].double()
    for number in range(STEPS):
        step(engine, number)
    state = engine.state_of(engine.objective)
    assert dict(engine.objective.named_parameters())["head.weight"].dtype is torch.bfloat16
    assert state["teacher_head.weight"].dtype is torch.float32
    apart = state["head.weight"].double() - start
    moved = state["teacher_head.weight"].double() - start
    far = apart.abs() > 5e-4
    assert far.float().mean() > 0.5
    assert (moved[far].sign() == apart[far].sign()).float().mean() > 0.95
    assert moved.abs().max() < 1e-3 * apart.abs().max()
    rounded = start.bfloat16()
    assert ((rounded.double() + moved).bfloat16() == rounded).float().mean() > 0.95


def test_a_step_that_is_not_taken_moves_nothing(tmp_path: Path) -> None:
    engine = engine_of(Contrast(), tmp_path)
    step(engine, 1)
    before = found(engine)
    step(engine, 2, judge=lambda _: False)
    assert found(engine) == before
    step(engine, 3)
    assert found(engine) != before


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_teachers_and_queues_go_on_bit_for_bit(stage: int, tmp_path: Path) -> None:
    engine = engine_of(Contrast(), tmp_path, stage=stage)
    for number in range(2):
        step(engine, number)
    engine.save(str(tmp_path), "here")
    kept = found(engine)
    losses = [step(engine, number) for number in (2, 3)]
    other = engine_of(Contrast(momentum=0.9), tmp_path, stage=stage)
    with torch.no_grad():
        for buffer in other.objective.buffers():
            if buffer.is_floating_point():
                buffer.add_(1.0)
    other.load(str(tmp_path), "here")
    assert found(other) == kept
    assert [step(other, number) for number in (2, 3)] == losses
    assert found(other) == found(engine)


@pytest.mark.parametrize(("then", "now"), [(1, 2), (3, 3)])
def test_checkpoints_for_other_ranks_hold_teachers_and_queues(
    then: int, now: int, tmp_path: Path
) -> None:
    engine = engine_of(Contrast(), tmp_path, stage=then)
    for number in range(2):
        step(engine, number)
    engine.save(str(tmp_path), "here")
    convert(tmp_path / "here", tmp_path / "universal" / "here")
    other = engine_of(Contrast(), tmp_path, stage=now)
    other.load(str(tmp_path / "universal"), "here", universal=True)
    assert found(other) == found(engine)
    assert [step(other, n) for n in (2, 3)] == [step(engine, n) for n in (2, 3)]


def test_passes_of_a_step_see_the_same_queue_and_fill_it_in_order(tmp_path: Path) -> None:
    whole, cut = (engine_of(Contrast(), tmp_path, accumulate=n) for n in (1, 4))
    for number in range(STEPS):
        assert step(cut, number) == pytest.approx(step(whole, number), rel=1e-5)
    ours, theirs = found(cut), found(whole)
    assert ours["queue.filled"] == theirs["queue.filled"] == [1.0] * 6
    assert ours["queue.place"] == theirs["queue.place"]
    assert ours["queue.rows"] == pytest.approx(theirs["queue.rows"], abs=1e-4)


@pytest.mark.parametrize(
    "stage", [0, *(pytest.param(stage, marks=pytest.mark.slow) for stage in (1, 2, 3))]
)
def test_two_ranks_hold_what_one_does(stage: int, tmp_path: Path) -> None:
    """Also where rows of the batch are gathered, whose gradients come back over ranks."""
    out = tmp_path / "found.json"
    done = ranks.launch(tmp_path / "told", momentum.main, out, stage, ranks=2)
    assert done.returncode == 0, done.stderr
    two = json.loads(out.read_text())
    for gathered in (False, True):
        engine = engine_of(Contrast(gathered=gathered), tmp_path, stage=stage)
        losses = [step(engine, number) for number in range(STEPS)]
        assert two[str(gathered)]["losses"] == pytest.approx(losses, rel=1e-5)
        state = found(engine)
        assert set(two[str(gathered)]["state"]) == set(state)
        for name, values in state.items():
            assert two[str(gathered)]["state"][name] == pytest.approx(values, abs=2e-4), name


def test_what_compares_the_whole_batch_cannot_be_cut(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"leave engine\.micro_batch out"):
        engine_of(Contrast(gathered=True), tmp_path, accumulate=2)
    with pytest.raises(UsageError, match=r"batch_size=1: .* give 2 or more"):
        check_passes(Contrast(gathered=True), 1, 1, 1)
    check_passes(Contrast(gathered=True), 1, 1, 2)
    check_passes(Contrast(), 1, 1, 1)


def test_statistics_follow_and_counters_are_copied() -> None:
    student = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    teacher = copy.deepcopy(student).requires_grad_(False)
    with torch.no_grad():
        student[0].weight.add_(1.0)  # as by init_from, after the copy was made
    teachers = Teachers([(student, teacher, 0.75)])
    assert torch.equal(teacher[0].weight, student[0].weight)
    assert not list(teacher.parameters())
    assert set(teacher.state_dict()) == set(student.state_dict())
    student(torch.randn(8, 3) + 2.0)
    before = teacher[1].running_mean.clone()
    teachers.update(Clock())
    want = 0.75 * before + 0.25 * student[1].running_mean
    assert torch.allclose(teacher[1].running_mean, want)
    assert teacher[1].num_batches_tracked == 1
    assert torch.equal(teacher(torch.ones(2, 3)), teacher(torch.ones(2, 3)))


def test_what_cannot_be_a_teacher_is_refused() -> None:
    student = nn.Linear(3, 4)
    with pytest.raises(ValueError, match=r"requires_grad_\(False\)"):
        Teachers([(student, copy.deepcopy(student), 0.9)])
    with pytest.raises(ValueError, match="weight differs"):
        Teachers([(student, nn.Linear(2, 4).requires_grad_(False), 0.9)])
