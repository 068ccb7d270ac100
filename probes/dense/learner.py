"""Training a head on token maps, the backbone frozen (maps made once) or trained with it."""

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from fm.errors import FMError
from probes.benchmarks.base import Data
from probes.dense import heads, pairs
from probes.dense.heads import Shape
from probes.dense.stored_maps import StoredMaps, dates, extract_maps, pixel_maps
from probes.dense.token_maps import token_maps
from probes.families import tuning
from probes.families.job import Job, Outcome
from probes.families.training import Learner, train
from probes.settings import Change
from probes.settings.training import OnMaps
from probes.statistics.metrics import confusion

Dates = Sequence[list[Tensor]]
"""The levels of each date: one, or two where there is change to find."""


def answer(
    job: Job, dates_of: tuple[bool, ...], kind: "type[DenseLearner] | None" = None
) -> Outcome:
    """Train and judge a protocol on token maps.

    Args:
        job: its settings are `OnMaps`.
        dates_of: for each date of a sample whether it is the second one.
        kind: of learner, where it is not `DenseLearner`.
    """
    settings: OnMaps = job.settings
    learner = (kind or DenseLearner)(
        job.model, job.data, settings, dates_of, job.benchmark.full_name
    )
    learner.prepare(job.splits[0], job.cache)
    found = train(
        learner, settings, job.splits, job.score, seed=job.seed, label=f"{job.label}, dense"
    )
    notes = [found.note, *learner.notes]
    return Outcome(found.test_scores, found.selection, notes)


