"""What our loop costs over a loop written by hand, and what a checkpoint costs.

All sides train the same masked autoencoder (ViT-S, 13 Sentinel-2 bands on three grids, 64 tokens,
batch 32, float32) from the same weights on the same samples, read by the same loader, with torch's
fused AdamW, decay on matrices alone and gradients clipped to norm 1. Ours is a whole run: loader,
augmentation, DeepSpeed, metrics, TensorBoard. The bare loop is autograd and an optimiser; under
ZeRO the comparison is DeepSpeed's own loop at the same stage; Lightning Fabric is an external
anchor. Each side has a process of its own, in which glibc keeps what a step frees, as in every run
of ours on CPU; one more bare loop has glibc as it comes. After the last round the losses are
compared: a side that did other work makes the bench fail.
"""

import atexit
import math
import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from bench import engine_sides
from bench.chips import write_chips
from bench.forks import Side, done, preload
from bench.runner import Bench, Fact, Ready, Target
from fm.errors import FMError, UsageError
from pretrain.config import RunConfig
from pretrain.engine.fragment import read_fragment
from pretrain.runs.folder import RunFolder

CHIPS, QUICK_CHIPS, SIDE = 256, 16, 96
STAGES, QUICK_STAGES = (0, 1, 2, 3), (0, 1)
TOLERANCE = 1e-3
"""Largest relative difference of losses; float32 sums in another order grow apart."""
PERIOD, PERIODS = 12, 15
QUICK_PERIOD, QUICK_PERIODS = 6, 1
"""Steps between checkpoints where their cost is taken, and how often."""
PER_CHECKPOINT = 100
"""Steps between checkpoints that the cost is stated for."""

_losses: dict[str, list[float]] = {}


@cache
def _work(quick: bool) -> Path:
    """Import what the sides need, before anything has started a thread, and write the dataset."""
    preload()
    work = Path(tempfile.mkdtemp(prefix="bench-engine-"))
    atexit.register(shutil.rmtree, work, ignore_errors=True)
    count = QUICK_CHIPS if quick else CHIPS
    done(lambda: write_chips(work / "chips", count, SIDE), work / "chips.log")
    return work


def _config(name: str, zero: int, quick: bool, **checkpoint: int) -> RunConfig:
    work = _work(quick)
    out = work / name.replace(" ", "-").replace(",", "")
    return engine_sides.config(work / "chips", out, quick=quick, zero=zero, **checkpoint)


def _start(
    name: str, be: Callable[[engine_sides.Ask, RunConfig], None], config: RunConfig, quick: bool
) -> Side:
    def work(ask: engine_sides.Ask) -> None:
        if quick:
            import torch

            torch.set_num_threads(1)  # it may share the machine
        be(ask, config)

    return Side(work, Path(f"{config.out}.log"))


def _competitor(
    name: str, be: Callable[[engine_sides.Ask, RunConfig], None], zero: int = 0
) -> Callable[[bool], Ready | None]:
    """Return what sets a side up; it is absent where there is no such stage."""

    def prepare(quick: bool) -> Ready | None:
        if zero not in (QUICK_STAGES if quick else STAGES):
            return None
        config = _config(name, zero, quick)
        try:
            read_fragment(config.engine)
        except UsageError:
            return None
        side = _start(name, be, config, quick)
        losses = _losses[name] = []

        def step() -> float:
            seconds, loss = side.ask()
            losses.append(loss)
            return seconds

        settings = {"batch": config.data.batch_size, "model": config.model.name, **side.settings}
        return Ready(step, settings, side.close)

    return prepare


def _fabric(quick: bool) -> Ready | None:
    if find_spec("lightning_fabric") is None or quick:
        return None
    return _competitor("Lightning Fabric", engine_sides.fabric)(quick)


