"""The sides of `bench gpu` on their device: a training step each, timed by the device's clock.

Both sides train in bfloat16 autocast with fused AdamW on pixels that lie on the device as stored,
and normalise them there. The plain side is a module, autograd and an optimiser; ours is the
engine as `pretrain` runs it, masks by hashing and all sums of a step included. Each side takes the
batch at which it is fastest. Without a CUDA device the cases run tiny on the CPU, to show that they
still run.
"""

import math
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from bench.gpu_cases import Case, objective, plain
from bench.mae_steps import DEVIATION, MEAN, adamw, images, stored
from bench.runner import Bench, Fact, Ready, Target
from fm.errors import FMError
from fm.rng import CounterRng
from pretrain.engine.batches import MicroBatch
from pretrain.engine.engine import Engine
from pretrain.monitors.peak import stated_flops
from pretrain.objectives.mae import MAE
from pretrain.plan.flops import flops_of
from pretrain.ranks.processes import processes
from pretrain.settings.engine import EngineConfig
from pretrain.settings.optimizer import OptimizerConfig

BATCHES = (32, 64, 128, 256, 512, 1024)
"""Tried in turn, until more is no faster or does not fit."""
SHARE = 0.4
"""Of the device's memory that a side's step may take, so that all sides are there at once."""
GAIN = 1.02
"""A larger batch is taken when it is faster by this."""
SECONDS = 0.5
"""A repetition takes about so long."""
TOLERANCE = 0.2
"""Largest relative difference of the first losses: weights and masks are drawn anew."""
PLAIN, COMPILED, OURS = "plain", "plain, compiled", "ours"
OURS_COMPILED, CROSS = "ours, compiled", "ours, compiled, cross decoder on a third"

_seconds: dict[str, list[float]] = {}
_losses: dict[str, float] = {}
_flops: dict[str, float] = {}


@cache
def device() -> torch.device:
    """Join the process group and return this process's device."""
    with processes() as place:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        return place


def pixels(case: Case, size: int) -> Tensor:
    """Return stored pixels on the device, shared by the sides of a case."""
    return _pixels(len(case.bands), case.side, size)


@cache
def _pixels(bands: int, side: int, size: int) -> Tensor:
    one = stored(images((1, bands, side, side)))
    return one.expand(size, -1, -1, -1).contiguous().to(device())


def timed(step: Callable[[], object], steps: int) -> float:
    """Take some steps and return the seconds, by the device's own clock where it has one."""
    if device().type != "cuda":
        start = time.perf_counter()
        for _ in range(steps):
            step()
        return time.perf_counter() - start
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    for _ in range(steps):
        step()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3


def fastest(step_of: Callable[[int], Callable[[], object]], sizes: Sequence[int]) -> int:
    """Return the batch with the most samples a second.

    Args:
        step_of: batch to a training step.
        sizes: tried in turn, until one does not fit or is no faster.
    """
    best, rate = sizes[0], 0.0
    for size in sizes if len(sizes) > 1 else ():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        try:
            step = step_of(size)
            timed(step, 3)
            found = size * 5 / timed(step, 5)
        except torch.cuda.OutOfMemoryError:
            break
        total = torch.cuda.get_device_properties(device()).total_memory
        if torch.cuda.max_memory_allocated() > SHARE * total or found < GAIN * rate:
            break
        best, rate = size, found
    return best


def _plain_step(case: Case, module: nn.Module, size: int) -> Callable[[], Tensor]:
    optimizer, x = adamw(module), pixels(case, size)

    def step() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        normal = (x.to(torch.float32) * 1e-4 - MEAN) / DEVIATION
        with torch.autocast(x.device.type, torch.bfloat16):
            loss = module(normal)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def _our_step(case: Case, engine: Engine, size: int) -> Callable[[], float]:
    x = pixels(case, size)
    numbers = count()

    def step() -> float:
        at = torch.arange(size, device=x.device) + next(numbers) * size
        rng = CounterRng(0, torch.zeros_like(at), at)
        weight = torch.ones(size, device=x.device)
        batch = MicroBatch({case.modality: x}, weight, {case.modality: (1e-4, 0.0)}, rng)
        return engine.step([batch], 1e-4, stop=False)[0].loss

    return step


def _engine(made: MAE, size: int, compiled: bool) -> Engine:
    return Engine(
        made,
        OptimizerConfig(lr=1e-4, weight_decay=0.05),
        EngineConfig(precision="bf16", compile=compiled),
        micro_batch=size,
        accumulate=1,
        device=device(),
    )


def _chosen(case: Case, quick: bool) -> tuple[Case, tuple[int, ...]]:
    """Return the case and the batches for this machine."""
    if device().type == "cuda" and not quick:
        return case, BATCHES
    torch.set_num_threads(1)  # it may share the machine
    return case.tiny(), (2,)


@cache
def _trace_alone() -> None:
    """Let compiling only trace: on a CPU, generating code would take most of a quick run."""
    torch.compile = partial(torch.compile, backend="eager")  # type: ignore[assignment]


