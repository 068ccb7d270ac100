"""The loop of a run: read, step, look, keep; nothing in it knows what is learned."""

import contextlib
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch

from fm.console import note
from fm.rng import CounterRng
from pretrain.augment import dihedral
from pretrain.config import RunConfig
from pretrain.data import RunData, check_batch
from pretrain.engine.batches import MicroBatch
from pretrain.engine.engine import Engine, Step
from pretrain.guard import Candidate, Guard
from pretrain.objective import Objective
from pretrain.ranks import collective
from pretrain.ranks.watchdog import Watchdog
from pretrain.runs.checkpoints import Checkpoints
from pretrain.runs.folder import Position, RunFolder
from pretrain.runs.resume import load_latest
from pretrain.runs.skipped import Skipped
from pretrain.schedule import Clock, learning_rate


@dataclass
class Moment:
    """A step that was just taken, or that the guard passed over, as watchers see it.

    Attributes:
        step: steps done, from 1.
        batch: this rank's share, as the loader gave it (pixels augmented).
        work: the same as the objective took it.
        result: what the step did, over the whole global batch.
        figures: what is logged of the step, by name; watchers may add to it.
        waited: seconds this rank waited for data.
        last: the run's last step.
        events: as `figures`, of the run and not of one step; logged with the next line.
    """

    step: int
    batch: Any
    work: MicroBatch
    result: Step
    figures: dict[str, float] = field(default_factory=dict)
    waited: float = 0.0
    last: bool = False
    events: dict[str, float] = field(default_factory=dict)


class Watcher:
    """Looks at a run while it goes; every method is called on every rank, in the same order.

    So a watcher may call collectives, as long as all ranks do.
    """

    def begin(self, loop: "Loop") -> None:
        """Start; the engine is built and a checkpoint, if there was one, is loaded."""

    def after_step(self, moment: Moment) -> None:
        """Look at a step that changed the weights."""

    def passed_over(self, moment: Moment) -> None:
        """Look at a step that did not: its figures are unsound, its number and `last` hold."""

    def close(self) -> None:
        """End, also after an error."""


