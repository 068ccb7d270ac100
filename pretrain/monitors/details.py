"""The loss of each modality and each band, now and then."""

import contextlib
import json
from typing import IO

import torch

from pretrain.loop import Loop, Moment, Watcher
from pretrain.monitors.looking import look
from pretrain.objective import Parts
from pretrain.ranks import collective
from pretrain.runs.folder import RunFolder
from pretrain.runs.lines import open_lines

BANDS = "bands.jsonl"


class Details(Watcher):
    """Writes the losses by modality and band of a step's batch to `bands.jsonl`.

    The batch goes through the objective once more, with the step's own masks and the weights after
    it. Sums and weights are over the whole global batch, so that a modality's loss is the mean of
    its bands' by their weights. Modalities are logged with the step too (`loss/MODALITY`).
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._stack = contextlib.ExitStack()
        self._file: IO[str] | None = None

    def begin(self, loop: Loop) -> None:
        """Open the file to go on after the steps that are done."""
        self._loop, self._every = loop, loop.config.monitor.detail_every
        if collective.rank() == 0:
            file = open_lines(self._folder.path / BANDS, loop.step)
            self._file = self._stack.enter_context(file)

    def after_step(self, moment: Moment) -> None:
        """Write the losses every so many steps."""
        if moment.step % self._every:
            return
        total: Parts = {}
        for batch in moment.work.split(self._loop.micro):
            found = look(self._loop.engine, batch, lambda o, batch: o.parts(batch, batch.rng))
            for key, pair in found.items():
                total[key] = total[key] + pair if key in total else pair
        if not total:
            return
        reduced = collective.all_reduce_sum(torch.stack(list(total.values())).double()).tolist()
        sums = dict(zip(total, reduced, strict=True))
        modalities: dict[str, list[float]] = {}
        bands: dict[str, dict[str, float]] = {}
        for (modality, band), (loss, weight) in sums.items():
            own = modalities.setdefault(modality, [0.0, 0.0])
            own[0], own[1] = own[0] + loss, own[1] + weight
            if weight > 0:
                bands.setdefault(modality, {})[band] = loss / weight
        losses = {name: loss / weight for name, (loss, weight) in modalities.items() if weight > 0}
        weights = {name: weight for name, (_, weight) in modalities.items() if weight > 0}
        moment.events |= {f"loss/{name}": loss for name, loss in losses.items()}
        if self._file is not None:
            part = moment.batch.part
            row = {
                "step": moment.step,
                "samples": moment.step * self._loop.config.data.batch_size,
                **({} if part is None else {"part": part}),
                "loss": losses,
                "weight": weights,
                "bands": bands,
            }
            self._file.write(json.dumps(row) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._stack.close()
