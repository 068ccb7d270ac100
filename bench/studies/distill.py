"""Is a small model better taught by a larger checkpoint than trained by itself?

Teachers are runs of `mae_nc_landcover_tiny`, one a seed. The student, of an eighth of the weights
and the same front end, is trained for as many steps on the same training blocks in two ways: by
its teacher (`distill_nc_landcover_tiny`) and as a masked autoencoder (`mae student`), each with
its own seed. Probes, label lists, floors and intervals are those of `learns`; the random backbone
is the student's. Equal are the steps and the samples, not the work: a distilled step also takes
the teacher's forward pass, and the teacher was trained before. In the table `pretrained` is the
distilled student.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import fm
from bench.studies import learns
from bench.studies.scoring import dataset, pretrained
from fm.errors import UsageError
from pretrain import load_config
from probes.benchmarks import get_benchmark
from probes.features.extraction import extract

SOURCE = "nc-landcover"
RECIPE, MAE = "distill_nc_landcover_tiny", "mae_nc_landcover_tiny"
CHOSEN = "distilled"
METHODS: dict[str, tuple[str, ...]] = {
    "distilled": (),
    "tokens alone": ("objective.pooled.weight=0",),
    "pooled alone": ("objective.tokens.weight=0",),
    "squared error": ("objective.tokens={smooth_l1: 0, squared: 1}",),
    "cosine and smooth L1": ("objective.tokens={smooth_l1: 0.1, cosine: 0.9, whiten: false}",),
    "relations too": ("objective.relations={distance: 1, angle: 2}",),
    "two layers": ("objective.head=mlp",),
}
"""Row to what it changes in the recipe."""
PER_CLASS = (20, None)


def run(
    work: Path, cache: Path, *, split: str, seeds: Sequence[int], methods: Sequence[str]
) -> Any:
    """Pretrain teachers and students, probe and score; runs that are in `work` are kept.

    Args:
        work: folder for datasets and runs.
        cache: of downloaded packages.
        split: `val` while settings are chosen, `test` once they are frozen.
        seeds: of pretraining, and of the random backbones.
        methods: names of `METHODS`; `distilled` must be among them.

    Raises:
        UsageError: it is not.
    """
    if CHOSEN not in methods:
        raise UsageError(f"study distill: --methods must have {CHOSEN}")
    scene = dataset(SOURCE, work / SOURCE, cache)
    data = get_benchmark(SOURCE).load(scene)
    options = load_config(RECIPE).model.options
    features: dict[str, list[np.ndarray]] = {}
    runs = []

    def add(row: str, model: Any) -> None:
        made = extract(model, data, benchmark=SOURCE, words=learns.READOUT)
        features.setdefault(row, []).append(made)

    def trained(row: str, seed: int, recipe: str, *more: str) -> Path:
        words = [f"data.path={scene}", f"seed={seed}", *learns.QUIET, *more]
        export, told = pretrained(recipe, words, work / f"{row.replace(' ', '-')}-{seed}")
        runs.append({"row": row, "seed": seed, "loss": [told["loss_start"], told["loss_end"]]})
        return export

    for seed in seeds:
        teacher = trained("teacher", seed, MAE)
        for name in methods:
            words = (f"objective.teacher.source={teacher}", *METHODS[name])
            student = trained(name, seed, RECIPE, *words)
            add("pretrained" if name == CHOSEN else name, fm.load(student))
            if name == CHOSEN:
                add("random", fm.load(student, weights="random", seed=seed))
        add("mae student", fm.load(trained("mae student", seed, MAE, f"model.options={options}")))
        add("teacher", fm.load(teacher))
    sizes = {name: _size(work / f"{name}-{seeds[0]}" / "export") for name in (CHOSEN, "teacher")}
    features |= learns.floors(data, fm.load(work / f"{CHOSEN}-{seeds[0]}" / "export"))
    tables = [
        {"benchmark": SOURCE, "per_class": n, **learns.scored(data, features, split, n)}
        for n in PER_CLASS
    ]
    return {"split": split, "recipe": RECIPE, "parameters": sizes, "runs": runs, "tables": tables}


def _size(export: Path) -> int:
    return sum(p.numel() for p in fm.load(export).parameters())
