"""Does the soft term of SoftCon help, and which of its unpublished settings?

Landsat with its land-cover raster: each training block is cut into tiles of 16 pixels, labelled
with the shares of their seven classes. Variants of the recipe `softcon_nc_landcover_tiny` see the
same tiles for the same number of steps, three seeds: the soft term against none (`instance`), and
one option at a time. Validation and test blocks give nothing to pretraining, neither pixels nor
labels. Probes, label lists, floors and intervals are those of `learns`; the random backbone has the
same front end. Only SoftCon sees labels in pretraining, those of the very blocks that the probe is
fitted on, so `all labels` gives nobody more than the others, and 20 labels a class do.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import fm
import shards
from bench.studies import learns
from bench.studies.scoring import dataset, pretrained
from probes.benchmarks import get_benchmark
from probes.features.extraction import extract
from shards.labelling.label import label
from shards.labelling.shares import Rule
from shards.sample import Sample

RECIPE, SOURCE = "softcon_nc_landcover_tiny", "nc-landcover"
TILE = 16
CHOSEN = "soft"
"""The row that others are compared with."""
_TENTH = "objective.soft_weight=0.1"
"""The first weight tried (what is recalled of the paper), beside which the others were."""
METHODS: dict[str, tuple[str, ...]] = {
    "soft": (),
    "instance": ("objective.soft_weight=0",),
    "weight 0.1": (_TENTH,),
    "weight 1": ("objective.soft_weight=1",),
    "soft temperature 1": (_TENTH, "objective.soft_temperature=1"),
    "row reduction": (_TENTH, "objective.soft_reduction=row"),
    "no mask": (_TENTH, "objective.mask_ratio=0"),
    "mask 0.75": (_TENTH, "objective.mask_ratio=0.75"),
    "any share": (_TENTH, "objective.label_threshold=0"),
}
"""Variant to what it changes."""
PER_CLASS = (20, None)


def run(
    work: Path, cache: Path, *, split: str, seeds: Sequence[int], methods: Sequence[str]
) -> Any:
    """Pretrain, probe and score; runs that are in `work` are not run again.

    Args:
        work: folder for datasets and runs.
        cache: of downloaded packages.
        split: `val` while settings are chosen, `test` once they are frozen.
        seeds: of pretraining, and of the random backbones.
        methods: names of `METHODS`; `soft` must be among them.
    """
    scene = dataset(SOURCE, work / SOURCE, cache)
    tiles = _tiles(scene, work)
    data = get_benchmark(SOURCE).load(scene)
    features: dict[str, list[np.ndarray]] = {}
    runs = []
    for name in methods:
        for seed in seeds:
            # tiles are taken whole
            words = [f"data.path={tiles}", "data.crop=null", f"seed={seed}"]
            words += [*learns.QUIET, *METHODS[name]]
            out = work / f"{name.replace(' ', '-')}-{seed}"
            export, told = pretrained(RECIPE, words, out)
            runs.append({"row": name, "seed": seed, "loss": [told["loss_start"], told["loss_end"]]})
            row = "pretrained" if name == CHOSEN else name
            features.setdefault(row, []).append(_read(fm.load(export), data))
            if name == CHOSEN:
                model = fm.load(export, weights="random", seed=seed)
                features.setdefault("random", []).append(_read(model, data))
    features |= learns.floors(data, fm.load(work / f"{CHOSEN}-{seeds[0]}" / "export"))
    tables = [
        {"benchmark": SOURCE, "per_class": n, **learns.scored(data, features, split, n)}
        for n in PER_CLASS
    ]
    return {"split": split, "recipe": RECIPE, "runs": runs, "tables": tables}


def _read(model: Any, data: Any) -> np.ndarray:
    return extract(model, data, benchmark=SOURCE, words=learns.READOUT)


def _tiles(scene: Path, work: Path) -> Path:
    """Cut training blocks into tiles with the shares of their classes; return the dataset."""
    found = work / "tiles-labelled"
    if (found / "dataset.json").is_file():
        return found
    ds = shards.open(str(scene), where="split == 'train' and height == 32 and width == 32")
    plain = work / "tiles"
    if not (plain / "dataset.json").is_file():
        shards.write_dataset(
            plain,
            (tile for i in range(len(ds)) for tile in _cut(ds[i])),
            name=f"{SOURCE}-tiles",
            modalities=ds.modalities,
            labels=ds.info.labels,
            provenance={"source": SOURCE, "manifest": ds.manifest_hash, "tiles": TILE},
            licence=ds.info.licence,
        )
    label(
        shards.open(str(plain)),
        ["mask:land_cover"],
        found,
        name="landcover",
        legend=None,
        rule=Rule("fractions", 0.0, 0.5),
    )
    return found


def _cut(block: Sample) -> list[Sample]:
    tiles = []
    for row in range(0, 32, TILE):
        for col in range(0, 32, TILE):
            arrays = {
                name: np.ascontiguousarray(x[..., row : row + TILE, col : col + TILE])
                for name, x in block.arrays.items()
            }
            (pixels,) = (x for x in arrays.values() if x.ndim == 3)
            if pixels.any():
                key = f"{block.key}_{row}_{col}"
                tiles.append(Sample(key, arrays, split="train", lonlat=block.lonlat))
    return tiles
