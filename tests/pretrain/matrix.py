"""Runs of a few steps in processes of their own, started cheaply: forks of one that has imported.

Each rank is a real process with a gloo group; a run may be told to kill all of its ranks.
"""

import json
import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STEPS, KEPT = 20, 9
"""Steps of a run, and the step of its first checkpoint."""


@dataclass(frozen=True)
class Cell:
    """One way to run.

    Attributes:
        ranks: number of processes.
        stage: ZeRO's.
        precision: of the engine.
        accumulate: micro-batches a rank takes in a step.
    """

    ranks: int
    stage: int
    precision: str = "fp32"
    accumulate: int = 1

    def __str__(self) -> str:
        return f"{self.ranks}-zero{self.stage}-{self.precision}-{self.accumulate}"


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
            assert self.launch(cell, f"{cell}") == [0] * cell.ranks
            self.curves[cell] = self.curve(f"{cell}")
        return self.curves[cell]

    def curve(self, name: str) -> list[list[float]]:
        """Return loss and gradient norm of the steps that a run has logged."""
        lines = (self.folder / name / "metrics.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        return [[row["loss"], row["grad_norm"]] for row in rows]

    def launch(self, cell: Cell, name: str, kill_after: int | None = None) -> list[int]:
        """Run, and return the exit status of each rank.

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
            "data": {"path": str(self.dataset), "batch_size": batch},
            "model": {"name": "vit_nano", "token_m": 60, "options": {"depth": 1, "width": 64}},
            "objective": {"kind": "mae", "decoder": {"width": 32, "depth": 1, "heads": 2}},
            "optimizer": {"lr": 1e-3, "clip": 0.25},
            "engine": {
                "precision": cell.precision,
                "deepspeed": str(settings),
                "micro_batch": batch // cell.ranks // cell.accumulate,
            },
            "schedule": {"steps": STEPS, "warmup": 3},
            "checkpoint": {"every": KEPT, "asynchronous": False},
            "monitor": {"pictures": 0, "tensorboard": False},
        }
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.pretrain.preloaded"])
        log, port = str(self.folder / f"{name}.log"), _free_port()
        children = [
            context.Process(target=_rank, args=(config, rank, cell.ranks, port, kill_after, log))
            for rank in range(cell.ranks)
        ]
        for child in children:
            child.start()
        for child in children:
            child.join(timeout=400)
            child.kill()
            child.join()
        found = [child.exitcode or 0 for child in children]
        if kill_after is None and any(found):
            raise AssertionError(Path(log).read_text()[-4000:])
        return found


def _rank(
    config: Mapping[str, Any], rank: int, ranks: int, port: int, kill_after: int | None, log: str
) -> None:
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    if ranks > 1:
        os.environ.update(
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            WORLD_SIZE=str(ranks),
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=str(port),
        )
    import pretrain
    from pretrain.config import RunConfig
    from pretrain.loop import Moment, Watcher

    class Killer(Watcher):
        def after_step(self, moment: Moment) -> None:
            if moment.step == kill_after:
                os.kill(os.getpid(), signal.SIGKILL)

    pretrain.run(RunConfig.model_validate(dict(config)), watchers=[Killer()])
    sys.stdout.flush()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
