"""Runs of a few steps in processes of their own, which may be told to kill all of their ranks."""

import json
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pretrain
from pretrain.config import RunConfig
from pretrain.loop import Moment, Watcher
from tests import ranks

STEPS, KEPT = 20, 9
"""Steps of a run, and the step of its first checkpoint."""

OPTIMIZERS = {
    "adamw": {"lr": 1e-3},
    "sgd": {"lr": 0.03, "weight_decay": 1e-4, "decayed": "all"},
    "lars": {"lr": 1.0, "weight_decay": 1e-4},
}

OPTIMIZERS = {
    "adamw": {"lr": 1e-3},
    "sgd": {"lr": 0.03, "weight_decay": 1e-4, "decayed": "all"},
    "lars": {"lr": 1.0, "weight_decay": 1e-4},
}


@dataclass(frozen=True)
class Cell:
    """One way to run.

    Attributes:
        ranks: number of processes.
        stage: ZeRO's.
        precision: of the engine.
        accumulate: micro-batches a rank takes in a step.
        optimizer: one of `OPTIMIZERS`.
    """

    ranks: int
    stage: int
    precision: str = "fp32"
    accumulate: int = 1
    optimizer: str = "adamw"

    def __str__(self) -> str:
        words = f"{self.ranks}-zero{self.stage}-{self.precision}-{self.accumulate}"
        return words if self.optimizer == "adamw" else f"{words}-{self.optimizer}"


@dataclass
class Runner:
    """Makes runs on a dataset.

    Attributes:
        dataset: its folder.
        folder: where runs go.
        curves: loss and gradient norm of each step of what was run without a stop.
    """

    dataset: Path
    folder: Path
    curves: dict[Cell, list[list[float]]] = field(default_factory=dict)

    def straight(self, cell: Cell) -> list[list[float]]:
        """Return the curve of a run that nothing stops."""
        if cell not in self.curves:
            self.launch(cell, f"{cell}")
            self.curves[cell] = self.curve(f"{cell}")
        return self.curves[cell]

    def curve(self, name: str) -> list[list[float]]:
        """Return loss and gradient norm of the steps that a run has logged."""
        lines = (self.folder / name / "metrics.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        return [[row["loss"], row["grad_norm"]] for row in rows]

    def launch(self, cell: Cell, name: str, kill_after: int | None = None) -> ranks.Done:
        """Run, and return how each rank ended.

        Args:
            cell: how.
            name: of the run's folder.
            kill_after: the step after which every rank kills itself.
        """
        settings = self.folder / f"zero{cell.stage}.yaml"
        values = {"stage": cell.stage, "stage3_param_persistence_threshold": 0}
        settings.write_text(json.dumps({"zero_optimization": values}))
        batch = 8
        config = {
            "name": "tiny",
            "out": str(self.folder / name),
            "seed": 1,
            "data": {
                "path": str(self.dataset),
                "batch_size": batch,
                "modalities": ["s2l1c_20", "s2l1c_60"],  # two grids: fewer weights to gather
            },
            "model": {"name": "vit_nano", "token_m": 60, "options": {"depth": 1, "width": 64}},
            "objective": {"kind": "mae", "decoder": {"width": 32, "depth": 1, "heads": 2}},
            "optimizer": {"kind": cell.optimizer, "clip": 0.25, **OPTIMIZERS[cell.optimizer]},
            "engine": {
                "precision": cell.precision,
                "deepspeed": str(settings),
                "micro_batch": batch // cell.ranks // cell.accumulate,
            },
            "schedule": {"steps": STEPS, "warmup": 3},
            "checkpoint": {"every": KEPT, "asynchronous": False},
            "monitor": {"pictures": 0, "tensorboard": False},
        }
        made = ranks.launch(
            self.folder / f"{name}-told", _run, config, kill_after, ranks=cell.ranks
        )
        assert kill_after is not None or made.returncode == 0, made.stderr[-4000:]
        return made


def _run(config: Mapping[str, Any], kill_after: int | None) -> None:
    class Killer(Watcher):
        def after_step(self, moment: Moment) -> None:
            if moment.step == kill_after:
                os.kill(os.getpid(), signal.SIGKILL)

    pretrain.run(RunConfig.model_validate(dict(config)), watchers=[Killer()])
