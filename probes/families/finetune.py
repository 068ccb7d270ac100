"""Fine-tuning: backbone and head trained together, chosen on val, scored on test once."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fm.errors import FMError, UsageError
from probes.benchmarks.base import Data, Inputs
from probes.families import tuning
from probes.families.job import Job, Outcome
from probes.families.labels import subset, told
from probes.families.training import Learner, Tuned, train
from probes.features.extraction import encode
from probes.features.pixels import physical
from probes.settings import Finetune
from probes.solvers import logistic

TASKS = ("class", "multilabel", "regression")


def run(job: Job) -> Outcome:
    """Train on train, choose rate and epoch on val, score test."""
    settings: Finetune = job.settings
    found = finetune(
        job.model,
        job.data,
        settings,
        job.score,
        seed=job.seed,
        label=f"fine-tuning {job.label}",
        task=job.benchmark.task,
    )
    train_rows, val_rows, _ = _rows(job.data, settings, job.seed)
    notes = [*told(job.data, job.data.of("train"), train_rows), found.note]
    of_val = len(job.data.of("val"))
    whole = len(val_rows) == of_val
    if not whole:
        notes.append(f"rate and epoch chosen on {len(val_rows)} of {of_val} val samples")
    return Outcome(
        found.test_scores,
        found.selection,
        notes,
        scale=None if job.benchmark.task == "regression" else "logits",
        val=found.val_predictions if whole else None,
    )


def finetune(
    model: Any,
    data: Data,
    settings: Finetune,
    score: Callable[[np.ndarray, np.ndarray], float],
    *,
    seed: int,
    label: str = "fine-tuning",
    task: str | None = None,
) -> Tuned:
    """Fine-tune copies of a model, one a learning rate.

    Args:
        model: the starting point; it is not changed.
        data: the benchmark, opened.
        settings: the recipe.
        score: (numbers of samples, predictions [n, K]) to the primary metric; used on val.
        seed: of the order of samples; each learning rate gets the same.
        label: shown beside the progress bar.
        task: of `TASKS`; None takes what the targets look like, never a regression.

    Raises:
        FMError: the loss became NaN for every learning rate.
        UsageError: mixup without one class a sample, or a model that drop path, layer decay or
            LoRA does not fit.
    """
    task = task or ("class" if data.targets.ndim == 1 else "multilabel")
    if settings.mixup and task != "class":
        raise UsageError(
            f"mixup mixes two classes, and this benchmark is one of {task}; give mixup: 0"
        )
    rows = _rows(data, settings, seed)
    learner = _Finetuned(model, data, settings, task, rows[0])
    return train(learner, settings, rows, score, seed=seed, label=label)


def _rows(data: Data, settings: Finetune, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Train, val and test samples, the first two as few as the settings say."""
    return (
        subset(data, data.of("train"), settings.per_class, seed),
        subset(data, data.of("val"), settings.val_per_class, seed),
        data.of("test"),
    )


class _Network(nn.Module):
    def __init__(self, model: Any, classes: int) -> None:
        super().__init__()
        self.backbone = model
        self.head = nn.Linear(model.width, classes)

    @torch.no_grad()
    def start(self, head: tuple[Tensor, Tensor]) -> None:
        """Set the head's weights [K, D] and biases [K]."""
        self.head.weight.copy_(head[0])
        self.head.bias.copy_(head[1])

    def forward(self, data: Data, inputs: Inputs) -> Tensor:
        return self.head(encode(self.backbone, inputs, data.bands, data.scaling))


