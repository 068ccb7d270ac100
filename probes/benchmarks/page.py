"""The page `docs/benchmarks.md`, made from the declarations.

python -m probes.benchmarks.page > docs/benchmarks.md
"""

from probes.benchmarks import DECLARATIONS
from probes.benchmarks.declare import Array, Declaration
from probes.benchmarks.left_out import LEFT_OUT

HEAD = """# Benchmarks read from their published folders

```sh
fm probe --list
fm probe runs/mae/export --benchmark eurosat-spatial --protocol linear,knn --data EuroSAT
```

Made by `python -m probes.benchmarks.page`; a test compares. Each row is a declaration in
`probes/benchmarks/`, and everything in it is asserted when a folder is opened: the lists are there
and have the published number of samples, none twice; files are there, of the stated type and size;
classes are known. Of up to 24 samples the pixels are read and must look like their bands and unit:
B8A beside B08, B10 nearly black, reflectance neither scaled nor left in stored numbers, decibels
below zero. What does not hold is one line and an exit, never a score.

**Verified** says on what the reader itself was checked. *fixtures only*: files that a test writes
in the published layout, which the class of torchgeo 0.8.1 named beside it opens with the same
samples, bands, numbers and labels. Where torchgeo has no class (*none*) the words say what else
opened them. Real files may still differ in what neither knows; the result says so.

**Grids.** A modality is one array on one grid. Bands that the authors brought to one grid stay on
it: the 13 bands of EuroSAT, OSCD, SEN12MS and the 10 of So2Sat are `s2l1c_10`. BigEarthNet's stay
on their own 10, 20 and 60 m. Bands are given in the order of the sensor's table whatever the files'
order; models take them by name. `Data.gsd_m` tells the metres a pixel of pictures.

**Splits** are lists of names: the published ones, or dealt out here by a rule that stands in the
result's notes. The result holds the SHA-256 of each list (`benchmark.split_lists`).

**Windows.** Large images are cut into windows without overlap; filled edges do not count, so every
labelled pixel counts once, in one confusion matrix over all images.

**Series.** A sample of `pastis` and `biomassters-mean` is a series of dated images and takes the
`timeseries` protocols alone. Images are in the order of time; when each was taken is part of the
manifest hash. A date without a file is no date, an image without a valid pixel neither.

| name | task, metric | arrays | classes | train / val / test | verified; torchgeo's class |
| --- | --- | --- | --- | --- | --- |
"""

BETWEEN = """
## Folders, splits and what leaks

"""

AFTER = """
## Left out

"""


def page() -> str:
    """The whole page."""
    rows = [_row(one) for one in DECLARATIONS]
    about = [_about(one) for one in DECLARATIONS]
    absent = [f"- **{what}**: {why}." for what, why in LEFT_OUT]
    parts = (HEAD, "\n".join(rows), "\n", BETWEEN, "\n".join(about), "\n", AFTER)
    return "".join(parts) + "\n".join(absent) + "\n"


def _row(one: Declaration) -> str:
    counts = " / ".join(
        f"{one.published[part]:,}" if part in one.published else "–"
        for part in ("train", "val", "test")
    )
    cells = (
        f"`{one.full_name}`",
        f"{one.task}, {one.primary}",
        ("series of " if one.series else "") + "; ".join(map(_array, one.arrays)),
        str(len(one.classes)),
        counts,
        f"{one.verified}; {f'`{one.witness}`' if one.witness else 'none'}",
    )
    return f"| {' | '.join(cells)} |"


def _array(array: Array) -> str:
    size = "any size" if array.size is None else f"{array.size[0]} px"
    return f"`{array.modality}` {len(array.bands)} x {array.dtype}, {size}, {array.gsd_m:g} m"


def _about(one: Declaration) -> str:
    sentences = [f"Opens `{one.layout}`.", f"Split: {one.split}."]
    if one.holdout is not None:
        shares = ", ".join(f"{part} {share:g}" for part, share in one.holdout.parts.items())
        sentences.append(
            f"Made here from {one.holdout.of}: {shares} by {one.holdout.by}, "
            f"seed {one.holdout.seed}."
        )
    if one.leaks:
        sentences.append(f"{one.leaks[0].upper()}{one.leaks[1:]}.")
    if one.crop is not None:
        sentences.append(f"Windows of {one.crop} px.")
    return f"- **{one.name}**: {one.help}. {' '.join(sentences)} {one.paper}."


if __name__ == "__main__":
    print(page(), end="")
