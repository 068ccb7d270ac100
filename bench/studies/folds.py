"""Indian Pines again, with more test blocks: is the win over pixels outside its interval?

The study `learns` tests on few blocks, so its intervals are wide. Here the same frozen recipe,
readout, floors and grid of C are run on four folds (`fm shards build indian-pines --fold`): fold 0
is that study's, the others test thirds of its training blocks and train on the rest. Validation
blocks, on which the settings were chosen, are the same everywhere and never tested. Each fold
pretrains from nothing on its own training blocks, three seeds; a run's answers are those of its
four models, each on its fold's test blocks, and the bootstrap draws from the blocks of all folds.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import fm
from bench.studies import learns
from bench.studies.scoring import dataset, pretrained
from fm.errors import UsageError
from probes.benchmarks import get_benchmark
from probes.features.extraction import extract
from probes.statistics.answers import ClassAnswers
from shards.sources.indian_pines import FOLDS

METHODS = {"indian-pines": learns.METHODS["indian-pines"]}


def run(
    work: Path, cache: Path, *, split: str, seeds: Sequence[int], methods: Sequence[str]
) -> Any:
    """Pretrain, probe and score every fold; runs that are in `work` are not run again.

    Args:
        work: folder for datasets and runs.
        cache: of downloaded packages.
        split: `test`.
        seeds: of pretraining, and of the random backbones.
        methods: names of `METHODS`.
    """
    if split != "test":
        raise UsageError("study folds: all folds share their val blocks; give --split test")
    tables = []
    for name in methods:
        recipe = METHODS[name].recipe
        parts: dict[str, list[list[ClassAnswers]]] = {}
        fits: dict[str, list[dict[str, Any]]] = {}
        for fold in range(FOLDS):
            folder = dataset(name, work / f"{name}-{fold}", cache, [f"--fold={fold}"])
            data = get_benchmark(name).load(folder)
            features: dict[str, list[np.ndarray]] = {"pretrained": [], "random": []}
            for seed in seeds:
                words = [f"data.path={folder}", f"seed={seed}", *learns.QUIET]
                export, _ = pretrained(recipe, words, work / f"{name}-{fold}-{seed}")
                for kind in ("pretrained", "random"):
                    model = fm.load(export, weights=kind, seed=seed)
                    made = extract(model, data, benchmark=name, words=learns.READOUT)
                    features[kind].append(made)
            features |= learns.floors(data, fm.load(work / f"{name}-{fold}-{seeds[0]}" / "export"))
            answers, chosen = learns.answered(data, features, split, None)
            for row, given in answers.items():
                parts.setdefault(row, []).append(given)
                fits.setdefault(row, []).extend(chosen[row])
        joined = {
            row: [
                ClassAnswers(np.concatenate([answer.sums for answer in folds]))
                for folds in zip(*given, strict=True)
            ]
            for row, given in parts.items()
        }
        units = next(iter(joined.values()))[0].units
        tables.append(
            {
                "benchmark": f"{name}, {FOLDS} folds, {units} test blocks",
                "per_class": None,
                "rows": learns.compared(joined, fits),
            }
        )
    return {"split": split, "tables": tables}
