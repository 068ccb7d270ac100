"""Studies on Landsat tiles with the shares of their land cover: variants at equal samples.

Each training block of the scene is cut into tiles of 16 pixels, labelled with the shares of their
seven classes. Validation and test blocks give nothing to pretraining, neither pixels nor labels.
Probes, label lists, floors and intervals are those of `learns`; the random backbone has the same
front end.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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

SOURCE = "nc-landcover"
TILE = 16
TILES_LABELLED = "tiles-labelled"
"""Folder of the tiles in the folder of a study."""
PER_CLASS = (20, None)


@dataclass(frozen=True)
class Variant:
    """What is pretrained.

    Attributes:
        recipe: its name.
        words: what is changed in it.
        start: the row whose weights of the same seed it begins with; that row comes before.
    """

    recipe: str
    words: tuple[str, ...] = ()
    start: str | None = None


def judged(
    work: Path,
    cache: Path,
    variants: Mapping[str, Variant],
    *,
    split: str,
    seeds: Sequence[int],
    chosen: str,
    against: str | None = None,
) -> dict[str, Any]:
    """Pretrain, probe and score; runs that are in `work` are not run again.

    Args:
        work: folder for datasets and runs.
        cache: of downloaded packages.
        variants: by the name of their row.
        split: `val` while settings are chosen, `test` once they are frozen.
        seeds: of pretraining, and of the random backbones.
        chosen: the variant whose front end the random backbones have.
        against: see `learns.compared`; None calls the chosen row `pretrained` and compares it with
            all others.

    Returns:
        `runs` and `tables`.
    """
    scene = dataset(SOURCE, work / SOURCE, cache)
    tiles = tiles_labelled(scene, work)
    data = get_benchmark(SOURCE).load(scene)
    features: dict[str, list[np.ndarray]] = {}
    runs = []
    for name, variant in variants.items():
        for seed in seeds:
            # tiles are taken whole
            words = [f"data.path={tiles}", "data.crop=null", f"seed={seed}"]
            words += [*learns.QUIET, *variant.words]
            if variant.start is not None:
                words.append(f"init_from={folder_of(work, variant.start, seed) / 'export'}")
            export, told = pretrained(variant.recipe, words, folder_of(work, name, seed))
            runs.append({"row": name, "seed": seed, "loss": [told["loss_start"], told["loss_end"]]})
            row = "pretrained" if name == chosen and against is None else name
            features.setdefault(row, []).append(_read(fm.load(export), data))
            if name == chosen:
                model = fm.load(export, weights="random", seed=seed)
                features.setdefault("random", []).append(_read(model, data))
    features |= learns.floors(data, fm.load(folder_of(work, chosen, seeds[0]) / "export"))
    tables = [
        {
            "benchmark": SOURCE,
            "per_class": n,
            **learns.scored(data, features, split, n, against=against),
        }
        for n in PER_CLASS
    ]
    return {"runs": runs, "tables": tables}


def folder_of(work: Path, name: str, seed: int) -> Path:
    """Return the folder of a run."""
    return work / f"{name.replace(' ', '-')}-{seed}"


def _read(model: Any, data: Any) -> np.ndarray:
    return extract(model, data, benchmark=SOURCE, words=learns.READOUT)


def tiles_labelled(scene: Path, work: Path) -> Path:
    """Cut training blocks into tiles with the shares of their classes; return the dataset.

    Args:
        scene: the dataset nc-landcover.
        work: folder for the tiles, which are used again when they are there.
    """
    found = work / TILES_LABELLED
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