class Loop:
    """A run between its folder and its engine.

    Args:
        config: of the run.
        folder: locked.
        data: opened.
        objective: with fresh weights.
        device: of this process.
        asked: filled with the names of signals that ask this process to stop.
        watch: is told of the phases.

    Attributes:
        step: steps done.
    """

    def __init__(
        self,
        config: RunConfig,
        folder: RunFolder,
        data: RunData,
        objective: Objective,
        device: torch.device,
        asked: list[str],
        watch: Watchdog,
    ) -> None:
        self.config, self.folder, self.data, self.device = config, folder, data, device
        self.asked, self.watch = asked, watch
        self.micro, accumulate = check_batch(config, collective.world_size())
        self.engine = Engine(
            objective,
            config.optimizer,
            config.engine,
            micro_batch=self.micro,
            accumulate=accumulate,
            device=device,
        )
        self.skipped = Skipped(folder.path)
        self.guard = Guard(config.guard, self.skipped)
        self.checkpoints = Checkpoints(folder, config.checkpoint, device, self.engine.record)
        found = load_latest(folder, self.engine)
        self.step = 0
        if found is not None:
            position, where = found
            self.step = position.step
            self.guard.load(position.guard)
            if collective.rank() == 0:
                note(f"going on after step {self.step} ({where})")
        self.state: dict[str, Any] = {}
        self._started = time.perf_counter()

    @property
    def complete(self) -> bool:
        """All steps have been taken."""
        return self.step >= self.config.schedule.steps

    @property
    def seconds(self) -> float:
        """Seconds of training, all sessions together."""
        return float(self.state.get("seconds", 0.0)) + time.perf_counter() - self._started

    def go(self, state: dict[str, Any], watchers: Iterable[Watcher]) -> None:
        """Take steps until the end, or until a process is asked to stop.

        Args:
            state: of the run, as it was written when this session began.
            watchers: called after each step, in this order.

        Raises:
            FMError: the guard stops the run, or the data cannot be read.
        """
        self.state, self._started = state, time.perf_counter()
        if collective.rank() == 0:
            self.skipped.go_on_after(self.step)
        stopped = False
        with contextlib.ExitStack() as stack:
            stack.callback(self.checkpoints.close)
            batches = self._loader()
            stack.callback(batches.close)
            called = list(watchers)
            for watcher in called:
                stack.callback(watcher.close)
                watcher.begin(self)
            while not self.complete and not stopped:
                moment, stopped = self._one(batches)
                self.watch.arm()
                self.watch.phase("watchers")
                for watcher in called:
                    if moment.result.taken:
                        watcher.after_step(moment)
                    else:
                        watcher.passed_over(moment)
                if self.checkpoints.due(self.step) or self.complete or stopped:
                    self.checkpoint()
            self.checkpoints.wait()

    def checkpoint(self) -> None:
        """Take a checkpoint of this step, and go on while it is written; call on every rank."""
        self.watch.phase("checkpoint")
        position = Position(
            self.step,
            self.step * self.config.data.batch_size,
            collective.world_size(),
            self.engine.zero_stage,
            self.guard.state(),
        )
        state = {**self.state, "status": "running", "step": self.step, "seconds": self.seconds}
        self.checkpoints.save(position, lambda: self.folder.write_state(**state))

    def _one(self, batches: Any) -> tuple[Moment, bool]:
        config, schedule = self.config, self.config.schedule
        before = time.perf_counter()
        self.watch.phase("data")
        batch = next(batches)
        waited = time.perf_counter() - before
        rate = learning_rate(
            self.step,
            peak=config.optimizer.lr,
            steps=schedule.steps,
            warmup=schedule.warmup,
            minimum=schedule.min_lr,
            kind=schedule.kind,
            decay=schedule.decay,
            milestones=schedule.falls,
            factor=schedule.factor,
        )
        size = config.data.batch_size
        clock = Clock(self.step * size, (schedule.steps - 1) * size)
        decay = config.weight_decay(clock)
        work = _augmented(config, batch, self.step, clock, self.data.labels.vectors(batch))
        self.watch.phase("step")
        at = Candidate(self.step + 1, batch.part, batch.keys, self.micro)
        result, stopped = self.engine.step(
            work.split(self.micro),
            rate,
            stop=bool(self.asked),
            judge=lambda step: self.guard.passes(at, step),
            weight_decay=decay,
        )
        self.step += 1
        if not result.taken and config.guard.policy == "rollback":
            self._roll_back()
        figures = {"loss": result.loss, "lr": rate, **result.metrics}
        figures |= {"grad_norm": result.grad_norm, "weight": result.weight}
        figures |= {} if decay is None else {"weight_decay": decay}
        return Moment(self.step, batch, work, result, figures, waited, self.complete), stopped

    def _roll_back(self) -> None:
        """Take the weights and moments of the last checkpoint; the steps go on."""
        self.checkpoints.wait()
        found = load_latest(self.folder, self.engine)
        if found is None:
            return  # nothing was kept yet: the batch is only passed over
        position, _ = found
        if collective.rank() == 0:
            note(f"weights of step {position.step}; going on with step {self.step + 1}")

    def _loader(self) -> Any:
        config = self.config.data
        return self.data.loader(
            batch_size=config.batch_size,
            seed=self.config.seed,
            rank=collective.rank(),
            world_size=collective.world_size(),
            position=self.step * config.batch_size,
            threads=config.threads,
            shuffle=config.shuffle,
            device=self.device,
            max_bad=config.max_bad,
            report=self.folder.quarantine(collective.rank()),
            **({} if config.window is None else {"window": config.window}),
        )


def _augmented(
    config: RunConfig, batch: Any, step: int, clock: Clock, labels: dict[str, torch.Tensor]
) -> MicroBatch:
    """Return the batch after augmentation, with its randomness."""
    rng = CounterRng(config.seed, batch.epochs, batch.positions)
    if config.augment.dihedral:
        batch.pixels = dihedral(batch.pixels, rng)
    return MicroBatch.of(batch, rng, step, clock, labels)
