"""The samples that a run is validated on: never trained on, never of the test split."""

import numpy as np

import shards
from fm.errors import UsageError
from pretrain.config import RunConfig
from pretrain.data import RunData

TEST = "test"
"""Name of the split that is for the end."""


def open_held_out(config: RunConfig, data: RunData) -> RunData:
    """Open the samples of `validation`.

    Args:
        config: of the run.
        data: that it is trained on.

    Raises:
        FMError: the dataset cannot be opened.
        UsageError: samples that are trained on, or are of the test split, or other bands.
    """
    settings = config.validation
    assert settings is not None
    own = config.data
    changed = {
        "path": settings.path or own.path,
        "where": settings.where,
        "split": settings.split,
        "random_crop": False,
        "statistics": "dataset",  # pixels are normalised by those of the run all the same
    }
    held = own.model_copy(update=changed)
    if settings.split is not None and settings.split[1] == TEST:
        raise UsageError(f"validation.split: {TEST} is for the end; validate on another part")
    ds = shards.open(str(held.path), where=held.where, split=held.split, cache=held.cache)
    _check_apart(ds, data)
    found = RunData(held, {"": ds})
    if found.layout.bands != data.layout.bands:
        raise UsageError(
            f"validation: {ds.place} has other bands or another grid than the data that is trained "
            f"on; read the same of both (data.modalities, data.bands)"
        )
    return found


def _check_apart(ds: shards.Dataset, data: RunData) -> None:
    splits = ds.index.column("split").to_pylist()
    if count := splits.count(TEST):
        raise UsageError(
            f"validation: {count} of its {len(ds)} samples are of the split {TEST}, which is for "
            f"the end; leave them out (validation.where)"
        )
    for trained in data.parts.values():
        if trained.manifest_hash != ds.manifest_hash:
            continue
        rows = [np.arange(x.columns.count) if x.rows is None else x.rows for x in (ds, trained)]
        both = np.isin(rows[0], rows[1])
        if both.any():
            key = ds.keys[int(both.argmax())]
            raise UsageError(
                f"validation: {int(both.sum())} of its {len(ds)} samples are trained on too, such "
                f"as {key}; leave them out of data (data.where or data.split)"
            )