def _ready(name: str, size: int, step: Callable[[], object], **settings: Any) -> Ready:
    first = step()
    _losses[name] = float(first)  # type: ignore[arg-type]
    timed(step, 2)  # compiles once more where a size is taken for variable
    steps = max(1, math.ceil(SECONDS / timed(step, 1))) if device().type == "cuda" else 1
    taken = _seconds[name] = []

    def repetition() -> float:
        taken.append(timed(step, steps) / (steps * size))
        return taken[-1]

    return Ready(repetition, {"batch": size, "steps a repetition": steps, **settings})


def _prepare_plain(case: Case, compiled: bool, quick: bool) -> Ready:
    chosen, sizes = _chosen(case, quick)
    torch.manual_seed(0)
    module = plain(chosen).to(device()).train()
    size = fastest(lambda size: _plain_step(chosen, module, size), sizes)
    name = f"{case.title}: {COMPILED if compiled else PLAIN}"
    ran: Any = torch.compile(module) if compiled else module
    return _ready(name, size, _plain_step(chosen, ran, size))


def _prepare_ours(case: Case, title: str, kind: str, predict: float, quick: bool) -> Ready:
    chosen, sizes = _chosen(case, quick)
    torch.manual_seed(0)
    make = partial(objective, chosen, kind, predict)
    size = sizes[0]
    if len(sizes) > 1:
        size = fastest(lambda size: _our_step(chosen, _engine(make(), size, False), size), sizes)
        torch.cuda.empty_cache()
    name = f"{case.title}: {title}"
    _flops[name] = _counted(chosen, kind, predict)
    engine = _engine(make().train(), size, title != OURS)
    return _ready(name, size, _our_step(chosen, engine, size))


def _counted(case: Case, kind: str, predict: float) -> float:
    """Return the floating-point operations of a sample's training step."""
    with torch.device("meta"):
        made = objective(case, kind, predict)
        x = torch.empty(2, len(case.bands), case.side, case.side, dtype=torch.uint16)
        at = torch.zeros(2, dtype=torch.int64)
        scaling = {case.modality: (1e-4, 0.0)}
        batch = MicroBatch({case.modality: x}, torch.ones(2), scaling, CounterRng(0, at, at))
        return flops_of(made, batch).total


def _facts(cases: Sequence[Case]) -> list[Fact]:
    """Return operations and their share of the peak; both sides do the work of the same model."""
    found, most = [], stated_flops(device())
    for case in cases:
        work = _flops[f"{case.title}: {OURS}"]
        found.append(Fact(f"{case.title}: operations a sample", work / 1e9, "GFLOP"))
        for title in (PLAIN, COMPILED, OURS, OURS_COMPILED, CROSS):
            name = f"{case.title}: {title}"
            seconds = sorted(_seconds[name])[len(_seconds[name]) // 2]
            share = None if most is None else _flops.get(name, work) / seconds / most
            least = 0.35 if case.size == "vit_large" and title == OURS_COMPILED else None
            found.append(Fact(f"{name}: MFU", share, "of the peak", None, least))
    return found


def _same_loss(cases: Sequence[Case]) -> None:
    for case in cases:
        wanted = _losses[f"{case.title}: {PLAIN}"]
        for title in (COMPILED, OURS, OURS_COMPILED):
            found = _losses[f"{case.title}: {title}"]
            if not abs(found - wanted) <= TOLERANCE * wanted:
                raise FMError(
                    f"bench gpu: {case.title}: {title} starts at loss {found:.3f}, the plain one "
                    f"at {wanted:.3f}; they do other work, so their times are not compared"
                )


def bench(name: str, question: str, cases: Sequence[Case]) -> Bench:
    """Return the comparison of some cases."""

    def prepare(case: Case, title: str) -> Callable[[bool], Ready]:
        def made(quick: bool) -> Ready:
            if device().type != "cuda":
                _trace_alone()
            if title in (PLAIN, COMPILED):
                return _prepare_plain(case, title == COMPILED, quick)
            kind, predict = ("cross", 1 / 3) if title == CROSS else ("joint", 1.0)
            return _prepare_ours(case, title, kind, predict, quick)

        return made

    titles = (PLAIN, COMPILED, OURS, OURS_COMPILED, CROSS)
    targets = []
    for case in cases:
        ours = f"{case.title}: {OURS_COMPILED}"
        for other, least in ((PLAIN, 1.3), (COMPILED, None)):
            title = f"{ours} over {other}"
            targets.append(Target(title, ours, f"{case.title}: {other}", at_least=least))
    return Bench(
        name=name,
        question=question,
        competitors={
            f"{case.title}: {title}": prepare(case, title) for case in cases for title in titles
        },
        targets=tuple(targets),
        unit="samples/s",
        rounds=12,
        quick_rounds=2,
        warmup=1,
        versions=("torch", "deepspeed", "timm"),
        check=lambda: _same_loss(cases),
        facts=lambda quick: _facts(cases),
    )
