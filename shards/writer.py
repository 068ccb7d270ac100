"""Writing a dataset: samples in, a folder of tars, index and description out, whole or not at all.

The same samples give the same bytes. See `shards.format` for what lies in the folder.
"""

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterable, Mapping, Sized
from pathlib import Path
from typing import Any

import numpy as np

from fm.console import progress
from fm.errors import FMError, UsageError, suggest
from fm.files import atomic_folder, sha256_file
from shards import index
from shards.codec import CorruptError, array_bytes, checksum, encode
from shards.declare import Declared, Known, resolve
from shards.format import (
    CODECS,
    DESCRIPTION,
    DTYPES,
    INDEX,
    DatasetInfo,
    LabelInfo,
    ModalityInfo,
    ShardInfo,
    check_codec,
    check_dataset_name,
    check_key,
    check_labels,
    write_info,
)
from shards.sample import Sample, check_mask, describe
from shards.tar import TarWriter

__all__ = ["Declared", "write_dataset"]


def write_dataset(
    out: str | os.PathLike[str],
    samples: Iterable[Sample],
    *,
    name: str,
    modalities: Mapping[str, Declared],
    labels: Mapping[str, LabelInfo] | None = None,
    provenance: Mapping[str, Any],
    licence: str,
    codec: str = "blosc-lz4",
    samples_per_shard: int = 256,
    total: int | None = None,
    overwrite: bool = False,
) -> DatasetInfo:
    """Write a dataset folder.

    Args:
        out: the new folder; it appears when everything is written.
        samples: read once, in order.
        name: of the dataset; shards are `NAME-000000.tar` and on.
        modalities: what the samples may hold.
        labels: what is known of the samples.
        provenance: where the data came from (JSON).
        licence: of the data.
        codec: `blosc-lz4`, `blosc-zstd` or `npy`, for every member.
        samples_per_shard: samples in each tar.
        total: number of samples, for the progress bar; the length of `samples` when it has one.
        overwrite: replace a dataset that is there.

    Returns:
        the description that was written.

    Raises:
        FMError: a sample contradicts the declaration, or there is none; nothing is left behind.
        UsageError: an unknown codec, sensor or band.
    """
    out, labels = Path(out), dict(labels or {})
    check_dataset_name(name)
    check_codec(codec)
    if samples_per_shard < 1:
        raise UsageError(f"samples_per_shard={samples_per_shard}: give at least 1")
    check_labels(labels, modalities)
    if overwrite and out.exists() and not (out / DESCRIPTION).is_file():
        raise FMError(f"{out} is there and is no dataset; remove it yourself or name another")
    size = total if total is not None else len(samples) if isinstance(samples, Sized) else 0
    writer = _Writer(name, resolve(modalities), labels, codec, samples_per_shard)
    with atomic_folder(out, overwrite=overwrite) as folder:
        with contextlib.closing(writer), progress("writing shards", size) as bar:
            for sample in samples:
                writer.add(folder, sample)
                bar.advance()
            info = writer.finish(folder, provenance, licence)
        write_info(folder, info)
    return info