class _Finetuned(Learner):
    def __init__(
        self, model: Any, data: Data, settings: Finetune, task: str, rows: np.ndarray
    ) -> None:
        self.model, self.data, self.settings, self.task = model, data, settings, task
        self.what = (getattr(model, "architecture", None) or {}).get("name", type(model).__name__)
        if task == "regression":
            # targets are trained on in units of their own spread
            known = data.targets[rows]
            if not np.isfinite(known).any(axis=0).all():
                raise FMError(f"{data.folder}: a target is known for no training sample")
            self.centre = np.nanmean(known, axis=0)
            spread = np.nanstd(known, axis=0)
            self.spread = np.where(spread > 0, spread, 1.0)
        self.head = _head(model, data, rows, settings.head_c, self._targets(rows), task)

    def build(self) -> nn.Module:
        settings = self.settings
        model = copy.deepcopy(self.model)
        if settings.drop_path:
            tuning.drop_paths(model, settings.drop_path, self.what)
        network = _Network(model, len(self.data.classes))
        network.start(self.head)
        if settings.lora is not None:
            lora = settings.lora
            tuning.add_lora(model, lora.rank, lora.alpha, lora.targets, self.what)
        return network

    def groups(self, network: nn.Module, rate: float) -> list[dict[str, Any]]:
        """AdamW, see `tuning.parameter_groups`."""
        return tuning.parameter_groups(
            network,
            rate=rate,
            weight_decay=self.settings.weight_decay,
            layer_decay=self.settings.layer_decay,
            head_multiple=self.settings.head_multiple,
            what=self.what,
        )

    def loss(self, network: nn.Module, index: np.ndarray, draw: np.random.Generator) -> Tensor:
        inputs, targets = self.data.read(index), self._targets(index)
        if not self.settings.mixup:
            return _loss(network(self.data, inputs), targets, self.task)
        share = float(draw.beta(self.settings.mixup, self.settings.mixup))
        other = draw.permutation(len(index))
        scores = network(self.data, mixed(inputs, other, share, self.data.scaling))
        return share * _loss(scores, targets, self.task) + (1 - share) * _loss(
            scores, targets[other], self.task
        )

    def predict(self, network: nn.Module, index: np.ndarray, batch: int = 256) -> np.ndarray:
        parts = [
            network(self.data, self.data.read(index[i : i + batch]))
            for i in range(0, len(index), batch)
        ]
        made = torch.cat(parts).float().numpy()
        return made * self.spread + self.centre if self.task == "regression" else made

    def _targets(self, index: np.ndarray) -> np.ndarray:
        targets = self.data.targets[index]
        return (targets - self.centre) / self.spread if self.task == "regression" else targets


def mixed(
    inputs: Inputs, other: np.ndarray, share: float, scaling: dict[str, tuple[float, float]]
) -> Inputs:
    """Mix samples in physical units: `share` of each and the rest of its partner.

    Args:
        inputs: B samples.
        other: [B] number of each sample's partner.
        share: of the sample itself.
        scaling: of stored integers.

    Returns:
        float32 pixels, valid where both partners are, zero elsewhere.
    """
    pixels, valid = {}, {}
    for modality, stored in inputs.pixels.items():
        x = physical(stored, scaling[modality]).astype(np.float32)
        pixels[modality] = np.float32(share) * x + np.float32(1 - share) * x[other]
        if inputs.valid is not None:
            mask = inputs.valid[modality]
            valid[modality] = mask & mask[other]
            pixels[modality] *= valid[modality][:, None]
    return Inputs(pixels, valid or None)


def _head(
    model: Any, data: Data, rows: np.ndarray, c: float, targets: np.ndarray, task: str
) -> tuple[Tensor, Tensor]:
    """The linear model on the frozen features of some samples, as a linear layer."""
    model.eval()
    with torch.inference_mode():
        parts = [
            encode(model, data.read(rows[i : i + 256]), data.bands, data.scaling).double().numpy()
            for i in range(0, len(rows), 256)
        ]
    features = np.concatenate(parts)
    mean, spread = features.mean(0), np.maximum(features.std(0), 1e-6)
    x = (features - mean) / spread
    if task == "regression":
        weights, intercepts = _ridge(x, targets, c)
    else:
        found = logistic.fit(x, targets, [c], classes=len(data.classes))
        # a class without training samples has an intercept of -inf, which no optimiser can move
        weights, intercepts = found.weights[0], found.intercepts[0].clamp_min(-30.0)
    weight = weights / torch.from_numpy(spread)
    bias = intercepts - weight @ torch.from_numpy(mean)
    return weight.float(), bias.float()


def _ridge(x: np.ndarray, targets: np.ndarray, c: float) -> tuple[Tensor, Tensor]:
    """Minimise c * squared errors + ||w||^2 of each target over its known samples."""
    weights, intercepts = [], []
    for y in targets.T:
        known = np.isfinite(y)
        centre, level = x[known].mean(0), y[known].mean()
        a = x[known] - centre
        w = np.linalg.solve(a.T @ a + np.eye(x.shape[1]) / c, a.T @ (y[known] - level))
        weights.append(w)
        intercepts.append(level - centre @ w)
    return torch.from_numpy(np.stack(weights)), torch.from_numpy(np.array(intercepts))


def _loss(scores: Tensor, targets: np.ndarray, task: str) -> Tensor:
    y = torch.from_numpy(targets)
    if task == "class":
        return nn.functional.cross_entropy(scores, y.long())
    if task == "multilabel":
        return nn.functional.binary_cross_entropy_with_logits(scores, y.to(scores.dtype))
    known = torch.isfinite(y)
    error = torch.where(known, scores - torch.nan_to_num(y).to(scores.dtype), 0.0)
    return error.square().sum() / known.sum().clamp(min=1)
