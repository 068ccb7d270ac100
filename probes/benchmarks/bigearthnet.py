"""BigEarthNet v2 (reBEN, Clasen et al., arXiv 2407.03653) pairs: 19 land-cover labels.

The small set that a pip package carries: enough to check the path with real files, far too small
for a stable score. The result says so.
"""

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import shards
from fm.errors import FMError
from probes.benchmarks.base import Benchmark, Data, Inputs

S2 = ("s2l2a_10", "s2l2a_20", "s2l2a_60")
S1 = ("s1grd_10",)
SPLITS = ("train", "val", "test")
SOURCE = "fm shards build bigearthnet --out FOLDER"
LABEL = "land_cover"
"""Of these samples, where `fm shards label` has added others."""


def load(folder: Path, modalities: tuple[str, ...]) -> Data:
    """Open the pairs with the given modalities; samples outside the three splits are left out."""
    ds = shards.open(folder)
    labels = [label for label in ds.info.labels.values() if label.kind == "multilabel"]
    labels = [label for label in labels if label.name == LABEL] or labels
    missing = [m for m in modalities if m not in ds.info.modalities]
    if missing or len(labels) != 1:
        what = f"no {', '.join(missing)}" if missing else "no multilabel column"
        raise FMError(f"{folder}: not the BigEarthNet dataset ({what}); make it with `{SOURCE}`")
    label = labels[0]
    columns = ds.index.select(["key", "split", label.name]).to_pydict()
    shapes = [ds.index.column(f"{m}.shape").to_pylist() for m in modalities]
    rows = [
        i
        for i, split in enumerate(columns["split"])
        if split in SPLITS
        and columns[label.name][i] is not None
        and all(column[i] is not None for column in shapes)
    ]
    split = np.array([columns["split"][i] for i in rows], dtype=str)
    absent = [name for name in SPLITS if name not in split]
    if absent:
        raise FMError(f"{folder}: no sample in {', '.join(absent)}; make it with `{SOURCE}`")
    truth = np.zeros((len(rows), len(label.classes)), bool)
    for n, i in enumerate(rows):
        truth[n, columns[label.name][i]] = True
    arrays: dict[int, dict[str, np.ndarray]] = {}

    def read(index: NDArray[np.int64]) -> Inputs:
        for n in index.tolist():
            if n not in arrays and len(arrays) < 256:
                arrays[n] = ds.read(rows[n], list(modalities))
        found = [arrays[n] if n in arrays else ds.read(rows[n], list(modalities)) for n in index]
        return Inputs.of({m: np.stack([one[m] for one in found]) for m in modalities})

    tests = int((split == "test").sum())
    nowhere = [label.classes[k] for k in np.flatnonzero(~truth[split == "test"].any(0))]
    untrained = [label.classes[k] for k in np.flatnonzero(~truth[split == "train"].any(0))]
    notes = [f"without a positive test image, not in macro mAP: {', '.join(nowhere) or 'none'}"]
    if untrained:
        notes.append(f"without a positive training image: {', '.join(untrained)}")
    if tests < 100:
        notes.insert(0, f"only {tests} test images: too small for a stable score, a smoke test")
    infos = {m: ds.info.modalities[m] for m in modalities}
    return Data(
        read=read,
        targets=truth,
        split=split,
        unit=np.arange(len(rows)),
        shards=np.array([columns["key"][i] for i in rows]),
        classes=label.classes,
        bands={m: tuple(info.bands) for m, info in infos.items()},
        scaling={m: info.scaling for m, info in infos.items()},
        dataset=ds.info.name,
        manifest_hash=ds.manifest_hash,
        folder=folder,
        notes=tuple(notes),
    )


def _benchmark(name: str, help: str, modalities: tuple[str, ...]) -> Benchmark:
    return Benchmark(
        name=name,
        version=1,
        help=help,
        source=SOURCE,
        task="multilabel",
        primary="map",
        unit="image",
        split="the official train, val and test; in the packaged subset all of one tile",
        verified="samples of the real files (configilm 0.7.1)",
        load=partial(load, modalities=modalities),
    )


def _retrieval(name: str, help: str, query: tuple[str, ...], gallery: tuple[str, ...]) -> Benchmark:
    across = query != gallery
    return Benchmark(
        name=name,
        version=1,
        help=help,
        source=SOURCE,
        task="retrieval",
        primary="ndcg@10",
        unit="image",
        split="queries are the official test split, the gallery is train and val together",
        verified="samples of the real files (configilm 0.7.1)",
        load=partial(load, modalities=(*query, *gallery) if across else query),
        protocols=("retrieval-across",) if across else None,
        why_only="pixels of two sensors cannot be compared, so it has no floors on pixels"
        if across
        else "",
        query=query,
        gallery=gallery,
    )


BENCHMARKS = (
    _benchmark("bigearthnet-s1s2", "19 labels, Sentinel-1 and Sentinel-2 L2A pairs", (*S2, *S1)),
    _benchmark("bigearthnet-s2", "19 labels, Sentinel-2 L2A", S2),
    _benchmark("bigearthnet-s1", "19 labels, Sentinel-1", S1),
    _retrieval("bigearthnet-retrieval", "Sentinel-2 by Sentinel-2, graded by labels", S2, S2),
    _retrieval("bigearthnet-retrieval-s1", "Sentinel-1 by Sentinel-1, graded by labels", S1, S1),
    _retrieval("bigearthnet-retrieval-s1-s2", "Sentinel-2 by a query of Sentinel-1", S1, S2),
    _retrieval("bigearthnet-retrieval-s2-s1", "Sentinel-1 by a query of Sentinel-2", S2, S1),
)