class _Writer:
    def __init__(
        self,
        name: str,
        modalities: dict[str, Known],
        labels: dict[str, LabelInfo],
        codec: str,
        samples_per_shard: int,
    ) -> None:
        from fm.normalize import Statistics

        self._name, self._modalities, self._labels = name, modalities, labels
        self._codec, self._per_shard = codec, samples_per_shard
        self._masks = {label.member: label for label in labels.values() if label.member}
        self._members = (*modalities, *self._masks)
        self._statistics = {
            modality: Statistics(declared.bands) for modality, declared in modalities.items()
        }
        self._dtypes: dict[str, str] = {}
        self._keys: set[str] = set()
        self._rows: list[dict[str, Any]] = []
        self._shards: list[ShardInfo] = []
        self._tar: TarWriter | None = None
        self._in_tar = 0

    def add(self, folder: Path, sample: Sample) -> None:
        key = check_key(sample.key)
        if key in self._keys:
            raise FMError(f"sample key {key!r} comes twice; keys must be unique")
        self._keys.add(key)
        row, about = describe(sample, self._labels)
        files: list[tuple[str, bytes]] = []
        places: dict[str, int] = {}
        about["members"] = {}
        for member, array in self._arrays(sample):
            data = encode(array, self._codec)
            file = f"{key}.{member}.{CODECS[self._codec]}"
            places[member] = len(files)
            files.append((file, data))
            digest = checksum(data)
            row |= {f"{member}.bytes": len(data), f"{member}.xxh3": digest}
            row[f"{member}.shape"] = list(array.shape)
            about["members"][member] = {
                "file": file,
                "shape": list(array.shape),
                "dtype": array.dtype.name,
                "xxh3": f"{digest:016x}",
            }
            if member in self._modalities:
                self._update(member, array)
        files.append((f"{key}.json", json.dumps(about, allow_nan=False).encode()))
        if self._tar is None:
            self._tar = TarWriter(folder / self._shard_name())
            self._in_tar = 0
        offsets, start, size, digest = self._tar.add(files)
        row |= {f"{member}.offset": offsets[place] for member, place in places.items()}
        row |= {"sample.offset": start, "sample.bytes": size, "sample.xxh3": digest}
        row["shard"] = self._shard_name()
        self._rows.append(row)
        self._in_tar += 1
        if self._in_tar == self._per_shard:
            self._end_shard()

    def _arrays(self, sample: Sample) -> list[tuple[str, np.ndarray]]:
        unknown = set(sample.arrays) - set(self._members)
        if unknown:
            hint = suggest(min(unknown), self._members)
            raise FMError(f"sample {sample.key}: array {min(unknown)!r} was not declared; {hint}")
        if not any(member in self._modalities for member in sample.arrays):
            raise FMError(f"sample {sample.key}: it holds no modality; leave it out")
        result = []
        for member in self._members:
            if member not in sample.arrays:
                continue
            array = np.asarray(sample.arrays[member])
            where = f"sample {sample.key}: {member}"
            if array.dtype.name not in DTYPES:
                raise FMError(f"{where} is {array.dtype}; convert it to one of {', '.join(DTYPES)}")
            if self._dtypes.setdefault(member, array.dtype.name) != array.dtype.name:
                raise FMError(
                    f"{where} is {array.dtype} but was {self._dtypes[member]} before; a member "
                    "has one dtype"
                )
            try:
                array_bytes(array.shape, array.dtype.name)
            except CorruptError as error:
                raise FMError(f"{where}: {error}; cut smaller patches") from None
            if member in self._modalities:
                count = len(self._modalities[member].bands)
                if array.ndim not in (3, 4) or array.shape[-3] != count:
                    raise FMError(
                        f"{where} has shape {array.shape}, expected [{count}, H, W] or "
                        f"[T, {count}, H, W] for its {count} bands"
                    )
            else:
                check_mask(where, array, self._masks[member])
            result.append((member, array))
        return result

    def _update(self, member: str, array: np.ndarray) -> None:
        declared = self._modalities[member]
        pixels = np.moveaxis(array, -3, 0).reshape(array.shape[-3], -1)
        if array.dtype.kind == "f":
            valid = np.isfinite(pixels)
        elif declared.nodata is not None:
            valid = np.stack(
                [
                    np.ones(row.shape, bool) if number is None else row != number
                    for row, number in zip(pixels, declared.nodata, strict=True)
                ]
            )
        else:
            valid = np.ones(pixels.shape, bool)
        if array.dtype.kind != "f":
            pixels = pixels * np.float64(declared.scale) + declared.offset
        if valid.any():
            self._statistics[member].update(pixels, valid=None if valid.all() else valid)

    def _shard_name(self) -> str:
        return f"{self._name}-{len(self._shards):06d}.tar"

    def _end_shard(self) -> None:
        if self._tar is not None:
            name, digest = self._shard_name(), self._tar.finish()
            self._shards.append(ShardInfo(name, self._in_tar, self._tar.size, digest))
            self._tar = None

    def finish(self, folder: Path, provenance: Mapping[str, Any], licence: str) -> DatasetInfo:
        self._end_shard()
        if not self._rows:
            raise FMError("no samples came; nothing was written")
        missing = [name for name in self._members if name not in self._dtypes]
        if missing:
            raise FMError(f"no sample holds {missing[0]!r}; declare only what there is")
        path = folder / INDEX
        index.write(path, self._rows, self._members, self._labels)
        modalities = {
            name: ModalityInfo(
                name=name,
                sensor=declared.sensor,
                bands=declared.bands,
                dtype=self._dtypes[name],
                codec=self._codec,
                scale=declared.scale,
                offset=declared.offset,
                gsd_m=declared.gsd_m,
                statistics=self._statistics[name].to_dict(),
                nodata=declared.nodata,
                table=declared.table,
            )
            for name, declared in self._modalities.items()
        }
        return DatasetInfo(
            name=self._name,
            modalities=modalities,
            labels={
                label.name: dataclasses.replace(
                    label, dtype=self._dtypes.get(label.member), codec=self._codec
                )
                if label.member
                else label
                for label in self._labels.values()
            },
            provenance=json.loads(json.dumps(dict(provenance), allow_nan=False)),
            licence=licence,
            shards=tuple(self._shards),
            index_sha256=sha256_file(path),
        )

    def close(self) -> None:
        if self._tar is not None:
            self._tar.close()
