"""Datasets of satellite samples: written once as plain WebDataset tars, read fast and checked.

    ds = shards.open("path", where="month in (6, 7, 8)")
    for batch in ds.loader(batch_size=256, seed=0):
        batch.pixels["s2l1c_10"]

Names are loaded when they are first used, so `import shards` loads neither torch nor pyarrow.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shards.building.writer import Declared, write_dataset
    from shards.codecs.codec import webdataset_decode
    from shards.codecs.codec import webdataset_decode as decode
    from shards.dataset import Dataset, open
    from shards.format import DatasetInfo, LabelInfo, ModalityInfo, ShardInfo
    from shards.integrity.shard_check import Problem
    from shards.integrity.verify import Report, verify
    from shards.ordering.mixture import Mixture
    from shards.ordering.order import Order
    from shards.reading.batch import Batch
    from shards.reading.quarantine import Quarantine
    from shards.sample import Sample
    from shards.splits.splitfile import Split

_HOME = {
    "Batch": "reading.batch",
    "Dataset": "dataset",
    "DatasetInfo": "format",
    "Declared": "building.writer",
    "LabelInfo": "format",
    "ModalityInfo": "format",
    "Mixture": "ordering.mixture",
    "Order": "ordering.order",
    "Problem": "integrity.shard_check",
    "Quarantine": "reading.quarantine",
    "Report": "integrity.verify",
    "Sample": "sample",
    "ShardInfo": "format",
    "Split": "splits.splitfile",
    "open": "dataset",
    "verify": "integrity.verify",
    "webdataset_decode": "codecs.codec",
    "write_dataset": "building.writer",
}

__all__ = [
    "Batch",
    "Dataset",
    "DatasetInfo",
    "Declared",
    "LabelInfo",
    "Mixture",
    "ModalityInfo",
    "Order",
    "Problem",
    "Quarantine",
    "Report",
    "Sample",
    "ShardInfo",
    "Split",
    "decode",
    "open",
    "verify",
    "webdataset_decode",
    "write_dataset",
]


def __getattr__(name: str) -> Any:
    if name == "decode":
        return __getattr__("webdataset_decode")
    if name not in _HOME:
        raise AttributeError(f"module 'shards' has no attribute {name!r}")
    value = getattr(import_module(f"shards.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
