"""Does the soft term of SoftCon help, and which of its unpublished settings?

Variants of the recipe `softcon_nc_landcover_tiny` see the same tiles (`bench/studies/tiles.py`)
for the same number of steps, three seeds: the soft term against none (`instance`), and one option
at a time. Only SoftCon sees labels in pretraining, those of the very blocks that the probe is
fitted on, so `all labels` gives nobody more than the others, and 20 labels a class do.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.studies.tiles import Variant, judged

RECIPE = "softcon_nc_landcover_tiny"
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
    variants = {name: Variant(RECIPE, METHODS[name]) for name in methods}
    found = judged(work, cache, variants, split=split, seeds=seeds, chosen=CHOSEN)
    return {"split": split, "recipe": RECIPE, **found}
