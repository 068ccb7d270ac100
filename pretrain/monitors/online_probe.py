"""A benchmark that is run on the backbone while it is trained."""

import contextlib
import json
import time
from typing import IO, Any

import torch
from torch import Tensor

from fm.console import note, quiet
from fm.errors import FMError
from fm.models import Backbone
from pretrain.build import build_backbone
from pretrain.loop import Loop, Moment, Watcher
from pretrain.monitors.looking import generators_kept
from pretrain.ranks import collective
from pretrain.runs.folder import RunFolder, read_lines
from pretrain.runs.lines import open_lines
from pretrain.settings.probe import ProbeConfig

PROBES = "probes.jsonl"


class OnlineProbe(Watcher):
    """Runs a benchmark of `probes` on a copy of the backbone, on rank 0; the others wait.

    The val split is scored, never test (`probes.judging.rehearsal`). The model is probed before the
    first step, which is the floor of the curve and tells what a probe costs. From then on a probe
    is due every `every_samples` samples and after the last step, and passed over where it would
    bring the time of all probes above `max_share` of the run's.

    Args:
        config: of the probe.
        folder: of the run.

    Raises:
        FMError: the benchmark or its data cannot be had.
    """

    def __init__(self, config: ProbeConfig, folder: RunFolder) -> None:
        self._config, self._folder = config, folder
        self._stack = contextlib.ExitStack()
        self._file: IO[str] | None = None
        self._copy: Backbone | None = None
        self._session: Any = None
        self._passed_over = False
        self.name = f"{config.benchmark.partition('@')[0]}-{config.protocol.partition('@')[0]}"
        collective.on_first(self._open)

    def begin(self, loop: Loop) -> None:
        """Open the file to go on after the steps that are done, and take the first probe."""
        self._loop = loop
        self._size = loop.config.data.batch_size
        rows: list[dict[str, Any]] = []
        if collective.rank() == 0:
            path = self._folder.path / PROBES
            self._file = self._stack.enter_context(open_lines(path, loop.step))
            rows = read_lines(path)
            with generators_kept():
                self._copy = build_backbone(loop.config.model, loop.data.layout).eval()
        # of all sessions; only rank 0 decides
        self._spent = sum(row["seconds"] for row in rows)
        self._cost = rows[-1]["seconds"] if rows else None
        if collective.on_first(lambda: self._cost is None):
            self._probe(loop.step)

    def after_step(self, moment: Moment) -> None:
        """Probe where one is due and there is time for it."""
        samples, every = moment.step * self._size, self._config.every_samples
        due = samples // every > (samples - self._size) // every
        if (due or moment.last) and collective.on_first(self._allowed):
            value = self._probe(moment.step)
            if value is not None:
                moment.events[f"probe/{self.name}"] = value

    def passed_over(self, moment: Moment) -> None:
        """Probe as after any other step."""
        self.after_step(moment)

    def close(self) -> None:
        """Close the file."""
        self._stack.close()

    def _open(self) -> None:
        from probes.judging.evaluation import opened

        self._session = opened(self._config.benchmark, self._config.data, rehearse=True)

    def _allowed(self) -> bool:
        """Say whether another probe fits into its share of the run's time."""
        assert self._cost is not None
        share = (self._spent + self._cost) / (self._loop.seconds + self._cost)
        if share <= self._config.max_share:
            self._passed_over = False
            return True
        if not self._passed_over:
            self._passed_over = True
            note(
                f"probe {self.name} passed over at step {self._loop.step}: with its "
                f"{self._cost:.3g} s probes would take {100 * share:.0f}% of the time, "
                f"probe.max_share is {100 * self._config.max_share:g}%"
            )
        return False

    def _probe(self, step: int) -> float | None:
        """Score the weights of a step; the value, or None where the harness refused them."""
        begun = time.perf_counter()
        # every rank has a part of the weights under ZeRO 3
        weights = self._loop.engine.state_of(self._loop.engine.objective.model)
        first = self._cost is None

        def scored() -> dict[str, Any] | None:
            try:
                return self._score(step, weights)
            except FMError as error:
                if first:  # nothing is lost yet, and it would fail again
                    raise type(error)(f"probe {self.name}: {error}") from None
                note(f"step {step}: probe {self.name} failed: {error}")
                return None

        row = collective.on_first(scored)
        self._cost = time.perf_counter() - begun
        self._spent += self._cost
        if row is None:
            return None
        if self._file is not None:
            share = self._spent / max(self._loop.seconds, self._spent)
            row |= {"seconds": round(self._cost, 3), "share": round(share, 4)}
            self._file.write(json.dumps(row) + "\n")
        return float(row["value"])

    def _score(self, step: int, weights: dict[str, Tensor]) -> dict[str, Any]:
        from probes.judging.evaluation import evaluate_many

        assert self._copy is not None
        self._copy.load_state_dict(weights)
        config = self._config
        with generators_kept(), quiet(), torch.enable_grad():
            (result,) = evaluate_many(
                self._copy,
                config.benchmark,
                [config.protocol],
                data=config.data,
                with_floors=False,
                session=self._session,
                name=self._loop.config.name,
            )
        found = result.metrics[result.primary]
        return {
            "step": step,
            "samples": step * self._size,
            "benchmark": self._session.benchmark.full_name,
            "protocol": f"{result.protocol['name']}@{result.protocol['version']}",
            "scored": "val",
            "count": result.benchmark["n_test"],
            "metric": result.primary,
            **{key: found[key] for key in ("value", "low", "high")},
        }
