"""The objective on held-out samples, without chance, all of them compared with each other."""

import contextlib
import json
import time
from typing import IO, Any

import torch
from torch import Tensor

from fm.console import note
from fm.errors import FMError
from fm.rng import CounterRng
from pretrain.config import RunConfig
from pretrain.data import RunData
from pretrain.engine.batches import MicroBatch
from pretrain.held_out import open_held_out
from pretrain.loop import Loop, Moment, Watcher
from pretrain.monitors.looking import look
from pretrain.objective import Judged, Objective
from pretrain.ranks import collective
from pretrain.runs.folder import RunFolder, read_lines
from pretrain.runs.lines import open_lines

VALIDATION = "validation.jsonl"
PREFIX = "validation/"


class Validation(Watcher):
    """Judges the objective on samples that are held out, and writes `validation.jsonl`.

    The samples are taken whole or from their centre, without augmentation (`Objective.compared`),
    by the weights before the first step, every `every_samples` samples and after the last step.
    What is encoded at once does not depend on the number of ranks, and all rows come together on
    rank 0, so that the same weights have the same figures, to the bit, on any number of them.

    Args:
        config: of the run.
        folder: of the run.
        data: that it is trained on.

    Raises:
        FMError: the samples cannot be had.
        UsageError: they are trained on, or of the test split.
    """

    def __init__(self, config: RunConfig, folder: RunFolder, data: RunData) -> None:
        assert config.validation is not None
        self._settings, self._folder, self._seed = config.validation, folder, config.seed
        self._data = open_held_out(config, data)
        self._stack = contextlib.ExitStack()
        self._file: IO[str] | None = None
        self._told: set[str] = set()

    def begin(self, loop: Loop) -> None:
        """Open the file to go on after the steps that are done; judge the first weights."""
        self._loop, self._size = loop, loop.config.data.batch_size
        known = False
        if collective.rank() == 0:
            path = self._folder.path / VALIDATION
            self._file = self._stack.enter_context(open_lines(path, loop.step))
            known = bool(read_lines(path))
        if not collective.on_first(lambda: known):
            self._validate(loop.step, first=True)

    def after_step(self, moment: Moment) -> None:
        """Judge the weights where that is due."""
        samples, every = moment.step * self._size, self._settings.every_samples
        if moment.last or samples // every > (samples - self._size) // every:
            found = self._validate(moment.step)
            moment.events |= {f"{PREFIX}{name}": value for name, value in found.items()}

    def passed_over(self, moment: Moment) -> None:
        """Judge as after any other step."""
        self.after_step(moment)

    def close(self) -> None:
        """Close the file."""
        self._stack.close()

    def _validate(self, step: int, first: bool = False) -> dict[str, float]:
        """Judge the weights of a step; what is logged of it, nothing where that was refused."""
        begun = time.perf_counter()
        rows, unreadable = self._rows()
        objective = self._loop.engine.objective

        def judged() -> Judged:
            try:
                with torch.no_grad():
                    return objective.judged(rows)
            except FMError as error:
                if first:  # it would fail again
                    raise type(error)(f"validation: {error}") from None
                note(f"step {step}: validation failed: {error}")
                return Judged({}, {})

        found = collective.on_first(judged)
        if self._file is not None and found.figures:
            row: dict[str, Any] = {"step": step, "samples": step * self._size}
            row |= {**found.figures, **found.about, "unreadable": unreadable}
            row["seconds"] = round(time.perf_counter() - begun, 3)
            self._file.write(json.dumps(row) + "\n")
        return found.figures

    def _rows(self) -> tuple[dict[str, Tensor], int]:
        """Gather what the objective compares of all samples, in order, and count the unreadable."""
        loop, size = self._loop, self._settings.batch_size
        batches = self._data.loader(
            # a rank's share of a batch is the same samples whatever the ranks
            batch_size=size * collective.world_size(),
            rank=collective.rank(),
            world_size=collective.world_size(),
            seed=self._seed,
            shuffle=False,
            pad=True,
            threads=loop.config.data.threads,
            device=loop.device,
            max_bad=loop.config.data.max_bad,
            on_quarantine=self._quarantined,
        )
        parts: dict[str, list[Tensor]] = {}
        with contextlib.closing(batches):
            for batch in batches:
                rng = CounterRng(self._seed, batch.epochs, batch.positions)
                found = look(loop.engine, MicroBatch.of(batch, rng), _compared)
                for name, value in {**found, "": batch.weight}.items():
                    parts.setdefault(name, []).append(collective.gather_rows(value.detach()).cpu())
        rows = {name: torch.cat(values) for name, values in parts.items()}
        readable = rows.pop("") > 0  # neither damaged nor padding
        found = {name: value[readable] for name, value in rows.items()}
        return found, len(self._data.parts[""]) - int(readable.sum())

    def _quarantined(self, key: str, reason: str) -> None:
        if key not in self._told:
            self._told.add(key)
            note(f"validation: sample {key} is left out: {reason}")


def _compared(objective: Objective, batch: MicroBatch) -> dict[str, Tensor]:
    return objective.compared(batch)
