"""Do MoCo and DINO learn from tiles without labels?

The tiles, the front end, the probe and the floors are those of the study `softcon`
(`bench/studies/tiles.py`), and every row has seen as many tiles. Settings of DINO were tried one at
a time on validation blocks.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.studies.tiles import Variant, judged

DINO, MOCO = "dino_nc_landcover_tiny", "softcon_nc_landcover_tiny"
CHOSEN = "dino"
_INSTANCE = ("objective.soft_weight=0", "objective.mask_ratio=0")
"""SoftCon's recipe without labels and masks is MoCo-v3 on the same tiles."""
_TILES = ("data.where=split == 'train'", "data.crop=15", "data.batch_size=64")
_LONG = "schedule={steps: 500, warmup: 50}"
_LIGHT = "{brightness: 0.4, contrast: 0.4}"
"""As SSL4EO-S12 does to reflectance; uncalibrated numbers, as here, change only if told."""
METHODS: dict[str, Variant] = {
    "dino": Variant(DINO),
    "moco-v3": Variant(MOCO, _INSTANCE),
    "moco-v3 light": Variant(MOCO, (*_INSTANCE, f"objective.view.other={_LIGHT}")),
    "dino light": Variant(
        DINO, (f"objective.view.other={_LIGHT}", f"objective.local_view.other={_LIGHT}")
    ),
    "dino crops apart": Variant(
        DINO,
        (
            "objective.view={size: 15, scale: [0.2, 0.6], flips: square}",
            "objective.local_view={size: 9, scale: [0.05, 0.2], flips: square}",
        ),
    ),
    "dino momentum .9": Variant(DINO, ("objective.momentum={start: 0.9, end: 1.0}",)),
    "mae": Variant("mae_nc_landcover_tiny", (*_TILES, "schedule={steps: 200, warmup: 20}")),
    "dino 500 steps": Variant(DINO, (_LONG,)),
    "moco-v3 500 steps": Variant(MOCO, (*_INSTANCE, _LONG)),
    "mae 500 steps": Variant("mae_nc_landcover_tiny", (*_TILES, _LONG)),
}
"""Row to what is pretrained."""


def run(
    work: Path, cache: Path, *, split: str, seeds: Sequence[int], methods: Sequence[str]
) -> Any:
    """Pretrain, probe and score; runs that are in `work` are not run again.

    Args:
        work: folder for datasets and runs.
        cache: of downloaded packages.
        split: `val` while settings are chosen, `test` once they are frozen.
        seeds: of pretraining, and of the random backbones.
        methods: names of `METHODS`; `dino` must be among them.
    """
    variants = {name: METHODS[name] for name in methods}
    found = judged(work, cache, variants, split=split, seeds=seeds, chosen=CHOSEN, against="random")
    return {"split": split, "difference": "row - random", **found}
