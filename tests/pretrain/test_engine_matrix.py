"""Ranks, ZeRO stages, precisions, accumulation and kills: none changes the curve of a run."""

from pathlib import Path

import pytest

from tests.pretrain.matrix import KEPT, STEPS, Cell, Runner

FAST = (
    *(Cell(1, 0), Cell(2, 1), Cell(1, 2, "bf16"), Cell(2, 3)),
    Cell(2, 2, optimizer="sgd"),
)
"""One cell a stage and one of SGD; the others are slow."""

STAGES = (0, 1, 2, 3)
pytestmark = pytest.mark.timeout(900)  # many processes on what may be a busy machine

KILLED = [
    Cell(ranks, stage, precision)
    for ranks in (1, 2)
    for stage in STAGES
    for precision in ("fp32", "bf16")
] + [Cell(2, stage, "pure-bf16") for stage in STAGES[1:]]
WITH_MOMENTUM = [Cell(2, stage, optimizer="sgd") for stage in STAGES]
WITH_MOMENTUM += [Cell(2, 0, optimizer="lars")]
KILLED += WITH_MOMENTUM


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory, tiny_dataset: Path) -> Runner:
    return Runner(tiny_dataset, tmp_path_factory.mktemp("runs"))


@pytest.mark.parametrize(
    "cell",
    [pytest.param(c, marks=() if c in FAST else pytest.mark.slow) for c in KILLED],
    ids=str,
)
def test_9_steps_a_kill_and_11_steps_are_20_steps(cell: Cell, runner: Runner) -> None:
    """Losses and gradient norms are equal bit for bit."""
    whole = runner.straight(cell)
    assert len(whole) == STEPS
    name = f"{cell}-killed"
    assert runner.launch(cell, name, kill_after=KEPT + 1).statuses == [-9] * cell.ranks
    assert runner.curve(name)[:KEPT] == whole[:KEPT]
    assert f"going on after step {KEPT}" in runner.launch(cell, name).stderr
    assert runner.curve(name) == whole


@pytest.mark.parametrize(
    "stage", [pytest.param(s, marks=() if s in (1, 3) else pytest.mark.slow) for s in STAGES]
)
def test_two_ranks_under_every_stage_are_one_rank_of_stage_0(stage: int, runner: Runner) -> None:
    one, two = runner.straight(Cell(1, 0)), runner.straight(Cell(2, stage))
    assert [row[0] for row in two] == pytest.approx([row[0] for row in one], rel=1e-6)
    # before clipping, so the same number under every stage
    assert [row[1] for row in two] == pytest.approx([row[1] for row in one], rel=1e-4)
    assert min(row[1] for row in one) > 0.25, "a step was not clipped"


@pytest.mark.parametrize(
    "cell",
    [
        pytest.param(c, marks=() if c in FAST else pytest.mark.slow)
        for c in KILLED
        if c.optimizer != "adamw"
    ],
    ids=str,
)
def test_two_ranks_are_one_also_with_momentum_alone(cell: Cell, runner: Runner) -> None:
    one = runner.straight(Cell(1, 0, optimizer=cell.optimizer))
    two = runner.straight(cell)
    assert [row[0] for row in two] == pytest.approx([row[0] for row in one], rel=1e-6)
    assert [row[1] for row in two] == pytest.approx([row[1] for row in one], rel=1e-4)
    assert one[-1][0] < one[0][0]


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES[1:])
def test_stages_on_one_rank_are_stage_0(stage: int, runner: Runner) -> None:
    one, cut = runner.straight(Cell(1, 0)), runner.straight(Cell(1, stage))
    assert [row[0] for row in cut] == pytest.approx([row[0] for row in one], rel=1e-6)
    assert [row[1] for row in cut] == pytest.approx([row[1] for row in one], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("ranks", [1, 2])
def test_accumulating_4_micro_batches_is_taking_1(ranks: int, stage: int, runner: Runner) -> None:
    one = runner.straight(Cell(ranks, stage))
    four = runner.straight(Cell(ranks, stage, accumulate=4))
    assert [row[0] for row in four] == pytest.approx([row[0] for row in one], rel=1e-6)
    assert [row[1] for row in four] == pytest.approx([row[1] for row in one], rel=1e-4)
