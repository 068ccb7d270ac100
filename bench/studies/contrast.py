"""Do MoCo and DINO learn from tiles without labels?

The tiles, the front end, the probe and the floors are those of the study `softcon`
(`bench/studies/tiles.py`), and every row has seen as many tiles unless it says its steps. Settings
were tried one at a time on validation blocks. Two rows ask what there was to learn: one is told
what covers each tile, one begins with the weights of the masked autoencoder.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fm
from bench.studies.pairs import found_again
from bench.studies.tiles import TILES_LABELLED, Variant, folder_of, judged
from pretrain.augment import ViewConfig

DINO, MOCO = "dino_nc_landcover_tiny", "softcon_nc_landcover_tiny"
CHOSEN = "dino"
PAIR = ViewConfig(size=15, scale=(0.3, 1.0), flips="square")
"""How both views are made by which all rows are asked to find a tile again: MoCo's."""
_INSTANCE = ("objective.soft_weight=0", "objective.mask_ratio=0")
"""SoftCon's recipe without labels and masks is MoCo-v3 on the same tiles."""
_TILES = ("data.where=split == 'train'", "data.crop=15", "data.batch_size=64")
_LONG = "schedule={steps: 500, warmup: 50}"
_SHORT = "schedule={steps: 200, warmup: 20}"
_LIGHT = "{brightness: 0.4, contrast: 0.4}"
"""As SSL4EO-S12 does to reflectance; uncalibrated numbers, as here, change only if told."""
_STORED = "{size: 9, resize: false, flips: square}"
"""Views that show pixels as they are, as the probe does."""
_SMALL = "{size: 6, resize: false, flips: square}"
_SHARES = (
    *_TILES,
    _SHORT,
    "data.random_crop=true",
    "model.token_m=85.5",
    "model.options={width: 96, basis: {l7gls: {floor: 0.03}}}",
    "objective.beside=null",
)


def _moco(*words: str, start: str | None = None) -> Variant:
    return Variant(MOCO, (*_INSTANCE, *words), start)


METHODS: dict[str, Variant] = {
    "dino": Variant(DINO),
    "moco-v3": _moco(),
    "mae": Variant("mae_nc_landcover_tiny", (*_TILES, _SHORT)),
    # what a tile's labels themselves would teach: no row of a contrast reads them
    "shares of the tile": Variant("landcover_tiny", _SHARES),
    "moco-v3 light": _moco(f"objective.view.other={_LIGHT}"),
    "moco-v3 pixels as stored": _moco(f"objective.view={_STORED}"),
    "moco-v3 small scenes": _moco(
        "data.crop=9", "data.random_crop=true", f"objective.view={_SMALL}"
    ),
    "moco-v3 crops apart": _moco("objective.view.scale=[0.1, 0.4]"),
    "moco-v3 crops apart, 500 steps": _moco("objective.view.scale=[0.1, 0.4]", _LONG),
    "moco-v3 temperature .07": _moco("objective.temperature=0.07"),
    "moco-v3 rate 3e-3": _moco("optimizer.lr=3e-3"),
    "moco-v3 from mae": _moco(start="mae"),
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
    "dino pixels as stored": Variant(
        DINO, (f"objective.view={_STORED}", f"objective.local_view={_SMALL}")
    ),
    "dino momentum .996": Variant(DINO, ("objective.momentum={start: 0.996, end: 1.0}",)),
    "dino teacher .07": Variant(DINO, ("objective.teacher_temperature=0.07",)),
    "dino sinkhorn": Variant(DINO, ("objective.centring=sinkhorn",)),
    "dino rate 3e-4": Variant(DINO, ("optimizer.lr=3e-4",)),
    "dino from mae": Variant(DINO, start="mae"),
    "dino 500 steps": Variant(DINO, (_LONG,)),
    "moco-v3 500 steps": _moco(_LONG),
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
    pairs = []
    for name in ("random", *variants):
        for seed in seeds:
            kind = "random" if name == "random" else "pretrained"
            row = CHOSEN if name == "random" else name
            model = fm.load(folder_of(work, row, seed) / "export", weights=kind, seed=seed)
            told = found_again(model, work / TILES_LABELLED, PAIR)
            pairs.append({"row": name, "seed": seed, **told})
    return {"split": split, "difference": "row - random", **found, "pairs": pairs}
