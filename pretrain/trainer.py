"""A pretraining run from config to exported checkpoint."""

import contextlib
import math
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch

from fm.checkpoint import save
from fm.config import dump_yaml, find_recipe, override, parse, read_yaml
from fm.console import note, progress
from fm.errors import FMError, UsageError
from fm.files import write_atomic, write_json
from fm.rng import CounterRng
from pretrain.augment import dihedral
from pretrain.build import build, token_grids
from pretrain.config import RunConfig
from pretrain.data import RunData, check_batch, open_data
from pretrain.engine.batches import MicroBatch
from pretrain.engine.engine import Engine
from pretrain.engine.fragment import read_fragment
from pretrain.export import draw_pictures, losses_by_part, make_card
from pretrain.fit import fit_bases
from pretrain.monitors.monitor import Monitor
from pretrain.objective import Objective
from pretrain.ranks import collective
from pretrain.ranks.processes import processes
from pretrain.runs.environment import environment
from pretrain.runs.folder import TAG, Position, RunFolder, differing_keys
from pretrain.schedule import learning_rate

STOPPED_STATUS = 75
"""Exit status after SIGTERM, when a checkpoint was written and the run can be started again."""


@dataclass(frozen=True)
class RunResult:
    """What a run ended with.

    Attributes:
        name: the run's name.
        out: run folder.
        export: checkpoint folder; None when the run was stopped before its end.
        steps: optimiser steps done.
        samples: samples seen.
        loss_start: mean loss of the first tenth of the logged steps (at most 10); of a mixture,
            the mean of the parts' own.
        loss_end: the same of as many last ones.
        seconds: of training, all sessions together.
    """

    name: str
    out: str
    export: str | None
    steps: int
    samples: int
    loss_start: float
    loss_end: float
    seconds: float