class Standardise(nn.Module):
    """Scale channels by fixed numbers; NaN (no valid pixel) becomes 0, the mean."""

    def __init__(self, mean: Tensor, spread: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean[:, None, None])
        self.register_buffer("spread", spread[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        """Scale `[B, C, h, w]`."""
        mean, spread = cast(Tensor, self.mean), cast(Tensor, self.spread)
        return torch.where(x.isnan(), 0.0, (x - mean) / spread)


class Network(nn.Module):
    """Scaling, the pair module where there are two dates, and the head; perhaps the backbone."""

    def __init__(
        self,
        scales: Sequence[Standardise],
        joins: Sequence[pairs.Pair],
        head: heads.Head,
        backbone: nn.Module | None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.scales = nn.ModuleList(scales)
        self.joins = nn.ModuleList(joins)
        self.head = head

    def forward(self, found: Dates, size: tuple[int, int]) -> Tensor:
        """Scores `[B, K, *size]`."""
        if len(found) == 1:
            levels = [scale(x) for scale, x in zip(self.scales, found[0], strict=True)]
            return self.head.scores(levels, size)
        levels = []
        for scale, join, a, b in zip(self.scales, self.joins, *found, strict=True):
            # a cell that one date lacks tells nothing about change
            missing = (a.isnan() | b.isnan()).any(dim=1, keepdim=True)
            ready = [torch.where(missing, 0.0, scale(x)) for x in (a, b)]
            levels.append(join(*ready, missing))
        return self.head.scores(levels, size)


class DenseLearner(Learner):
    """See `probes.families.training.Learner`."""

    def __init__(
        self, model: Any, data: Data, settings: OnMaps, dates_of: tuple[bool, ...], benchmark: str
    ) -> None:
        if data.maps is None:
            raise FMError(f"{benchmark}: the truth is no map")
        self.maps = data.maps
        self.model, self.data, self.settings = model, data, settings
        self.dates_of, self.benchmark = dates_of, benchmark
        architecture = getattr(model, "architecture", None) or {}
        self.what = architecture.get("name", type(model).__name__)
        self.pyramid = settings.head == "upernet"
        self.stored: list[StoredMaps] | None = None
        self.shapes: list[Shape] = []
        self.scales: list[tuple[Tensor, Tensor]] = []
        self.weights = torch.ones(len(data.classes))
        self.notes: list[str] = []

    def prepare(self, rows: np.ndarray, cache: Path | None) -> None:
        """Make the maps of a frozen backbone; measure scales and class shares on training rows."""
        settings = self.settings
        self.stored = self.extract(cache)
        self.scales = self._measure(rows)
        counts = np.zeros(len(self.data.classes))
        for index in _batches(rows, self.settings.batch_size):
            truth = self.maps(index)
            counts += np.bincount(truth[truth >= 0], minlength=len(counts))
        if not counts.any():
            raise FMError(f"{self.benchmark}: no training pixel counts")
        share = np.where(counts > 0, counts, np.inf) / counts.sum()
        self.weights = torch.from_numpy(share**-settings.balance).float()
        absent = [name for name, n in zip(self.data.classes, counts, strict=True) if not n]
        if absent:
            self.notes.append(f"classes without a training pixel: {', '.join(absent)}")

    def extract(self, cache: Path | None) -> list[StoredMaps] | None:
        """Maps of each date that are made once; None where every batch makes its own."""
        if self.settings.input != "model" or self.settings.backbone != "frozen":
            return None
        return [
            extract_maps(
                self.model,
                self.data,
                benchmark=self.benchmark,
                pyramid=self.pyramid,
                after=after,
                cache=cache,
                batch_size=self.settings.batch_size,
            )
            for after in self.dates_of
        ]

    def _measure(self, rows: np.ndarray) -> list[tuple[Tensor, Tensor]]:
        """Mean and deviation of each channel of each level over both dates' valid cells."""
        sums: list[Tensor] = []
        if self.model is not None:
            self.model.eval()
        with torch.inference_mode():
            for index in _batches(rows, self.settings.batch_size):
                for levels in self.read(self.model, index):
                    sums = sums or [torch.zeros(3, x.shape[1], dtype=torch.float64) for x in levels]
                    for total, x in zip(sums, levels, strict=True):
                        known = ~x.isnan()
                        y = torch.where(known, x, 0.0).double()
                        parts = known.double(), y, y.square()
                        total += torch.stack([part.sum((0, 2, 3)) for part in parts])
        found = []
        for count, total, squares in sums:
            mean = total / count.clamp(min=1)
            spread = (squares / count.clamp(min=1) - mean.square()).clamp(min=0).sqrt()
            # a constant channel tells nothing; its rounding must not be blown up
            flat = spread <= 1e-6 * mean.abs().clamp(min=1e-6)
            spread = torch.where(flat, torch.inf, spread)
            found.append((mean.float(), spread.float()))
        return found

    def read(self, backbone: Any, index: np.ndarray) -> list[list[Tensor]]:
        """The levels of each date of some samples; each date is encoded apart."""
        if self.stored is not None:
            if not self.shapes:
                self.shapes = self.stored[0].shapes
            return [stored.of(index) for stored in self.stored]
        inputs = self.data.read(index)
        each = [dates(inputs, after) for after in self.dates_of]
        if self.settings.input == "raw-pixel":
            size = self.maps(index[:1]).shape[1:]
            made = [pixel_maps(one, self.data, (size[0], size[1])) for one in each]
        else:
            bands, scaling = self.data.bands, self.data.scaling
            made = [token_maps(backbone, x, bands, scaling, pyramid=self.pyramid) for x in each]
        self.shapes = made[0].shapes
        return [maps.levels for maps in made]

    def build(self) -> Network:
        """See `Learner`."""
        settings = self.settings
        height, width = self.maps(self.data.of("train")[:1]).shape[1:]
        shapes, joins = self.shapes, []
        if isinstance(settings, Change):
            for shape in self.shapes:
                pair = pairs.build(
                    settings.pair, shape.channels, settings.channels, settings.blocks
                )
                joins.append(pair)
            shapes = [
                Shape(join.channels(s.channels), s.rows, s.columns, s.cell)
                for s, join in zip(self.shapes, joins, strict=True)
            ]
        head = heads.build(
            settings.head, shapes, (height, width), settings.channels, len(self.data.classes)
        )
        backbone = None
        if self.stored is None and settings.input == "model":
            backbone = copy.deepcopy(self.model)
            if settings.drop_path:
                tuning.drop_paths(backbone, settings.drop_path, self.what)
            if (lora := settings.lora) is not None:
                tuning.add_lora(backbone, lora.rank, lora.alpha, lora.targets, self.what)
        return Network([Standardise(*scale) for scale in self.scales], joins, head, backbone)

    def groups(self, network: nn.Module, rate: float) -> list[dict[str, Any]]:
        """AdamW with decay on matrices and kernels alone."""
        return tuning.parameter_groups(
            network,
            rate=rate,
            weight_decay=self.settings.weight_decay,
            layer_decay=self.settings.layer_decay,
            head_multiple=self.settings.head_multiple,
            what=self.what,
        )

    def loss(self, network: nn.Module, index: np.ndarray, draw: np.random.Generator) -> Tensor:
        """Cross-entropy, the weighted mean over all counted pixels of the batch."""
        del draw
        truth = torch.from_numpy(self.maps(index))
        scores = self._scores(network, index, truth)
        total = nn.functional.cross_entropy(
            scores, truth, self.weights, ignore_index=-1, reduction="sum"
        )
        return total / self.weights[truth[truth >= 0]].sum().clamp(min=1e-6)

    def predict(self, network: nn.Module, index: np.ndarray) -> np.ndarray:
        """One confusion matrix [K, K] a sample, pixels of -1 left out."""
        matrices = []
        classes = len(self.data.classes)
        for rows in _batches(index, self.settings.batch_size):
            truth = self.maps(rows)
            guess = self._scores(network, rows, torch.from_numpy(truth)).argmax(1).numpy()
            for t, g in zip(truth, guess, strict=True):
                matrices.append(confusion(t[t >= 0], g[t >= 0], classes))
        return np.stack(matrices)

    def _scores(self, network: nn.Module, index: np.ndarray, truth: Tensor) -> Tensor:
        found = self.read(network.backbone, index)
        return cast(Tensor, network(found, (truth.shape[1], truth.shape[2])))


def _batches(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
