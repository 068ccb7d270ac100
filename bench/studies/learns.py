"""Does pretraining without labels beat a random backbone and raw pixels?

Two scenes with whole blocks in train, val and test. Pretraining sees training blocks only, three
seeds. Features are the token in the middle of a window beside the mean of all; the random backbone
has the same front end (a spectral basis fitted to training pixels) and the same readout. Floors
are logistic regressions on the middle pixel and on mean and deviation of the window, raw and
whitened by the same basis. One grid of C for all, chosen on val by overall accuracy. Where labels
are few, three lists drawn by a seed, the same for every row. Differences come with paired
bootstrap intervals over blocks, of the mean over pretraining seeds and lists.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import fm
from bench.studies.scoring import Probe, dataset, pretrained, with_interval
from probes.benchmarks import Data, Inputs, get_benchmark
from probes.families.labels import subset
from probes.features.extraction import extract
from probes.features.floors import centre_pixel, image_statistics
from probes.statistics.answers import ClassAnswers

GRID = tuple(float(c) for c in np.geomspace(1e-6, 1e6, 13))
READOUT = ("centre", "mean")
LISTS = (0, 1, 2)
QUIET = ("checkpoint.every=10000", "monitor.pictures=0", "monitor.every=20")


@dataclass(frozen=True)
class Task:
    """One benchmark.

    Attributes:
        source: of its dataset.
        recipe: of pretraining.
        per_class: labels a class, None for all of them.
    """

    source: str
    recipe: str
    per_class: tuple[int | None, ...]


METHODS: dict[str, Task] = {
    "indian-pines": Task("indian-pines", "mae_indian_pines_tiny", (None, 50)),
    "nc-landcover": Task("nc-landcover", "mae_nc_landcover_tiny", (20, None)),
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
    tables = []
    for name in methods:
        task = METHODS[name]
        folder = dataset(task.source, work / task.source, cache)
        data = get_benchmark(name).load(folder)
        features: dict[str, list[np.ndarray]] = {"pretrained": [], "random": []}
        runs = []
        for seed in seeds:
            words = [f"data.path={folder}", f"seed={seed}", *QUIET]
            export, told = pretrained(task.recipe, words, work / f"{name}-{seed}")
            runs.append({"seed": seed, "loss": [told["loss_start"], told["loss_end"]]})
            for kind in ("pretrained", "random"):
                model = fm.load(export, weights=kind, seed=seed)
                features[kind].append(extract(model, data, benchmark=name, words=READOUT))
        features |= floors(data, fm.load(work / f"{name}-{seeds[0]}" / "export"))
        for per_class in task.per_class:
            found = scored(data, features, split, per_class)
            tables.append({"benchmark": name, "per_class": per_class, **found, "runs": runs})
    return {"split": split, "tables": tables}


def floors(data: Data, model: Any) -> dict[str, list[np.ndarray]]:
    """Return features that look at pixels alone, by name; whitened by a model's fitted basis."""
    ((member, basis),) = model.bases()
    shift = np.array(basis.normalisation.shift)
    scale = np.array(basis.normalisation.scale)
    matrix = basis.matrix.double().numpy()
    (scaling,) = data.scaling.values()
    found: dict[str, list[np.ndarray]] = {}
    total = len(data.targets)
    for start in range(0, total, 512):
        given = data.read(np.arange(start, min(start + 512, total)))
        pixels, valid = given.pixels[member.modality], (given.valid or {})[member.modality]
        physical = pixels.astype(np.float64) * scaling[0] + scaling[1]
        z = (physical - shift[:, None, None]) / scale[:, None, None]
        white = np.einsum("kc,bchw->bkhw", matrix, z)
        for kind, values in (("raw", physical), ("white", white)):
            side = values.shape[-1]
            for size in dict.fromkeys((side, min(side, 9))):
                cut = (side - size) // 2
                box = (slice(None), slice(None), slice(cut, side - cut), slice(cut, side - cut))
                window = Inputs(
                    {member.modality: values[box]},
                    {member.modality: valid[:, cut : side - cut, cut : side - cut]},
                )
                made = image_statistics(window, {member.modality: (1.0, 0.0)})
                found.setdefault(f"{kind} mean+std {size}", []).append(made)
                found.setdefault(f"{kind} mean {size}", []).append(made[:, : made.shape[1] // 2])
            middle = centre_pixel(Inputs({member.modality: values}), {member.modality: (1.0, 0.0)})
            found.setdefault(f"{kind} pixel", []).append(middle)
    return {name: [np.concatenate(parts)] for name, parts in found.items()}


def scored(
    data: Data,
    features: Mapping[str, Sequence[np.ndarray]],
    split: str,
    per_class: int | None,
    *,
    against: str | None = None,
) -> dict[str, Any]:
    """Fit and score every row; differences as in `compared`."""
    answers, chosen = answered(data, features, split, per_class)
    return {"rows": compared(answers, chosen, against=against)}


def answered(
    data: Data, features: Mapping[str, Sequence[np.ndarray]], split: str, per_class: int | None
) -> tuple[dict[str, list[ClassAnswers]], dict[str, list[dict[str, Any]]]]:
    """Fit every row, C chosen on val; return its answers of each run, and what was chosen."""
    answers: dict[str, list[ClassAnswers]] = {}
    fits: dict[str, list[dict[str, Any]]] = {}
    for name, several in features.items():
        for values in several:
            for seed in LISTS if per_class is not None else (0,):
                train = subset(data, data.of("train"), per_class, seed)
                probe = Probe.of(
                    values,
                    data.targets,
                    train,
                    data.of("val"),
                    classes=len(data.classes),
                    grid=GRID,
                )
                asked = data.of(split)
                answers.setdefault(name, []).append(
                    ClassAnswers.of(
                        data.targets[asked],
                        probe.predict(values[asked]),
                        data.unit[asked],
                        len(data.classes),
                    )
                )
                fits.setdefault(name, []).append({"c": probe.c, "on_edge": probe.on_edge})
    return answers, fits


def compared(
    answers: Mapping[str, Sequence[ClassAnswers]],
    fits: Mapping[str, Sequence[dict[str, Any]]],
    *,
    against: str | None = None,
) -> list[dict[str, Any]]:
    """Return scores and differences, with intervals.

    Args:
        answers: row to what each of its runs says.
        fits: row to what was chosen.
        against: the row that is taken off all others; None takes all others off `pretrained`.
    """
    rows: list[dict[str, Any]] = [{"row": name, "fits": list(fits[name])} for name in answers]
    for row in rows:
        name = str(row["row"])
        first, second = ("pretrained", name) if against is None else (name, against)
        said = "pretrained - row" if against is None else f"row - {against}"
        for metric in ("oa", "aa"):  # a rare class leaves some resamples without AA: see `lost`
            both = {"p": answers[first], "r": answers[second]}
            own = "r" if against is None else "p"
            row[metric] = with_interval(lambda s, own=own: s[own], both, metric=metric)
            if first != second:
                row[f"{said}, {metric}"] = with_interval(
                    lambda s: s["p"] - s["r"], both, metric=metric
                )
    return rows