def load_config(name: str, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a recipe by name or path and apply `key=value` overrides.

    Raises:
        UsageError: no such recipe, an unknown key, a wrong value.
    """
    path = find_recipe("pretrain", name)
    return parse(RunConfig, override(read_yaml(path), overrides), str(path))


def run(
    config: str | RunConfig, overrides: Sequence[str] = (), *, force: bool = False
) -> RunResult:
    """Start a run, or go on with the one in the run folder.

    Args:
        config: recipe name, file, or a config.
        overrides: `key=value` words.
        force: go on although the config or the data changed.

    Returns:
        how it ended; a finished run is not run again.

    Raises:
        FMError: anything a user can mend, in one line.
    """
    settings = config if isinstance(config, RunConfig) else load_config(config, overrides)
    with processes() as device, _stop_signal() as stop:
        # everything that can be wrong with the request is found before anything is written
        folder = RunFolder(settings.out)
        data = open_data(settings)
        objective = build(settings, data.layout)
        token_grids(data.layout, objective)
        read_fragment(settings.engine)
        with contextlib.ExitStack() as stack:
            collective.on_first(lambda: _enter(stack, folder))
            finished = collective.on_first(lambda: _prepare(folder, settings, data, force))
            if finished is not None:
                return finished
            if collective.on_first(folder.latest) is None:  # else the checkpoint holds them
                fit_bases(objective.backbone, data)
            return _train(settings, folder, data, objective, device, stop)


def _enter(stack: contextlib.ExitStack, folder: RunFolder) -> None:
    stack.enter_context(folder.locked())


def _prepare(folder: RunFolder, config: RunConfig, data: RunData, force: bool) -> RunResult | None:
    """Check what is in the run folder; return the result of a finished run."""
    identity = {**config.identity(), "manifest_hash": data.manifest_hash}
    state = folder.state()
    if state is not None and folder.latest() is not None:
        chosen = config.model_dump(mode="json", exclude_defaults=True)
        changed = differing_keys(state["identity"], identity, chosen)
        if changed and not force:
            raise UsageError(
                f"{folder.path}: the run there was started with other values of "
                f"{', '.join(changed)}; name another out=FOLDER, or go on with --force"
            )
        done = state["status"] == "finished" and (folder.export / "card.json").is_file()
        if done and not changed:
            note(f"{folder.path}: finished already ({state['step']} steps)")
            place = {"out": str(folder.path), "export": str(folder.export)}
            return RunResult(**{**state["result"], **place})
    return None


def _begin(folder: RunFolder, config: RunConfig, data: RunData, step: int) -> dict[str, Any]:
    """Write what this run is, once nothing can be wrong with it any more; return its state."""
    before = folder.state() or {}
    state = {
        "status": "running",
        "step": step,
        "seconds": before.get("seconds", 0.0) if step else 0.0,
        "identity": {**config.identity(), "manifest_hash": data.manifest_hash},
    }
    write_atomic(folder.path / "config.yaml", dump_yaml(config))
    write_json(folder.path / "env.json", environment())
    folder.write_state(**state)
    return state


@contextlib.contextmanager
def _stop_signal() -> Iterator[list[bool]]:
    """Turn SIGTERM into a flag while the block runs (main thread only)."""
    flag: list[bool] = []

    def raise_flag(number: int, frame: FrameType | None) -> None:
        del number, frame
        flag.append(True)

    try:
        before = signal.signal(signal.SIGTERM, raise_flag)
    except ValueError:  # not the main thread: the caller owns the signals
        yield flag
        return
    try:
        yield flag
    finally:
        signal.signal(signal.SIGTERM, before)


def _train(
    config: RunConfig,
    folder: RunFolder,
    data: RunData,
    objective: Objective,
    device: torch.device,
    stop: list[bool],
) -> RunResult:
    first, world = collective.rank() == 0, collective.world_size()
    micro, accumulate = check_batch(config, world)
    engine = Engine(
        objective,
        config.optimizer,
        config.engine,
        micro_batch=micro,
        accumulate=accumulate,
        device=device,
    )
    done = _resume(folder, engine)
    batches = data.loader(
        batch_size=config.data.batch_size,
        seed=config.seed,
        rank=collective.rank(),
        world_size=world,
        position=done * config.data.batch_size,
        threads=config.data.threads,
        shuffle=config.data.shuffle,
        device=device,
        max_bad=config.data.max_bad,
        report=folder.quarantine(collective.rank()),
        **({} if config.data.window is None else {"window": config.data.window}),
    )
    schedule = config.schedule
    started, step, stopped = time.perf_counter(), done, False
    state = collective.on_first(lambda: _begin(folder, config, data, done))
    spent = float(state["seconds"])

    def checkpoint(step: int) -> None:
        position = Position(step, step * config.data.batch_size, world, engine.zero_stage)
        folder.save(
            position,
            engine.save,
            first=first,
            barrier=collective.barrier,
            keep=config.checkpoint.keep,
        )
        if first:
            elapsed = spent + time.perf_counter() - started
            folder.write_state(**{**state, "status": "running", "step": step, "seconds": elapsed})

    with contextlib.ExitStack() as stack:
        stack.callback(batches.close)
        monitor = None
        if first:
            bar = stack.enter_context(progress(config.name, schedule.steps, done=done))
            events = folder.path / "tensorboard" if config.monitor.tensorboard else None
            monitor = Monitor(
                folder.open_metrics(done),
                events,
                bar,
                every=config.monitor.every,
                batch_size=config.data.batch_size,
                done=done,
            )
            stack.callback(monitor.close)
        while step < schedule.steps and not stopped:
            before = time.perf_counter()
            batch = next(batches)
            waited = time.perf_counter() - before
            rate = learning_rate(
                step,
                peak=config.optimizer.lr,
                steps=schedule.steps,
                warmup=schedule.warmup,
                minimum=schedule.min_lr,
            )
            work = _augmented(config, batch, step)
            result, stopped = engine.step(work.split(micro), rate, stop=bool(stop))
            step += 1
            if not math.isfinite(result.loss):
                raise FMError(
                    f"step {step}: the loss is {result.loss}; samples {', '.join(batch.keys[:8])}; "
                    f"lower optimizer.lr or check them with fm shards verify"
                )
            if monitor is not None:
                figures = {"loss": result.loss, "lr": rate, **result.metrics}
                if result.grad_norm is not None:
                    figures["grad_norm"] = result.grad_norm
                figures["weight"] = result.weight
                last = step == schedule.steps
                monitor.log(step, figures, part=batch.part, waited=waited, last=last)
            if step % config.checkpoint.every == 0 or step == schedule.steps or stopped:
                checkpoint(step)
    seconds = spent + time.perf_counter() - started
    return _finish(config, folder, data, engine, state, step, seconds, device)


def _augmented(config: RunConfig, batch: Any, step: int) -> MicroBatch:
    """Return the batch after augmentation, with its randomness."""
    rng = CounterRng(config.seed, batch.epochs, batch.positions)
    if config.augment.dihedral:
        batch.pixels = dihedral(batch.pixels, rng)
    return MicroBatch.of(batch, rng, step)


def _resume(folder: RunFolder, engine: Any) -> int:
    """Load the newest checkpoint; return the steps done."""
    found = collective.on_first(folder.latest)
    if found is None:
        return 0
    path, position = found
    world = collective.world_size()
    if engine.zero_stage != position.zero_stage:
        raise UsageError(
            f"{path} was written by ZeRO stage {position.zero_stage}, this is "
            f"{engine.zero_stage}; set engine.deepspeed back"
        )
    if position.world_size != world and position.zero_stage > 0:
        raise UsageError(
            f"{path} was written by {position.world_size} ranks under ZeRO stage "
            f"{position.zero_stage}; start as many, this is {world}"
        )
    engine.load(str(path), TAG)
    if collective.rank() == 0:
        note(f"going on after step {position.step} ({path})")
    return position.step


def _finish(
    config: RunConfig,
    folder: RunFolder,
    data: RunData,
    engine: Any,
    state: dict[str, Any],
    step: int,
    seconds: float,
    device: torch.device,
) -> RunResult:
    """Write the export, the pictures and the final state."""
    complete = step >= config.schedule.steps
    backbone = engine.objective.exported()["backbone"]
    weights = engine.state_of(backbone) if complete else None
    result = None
    if collective.rank() == 0:
        losses = losses_by_part(folder.metrics())
        result = RunResult(
            name=config.name,
            out=str(folder.path),
            export=str(folder.export) if complete else None,
            steps=step,
            samples=step * config.data.batch_size,
            loss_start=sum(start for start, _ in losses.values()) / len(losses),
            loss_end=sum(end for _, end in losses.values()) / len(losses),
            seconds=seconds,
        )
        if complete:
            training: dict[str, Any] = {
                "steps": result.steps,
                "samples_seen": result.samples,
                "loss_start": result.loss_start,
                "loss_end": result.loss_end,
                "precision": config.engine.precision,
                "config_hash": config.hash(),
            }
            if config.data.parts is not None:
                training["loss_by_part"] = {name: list(ends) for name, ends in losses.items()}
            card = make_card(config, data, backbone, training)
            save(folder.export, backbone, card, state=weights, overwrite=True)
    if complete and config.monitor.pictures:
        draw_pictures(config, folder, data, engine, device)
    if collective.rank() == 0:
        assert result is not None
        status = "finished" if complete else "stopped"
        folder.write_state(
            **{
                **state,
                "status": status,
                "step": step,
                "seconds": seconds,
                "result": result.__dict__,
            }
        )
    final = result
    return collective.on_first(lambda: final)  # type: ignore[return-value]
