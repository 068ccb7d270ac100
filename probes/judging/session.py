"""One benchmark opened for some rows: each a model (or a floor) judged by one protocol."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fm.errors import FMError
from probes.backbones.look import units
from probes.benchmarks import Benchmark, Data
from probes.checks import contamination, overlap, robustness
from probes.families.job import Job
from probes.judging import diagnostics
from probes.judging.feeding import fed, priced
from probes.judging.judge import judge
from probes.judging.kept import Kept, of
from probes.protocols import Protocol
from probes.result import Result, environment, without
from probes.statistics.bootstrap import LEVEL, RESAMPLES, intervals


@dataclass
class Subject:
    """A model, how it is told of in results, and its folder; of random weights, their twin's."""

    model: Any
    about: dict[str, Any]
    folder: Path | None


@dataclass
class Row:
    """One result, and what is kept of it to compare it.

    Attributes:
        protocol: by which it was judged.
        subject: None for a floor.
        kept: the test answers.
        result: the document.
        changed: axes that are not the protocol's own.
    """

    protocol: Protocol
    subject: Subject | None
    kept: Kept
    result: Result
    changed: dict[str, Any] = field(default_factory=dict)


class Session:
    """One benchmark opened for some rows."""

    def __init__(
        self,
        benchmark: Benchmark,
        data: Data,
        seed: int,
        cache: Path | None,
        command: str | None,
        processes: int,
        robust: bool = False,
    ) -> None:
        self.benchmark, self.data, self.seed = benchmark, data, seed
        self.cache, self.command, self.processes = cache, command, processes
        self.robust = robust
        self.near: dict[str, Any] | None = None
        self.warnings = units(data, benchmark.full_name)
        self.on_pixels: dict[str, Row] = {}
        """Rows without a model, by protocol: judged once, whatever models stand beside them."""
        self.made: dict[str, np.ndarray] = {}
        """Features of floors, see `Job`."""
        self.described: dict[str, dict[str, Any]] = {}
        """Features that several protocols share are described once."""

    def look_near(self, subject: Subject, rule: contamination.Rule | None) -> None:
        """Count the test samples near what a model saw, and leave them out on request.

        Every later row, the floors' too, is scored on what is left.
        """
        if subject.about["kind"] == "pretrained":
            self.near = contamination.describe(subject.model, self.data, rule)
        if rule is not None:
            self.data, count = contamination.exclude(subject.model, self.data, rule)
            self.on_pixels.clear()
            self.made.clear()
            self.near = {
                **(self.near or {}),
                "excluded": {"km": rule.km, "days": rule.days, "samples": count},
            }

    @property
    def left_out(self) -> dict[str, str]:
        """What the ids of rows say of test samples that were left out."""
        excluded = (self.near or {}).get("excluded")
        if excluded is None:
            return {}
        return without(excluded, {"split_lists": self.data.split_lists()})

    def row(
        self,
        protocol: Protocol,
        subject: Subject | None,
        changed: dict[str, Any] | None = None,
    ) -> Row:
        """Judge one model (None for a floor) by one protocol, some of its axes changed."""
        if subject is not None:
            return self._judged(protocol, subject, changed)
        if protocol.full_name not in self.on_pixels:
            self.on_pixels[protocol.full_name] = self._judged(protocol, None, changed)
        return self.on_pixels[protocol.full_name]

    def _judged(
        self, protocol: Protocol, subject: Subject | None, changed: dict[str, Any] | None
    ) -> Row:
        begun = time.perf_counter()
        label = subject.about["name"] if subject else protocol.name
        job = Job(
            settings=protocol.settings,
            benchmark=self.benchmark,
            data=self.data,
            model=subject.model if subject else None,
            seed=self.seed,
            cache=self.cache,
            label=label,
            processes=self.processes,
            made=self.made,
            folder=subject.folder if subject else None,
        )
        job = fed(job)
        outcome = judge(protocol, job)
        axes, cost = priced(job, changed or {})
        answers = job.task.answers(self.data, self.data.of("test"), outcome.predictions)
        metrics = {
            name: value
            for name, value in intervals(answers, self.seed).items()
            if value["value"] is not None
        }
        if self.benchmark.primary not in metrics:
            raise FMError(
                f"{self.benchmark.full_name}: {self.benchmark.primary} has no value on this test "
                f"set; it needs positive samples"
            )
        rows, matrix = job.task.details(self.data, answers, outcome.predictions)
        seconds = round(time.perf_counter() - begun, 3)
        beside: dict[str, Any] = {
            "diagnostics": diagnostics.measure(job, outcome, self.described),
            "robustness": robustness.measure(job, outcome, answers) if self.robust else None,
            "contamination": self._near(subject),
        }
        result = Result(
            model=subject.about if subject else _floor(protocol),
            benchmark=self._about([*job.account.notes, *outcome.notes]),
            protocol=protocol.model_dump(mode="json"),
            seed=self.seed,
            metrics=metrics,
            primary=self.benchmark.primary,
            overlap=self._overlap(subject, protocol),
            interval={
                "kind": "percentile bootstrap",
                "unit": self.benchmark.unit,
                "units": answers.units,
                "resamples": RESAMPLES,
                "level": LEVEL,
            },
            selection=outcome.selection,
            environment=environment(),
            seconds=seconds,
            per_class=rows,
            confusion=matrix,
            axes=axes,
            cost=cost,
            command=self.command,
            **beside,
        )
        kept = of(answers, self._right(outcome.predictions), self.data)
        return Row(protocol, subject, kept, result, changed or {})

    def _right(self, predictions: np.ndarray) -> np.ndarray | None:
        """Which test samples got the right class, where one class was asked for once."""
        if self.benchmark.task != "class" or predictions.ndim != 2:
            return None
        return np.asarray(predictions.argmax(1) == self.data.targets[self.data.of("test")])

    def _near(self, subject: Subject | None) -> dict[str, Any] | None:
        """What is near is a matter of the pretrained model; what was left out, of every row."""
        if self.near is None or (subject and subject.about["kind"] == "pretrained"):
            return self.near
        if self.near["excluded"] is None:
            return None
        statement = "nothing was pretrained here; the same test samples were left out as beside it"
        return {"statement": statement, "excluded": self.near["excluded"]}

    def _overlap(self, subject: Subject | None, protocol: Protocol) -> dict[str, Any]:
        if subject is None:
            return overlap.none(protocol.name)
        if subject.about["kind"] != "pretrained":
            return overlap.none("a model with random weights")
        return overlap.describe(subject.model, self.data)

    def _about(self, notes: Sequence[str]) -> dict[str, Any]:
        benchmark, data = self.benchmark, self.data
        return {
            "name": benchmark.name,
            "version": benchmark.version,
            "dataset": data.dataset,
            "manifest_hash": data.manifest_hash,
            "task": benchmark.task,
            "n_train": len(data.of("train")),
            "n_val": len(data.of("val")),
            "n_test": len(data.of("test")),
            "classes": list(data.classes),
            "verified": benchmark.verified,
            "split": benchmark.split + self._left_out(),
            "unit": benchmark.unit,
            "split_lists": data.split_lists(),
            "notes": [*self.warnings, *data.notes, *notes],
        }

    def _left_out(self) -> str:
        gone = (self.near or {}).get("excluded")
        if gone is None:
            return ""
        rule = contamination.Rule(gone["km"], gone["days"])
        return f"; {gone['samples']} test samples within {rule} of pretraining left out"


def _floor(protocol: Protocol) -> dict[str, Any]:
    keys = ("path", "weights_sha256", "parameters", "architecture", "adapted")
    return {"name": protocol.name, "kind": "floor", **dict.fromkeys(keys)}