def same_work() -> None:
    """Refuse the result when the sides' losses differ at any step."""
    wanted = _losses["bare loop"]
    for name, losses in _losses.items():
        for step, (a, b) in enumerate(zip(losses, wanted, strict=True)):
            if not math.isclose(a, b, rel_tol=TOLERANCE):
                raise FMError(
                    f"bench engine: at step {step} {name} has loss {a:g} and the bare loop {b:g}; "
                    "they do not do the same work, so their times are not compared"
                )


def stall(seconds: np.ndarray) -> float:
    """Return what a checkpoint costs, in steps.

    Args:
        seconds: `[periods, steps]`; a period begins with the step that a checkpoint goes before,
            and its second half is past the checkpoint's writing.

    Returns:
        the median over periods of the seconds of the first half beyond those of the second, over
        the median step of the second. Sums stand against sums: beside a median, whatever else the
        machine does now and then would count as the checkpoint's.
    """
    half = seconds.shape[1] // 2
    first, second = seconds[:, :half].sum(axis=1), seconds[:, -half:].sum(axis=1)
    return float(np.median(first - second) / np.median(seconds[:, -half:]))


def _checkpoints(quick: bool) -> Sequence[Fact]:
    """Run alone with checkpoints and take what they cost."""
    period, periods = (QUICK_PERIOD, QUICK_PERIODS) if quick else (PERIOD, PERIODS)
    config = _config("checkpoints", 0, quick, every=period)
    folder = RunFolder(config.out)
    side = _start("checkpoints", engine_sides.ours, config, quick)
    try:
        for _ in range(period):  # to the first checkpoint, which the next step waits for
            side.ask()
        taken = []
        for turn in range(1, periods + 1):
            row = []
            for step in range(period):
                row.append(side.ask()[0])
                if step == period // 2 - 1 and not quick:
                    found = folder.latest()
                    if found is None or found[1].step != turn * period:
                        raise FMError(
                            f"bench engine: a checkpoint was not written after {step + 1} steps; "
                            "its cost cannot be told from theirs"
                        )
            taken.append(row)
        size = sum(f.stat().st_size for f in folder.latest()[0].rglob("*") if f.is_file())  # type: ignore[index]
    finally:
        side.close()
    cost = stall(np.asarray(taken))
    share = f"share of the time at one checkpoint per {PER_CHECKPOINT} steps"
    return [
        Fact("checkpoint: its cost", cost, "steps"),
        Fact(f"checkpoint: {share}", cost / PER_CHECKPOINT, "ratio", at_most=0.01),
        Fact("checkpoint: size", size / 2**20, "MiB"),
    ]


GIVEN_BACK = "bare loop, freed memory given back"
OURS, THEIRS = "our loop, ZeRO {}", "DeepSpeed's loop, ZeRO {}"
BENCH = Bench(
    name="engine",
    question="How much slower is a training step of our loop than one written by hand?",
    competitors={
        "bare loop": _competitor("bare loop", engine_sides.bare),
        **{
            title.format(zero): _competitor(title.format(zero), be, zero)
            for zero in STAGES
            for title, be in ((OURS, engine_sides.ours), (THEIRS, engine_sides.deepspeed))
        },
        GIVEN_BACK: _competitor(GIVEN_BACK, engine_sides.bare_as_it_comes),
        "Lightning Fabric": _fabric,
    },
    targets=(
        Target("our loop / bare loop, ZeRO 0", OURS.format(0), "bare loop", at_most=1.03),
        *(
            Target(
                f"our loop / DeepSpeed's loop, ZeRO {zero}",
                OURS.format(zero),
                THEIRS.format(zero),
                at_most=1.05 if zero == 1 else None,
            )
            for zero in STAGES
        ),
        Target(f"our loop, ZeRO 0 / {GIVEN_BACK}", OURS.format(0), GIVEN_BACK),
        Target("our loop, ZeRO 0 / Lightning Fabric", OURS.format(0), "Lightning Fabric"),
    ),
    unit="ms",
    rounds=12,
    quick_rounds=3,
    warmup=5,
    versions=("torch", "deepspeed", "timm", "pytorch-lightning", "numpy"),
    check=same_work,
    facts=_checkpoints,
)
