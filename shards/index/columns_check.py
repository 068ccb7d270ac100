"""What an `index.bin` may say: checked, because whoever wrote it could make its checksums fit."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from shards.format import DatasetInfo

UNKNOWN = np.iinfo(np.int64).min
"""A time or class that is not known."""
Limits = dict[str, tuple[int, tuple[int, ...]]]


def layout_of(info: DatasetInfo) -> tuple[dict[str, tuple[np.dtype, int]], dict[str, np.dtype]]:
    """Return the columns of fixed width (type and width), and those of lists (type)."""

    def of(text: str, width: int = 1) -> tuple[np.dtype, int]:
        return np.dtype(text), width

    fixed = {"shard": of("<u4"), "lon": of("<f8"), "lat": of("<f8"), "time": of("<i8")}
    fixed |= {"split": of("<u2")}
    lists: dict[str, np.dtype] = {"key": np.dtype("u1")}
    if info.format_version > 1:
        lists["times"] = np.dtype("<i8")
    for member in info.members:
        fixed |= {f"{member}.offset": of("<u8"), f"{member}.bytes": of("<u4")}
        fixed |= {f"{member}.xxh3": of("<u8"), f"{member}.shape": of("<u4")}
    for label in info.labels.values():
        images = label.images or 1
        if label.kind == "multilabel":
            fixed[label.name] = of("u1", images * (len(label.classes) // 8 + 1))
        elif label.kind == "fractions":
            fixed[label.name] = of("<f4", images * len(label.classes))
        elif label.kind == "text":
            lists[label.name] = np.dtype("u1")
        elif label.kind != "mask":
            fixed[label.name] = of("<i8" if label.kind == "class" else "<f8", images)
    return fixed, lists


def sensible(header: Mapping[str, Any], info: DatasetInfo, size: int, block: int) -> bool:
    """Say whether a header describes the columns that a dataset must have.

    Args:
        header: parsed JSON, of any shape.
        info: of the dataset.
        size: of the file in bytes.
        block: bytes that have one checksum.
    """
    try:
        return (
            _columns_fit(header, info, size, block)
            and header["members"] == list(info.members)
            and all(isinstance(split, str) for split in header["splits"])
            and all(1 <= len(s) <= 5 and _within(s, 1, 2**31) for s in header["shapes"])
            and (header["kinds"] is None or _kinds_fit(header, info))
        )
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return False


def _columns_fit(header: Mapping[str, Any], info: DatasetInfo, size: int, block: int) -> bool:
    fixed, lists = layout_of(info)
    count, columns = header["rows"], header["columns"]
    elsewhere = {f"{member}.shard" for member in info.members} & set(columns)
    wanted = {name: [kind.str, width, count] for name, (kind, width) in fixed.items()}
    wanted |= {name: ["<u4", 1, count] for name in elsewhere}
    wanted |= {f"{name}.end": ["<u8", 1, count] for name in lists}
    wanted |= {f"{n}.data": [kind.str, 1, columns[f"{n}.data"][2]] for n, kind in lists.items()}
    if {name: column[:3] for name, column in columns.items()} != wanted:
        return False
    for kind, *numbers in columns.values():
        width, rows, offset, hashes = numbers
        length = np.dtype(kind).itemsize * width * rows
        ends = offset + length, hashes + 8 * -(-length // block)
        if not _within(numbers, 0, 2**62) or max(ends) > size:
            return False
    return True


def _kinds_fit(header: Mapping[str, Any], info: DatasetInfo) -> bool:
    return all(
        len(kind) == len(info.members) + 2
        and _within(kind[:-2], 0, len(header["shapes"]) + 1)
        and _within(kind[-2:-1], 1, header["rows"] + 1)
        and _within(kind[-1:], 0, header["rows"])
        for kind in header["kinds"]
    )


def _within(values: list[Any], low: int, high: int) -> bool:
    return all(type(value) is int and low <= value < high for value in values)


def limits_of(header: Mapping[str, Any], info: DatasetInfo) -> Limits:
    """Return for columns of numbers how many there are, and what else may stand there."""
    limits: Limits = {"shard": (len(info.shards), ()), "split": (len(header["splits"]) + 1, ())}
    for member in info.members:
        limits[f"{member}.shard"] = limits["shard"]
        limits[f"{member}.shape"] = (len(header["shapes"]) + 1, ())
    for label in info.labels.values():
        if label.kind == "class":
            ignore = () if label.ignore is None else (label.ignore,)
            limits[label.name] = (len(label.classes), (UNKNOWN, *ignore))
    for name in header["columns"]:
        if name.endswith(".end"):
            limits[name] = (header["columns"][f"{name.removesuffix('.end')}.data"][2] + 1, ())
    return limits


def possible(values: np.ndarray, limit: tuple[int, tuple[int, ...]], rising: bool) -> bool:
    """Say whether numbers may be used as places in a table; `rising` for ends of lists."""
    inside = (values >= 0) & (values < limit[0])
    if limit[1]:
        inside |= np.isin(values, limit[1])
    return bool(inside.all()) and not (rising and bool((values[1:] < values[:-1]).any()))
