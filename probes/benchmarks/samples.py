"""The samples of any dataset of ours as whole images: those of the commonest shape."""

from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import shards
from fm.errors import FMError
from probes.benchmarks.base import Data, Inputs
from shards.building.copies import valid_elements

LEFT_OUT = "left out"
"""The split of samples that a benchmark reads and does not use."""


def open_samples(
    ds: "shards.Dataset", folder: Path, known: NDArray[np.bool_], what: str, task: str
) -> tuple[Data, NDArray[np.int64]]:
    """Take the samples of which something is known, all with the same arrays.

    Args:
        ds: the dataset.
        folder: where it lies.
        known: [len(ds)], not all False.
        what: that is known of them, in words, such as `a place`.
        task: that takes them, for the refusal of series.

    Returns:
        the samples, in the split `LEFT_OUT` and without targets; and the number of each in `ds`.

    Raises:
        FMError: no modality that all of them have as single images.
    """
    shapes = {m: ds.index.column(f"{m}.shape").to_pylist() for m in ds.info.modalities}
    shared = [m for m, own in shapes.items() if all(own[i] for i in np.flatnonzero(known))]
    if not shared:
        raise FMError(f"{folder}: no modality is in all samples with {what}; filter the dataset")
    forms = [tuple(tuple(shapes[m][i] or ()) for m in shared) for i in range(len(ds))]
    (form, _), *others = Counter(f for f, ok in zip(forms, known, strict=True) if ok).most_common()
    if any(len(shape) != 3 for shape in form):
        raise FMError(f"{folder}: its samples are series; {task} takes single images")
    rows = np.array([i for i in range(len(ds)) if known[i] and forms[i] == form])
    notes = []
    if not known.all():
        notes.append(f"{int((~known).sum())} samples without {what} are left out")
    if others:
        notes.append(f"{sum(n for _, n in others)} samples of another shape are left out")
    lonlat, keys = ds.lonlat[rows], np.array(ds.keys)[rows]
    infos = {m: ds.info.modalities[m] for m in shared}

    def read(index: NDArray[np.int64]) -> Inputs:
        found = [ds.read(int(rows[n]), shared) for n in index.tolist()]
        return _valid(
            {m: np.stack([one[m] for one in found]) for m in shared},
            {m: infos[m].nodata for m in shared},
        )

    data = Data(
        read=read,
        targets=np.zeros(len(rows), np.int64),
        split=np.full(len(rows), LEFT_OUT),
        unit=np.arange(len(rows)),
        shards=keys,
        classes=(),
        bands={m: tuple(info.bands) for m, info in infos.items()},
        scaling={m: info.scaling for m, info in infos.items()},
        dataset=ds.info.name,
        manifest_hash=ds.manifest_hash,
        folder=folder,
        notes=tuple(notes),
        lonlat=lambda index: lonlat[index],
    )
    return data, rows


def _valid(pixels: dict[str, np.ndarray], nodata: dict[str, tuple | None]) -> Inputs:
    valid: dict[str, NDArray[np.bool_]] = {}
    for m, x in pixels.items():
        held = valid_elements(x, nodata[m])
        whole = np.ones(x.shape, bool) if held is None else held
        valid[m] = np.asarray(np.all(whole, axis=1), bool)
    return Inputs.known(pixels, valid)
