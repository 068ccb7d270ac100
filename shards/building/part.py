"""One shard and what is known of it: the piece of a dataset that one process makes alone.

A part is three files beside each other in a work folder: the tar, `NUMBER.arrow` (its index rows)
and `NUMBER.npz` (states of the statistics, and hashes of every sample); and `NUMBER.json`, written
last, with the size and SHA-256 of the three. Without the last file the part does not exist.
"""

import dataclasses
import hashlib
import io
import json
import os
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa

from fm.errors import FMError, suggest
from fm.files import fsync_folder, read_json, sha256_file
from fm.statistics import Statistics
from shards.building import copies
from shards.building.declare import Known
from shards.codecs.codec import CorruptError, array_bytes, checksum
from shards.codecs.encoders import encode_member, member_codec
from shards.codecs.quality import Quality
from shards.codecs.video import Video
from shards.format import CODECS, DTYPES, LabelInfo, ShardInfo, check_key
from shards.index import parquet as index
from shards.sample import Sample, check_mask, describe
from shards.tar import TarWriter

NAMED = 5
"""Skipped samples that are named for each reason."""


@dataclass(frozen=True)
class Recipe:
    """How samples become bytes: the same for every shard of a dataset.

    Attributes:
        name: of the dataset.
        modalities: what samples may hold.
        labels: what may be known of them.
        codec: of every member; `auto` chooses for each dtype.
        video: what the codec `video` may lose.
        min_valid: samples with a smaller `valid_fraction` are left out.
        durable: bring every file to the disk before the next (a build that may be killed).
    """

    name: str
    modalities: Mapping[str, Known]
    labels: Mapping[str, LabelInfo]
    codec: str
    video: Video | None = None
    min_valid: float = 0.0
    durable: bool = False

    @property
    def masks(self) -> dict[str, LabelInfo]:
        """Labels that are arrays, by member."""
        return {label.member: label for label in self.labels.values() if label.member}

    @property
    def members(self) -> tuple[str, ...]:
        """Every array that a sample may hold: modalities, then masks."""
        return (*self.modalities, *self.masks)

    def codec_of(self, member: str, dtype: str) -> str:
        """Return the codec of a member whose dtype is known."""
        return member_codec(self.codec, dtype, mask=member not in self.modalities)

    def shard(self, number: int) -> str:
        """Name a shard."""
        return f"{self.name}-{number:06d}.tar"


@dataclass(frozen=True)
class Place:
    """Where the files of a build lie.

    Attributes:
        folder: of the tars (which becomes the dataset).
        parts: of everything else.
    """

    folder: Path
    parts: Path

    def file(self, number: int, ending: str) -> Path:
        """Return a part's own file."""
        return self.parts / f"{number:06d}.{ending}"

    def write(self, path: Path, data: bytes, *, durable: bool) -> dict[str, Any]:
        """Write a file aside and move it into place; return its size and SHA-256."""
        aside = self.aside()
        with open(aside, "xb") as stream:
            stream.write(data)
        self.move(aside, path, durable=durable)
        return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    def move(self, aside: Path, path: Path, *, durable: bool) -> None:
        """Move a finished file into place."""
        if durable:
            with open(aside, "rb") as stream:
                os.fsync(stream.fileno())
        os.replace(aside, path)
        if durable:
            fsync_folder(path.parent)

    def aside(self) -> Path:
        """Return a new path for a file that is not finished."""
        return self.parts / f"{secrets.token_hex(8)}.partial"


@dataclass(frozen=True)
class Part:
    """What `NUMBER.json` holds.

    Attributes:
        number: of the shard, from 0.
        made: samples that were made, those left out as copies among them.
        shard: the tar; None when no sample is in it.
        files: size and SHA-256 of `arrow` and `npz`.
        dtypes: of each member that occurs.
        box: `[west, south, east, north]` of the samples' places.
        skipped: for each reason how many samples, and names of the first.
        left_out: places (among `made`) of the samples that were left out as copies.
        inputs: `shards.building.inputs.stamp` of the files it was made from, where the source
            names them.
    """

    number: int
    made: int
    shard: ShardInfo | None
    files: dict[str, dict[str, Any]]
    dtypes: dict[str, str]
    box: list[float] | None
    skipped: dict[str, dict[str, Any]]
    left_out: tuple[int, ...] = field(default=())
    inputs: str | None = None

    @classmethod
    def read(cls, place: Place, number: int) -> Self | None:
        """Read a part's record; None when there is none that can be read."""
        try:
            value = read_json(place.file(number, "json"))
            shard = value["shard"] and ShardInfo(**value["shard"])
            return cls(**{**value, "shard": shard, "left_out": tuple(value["left_out"])})
        except (FMError, OSError, TypeError, KeyError):
            return None

    def intact(self, place: Place) -> bool:
        """Say whether all files of the part still have their size and SHA-256."""
        files = [(place.file(self.number, ending), about) for ending, about in self.files.items()]
        if self.shard is not None:
            about = {"bytes": self.shard.bytes, "sha256": self.shard.sha256}
            files.append((place.folder / self.shard.name, about))
        try:
            return all(
                path.stat().st_size == about["bytes"] and sha256_file(path) == about["sha256"]
                for path, about in files
            )
        except OSError:
            return False

    @property
    def count(self) -> int:
        """Samples in the tar."""
        return self.made - len(self.left_out)


class PartWriter:
    """Writes one part.

    Args:
        recipe: of the dataset.
        place: where the files go.
        number: of the shard, from 0.
        left_out: places of samples to leave out, counted among those that are made.
    """

    def __init__(
        self, recipe: Recipe, place: Place, number: int, left_out: Collection[int] = ()
    ) -> None:
        self._recipe, self._place, self._number = recipe, place, number
        self._left_out = frozenset(left_out)
        self._statistics = {
            name: Statistics(known.bands, stream=number)
            for name, known in recipe.modalities.items()
        }
        self._lost: dict[str, Quality] = {}
        self._dtypes: dict[str, str] = {}
        self._hashes: list[tuple[int, int, int, int]] = []
        self._labels: list[int] = []
        self._keys: set[str] = set()
        self._rows: list[dict[str, Any]] = []
        self._skipped: dict[str, dict[str, Any]] = {}
        self._aside = place.aside()
        self._tar: TarWriter | None = None
        place.file(number, "json").unlink(missing_ok=True)

    @property
    def seen(self) -> int:
        """Samples so far, skipped ones among them."""
        return len(self._hashes) + sum(one["count"] for one in self._skipped.values())

    def skip(self, reason: str, name: str) -> None:
        """Count a sample that is left out."""
        entry = self._skipped.setdefault(reason, {"count": 0, "first": []})
        entry["count"] += 1
        if len(entry["first"]) < NAMED:
            entry["first"].append(name)

    def add(self, sample: Sample) -> None:
        """Write a sample, or skip it.

        Raises:
            FMError: it contradicts the declaration.
        """
        key = check_key(sample.key)
        arrays = self._arrays(sample)
        pixels = {name: array for name, array in arrays.items() if name in self._statistics}
        valid = {
            name: copies.valid_elements(array, self._recipe.modalities[name].nodata)
            for name, array in pixels.items()
        }
        if sample.valid_fraction is None:
            sample = dataclasses.replace(sample, valid_fraction=copies.valid_fraction(valid))
        row, about = describe(sample, self._recipe.labels)
        if row["valid_fraction"] < self._recipe.min_valid:
            self.skip(f"valid fraction below {self._recipe.min_valid:g}", key)
            return
        picture = next(iter(pixels))
        seen = copies.perceptual_hash(pixels[picture], valid[picture])
        self._hashes.append((checksum(key.encode()), *copies.content_hash(pixels), seen))
        masks = {name: array for name, array in arrays.items() if name not in pixels}
        known = json.dumps([about["labels"], copies.content_hash(masks)], sort_keys=True)
        self._labels.append(checksum(known.encode()))
        if len(self._hashes) - 1 in self._left_out:
            return
        if key in self._keys:
            raise FMError(f"sample key {key!r} comes twice; keys must be unique")
        self._keys.add(key)
        self._write(key, arrays, row, about)
        for name, array in pixels.items():
            self._update(name, array, valid[name])

    def _write(
        self, key: str, arrays: dict[str, np.ndarray], row: dict[str, Any], about: dict[str, Any]
    ) -> None:
        files: list[tuple[str, bytes]] = []
        about["members"] = {}
        for member, array in arrays.items():
            data, ending = self._encode(key, member, array)
            file = f"{key}.{member}.{ending}"
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
        files.append((f"{key}.json", json.dumps(about, allow_nan=False).encode()))
        if self._tar is None:
            self._tar = TarWriter(self._aside)
        offsets, start, size, digest = self._tar.add(files)
        row |= {f"{member}.offset": at for member, at in zip(arrays, offsets, strict=False)}
        row |= {"sample.offset": start, "sample.bytes": size, "sample.xxh3": digest}
        row["shard"] = self._recipe.shard(self._number)
        self._rows.append(row)

    def _encode(self, key: str, member: str, array: np.ndarray) -> tuple[bytes, str]:
        recipe, known = self._recipe, self._recipe.modalities.get(member)
        codec = recipe.codec_of(member, array.dtype.name)
        nodata = None if known is None else known.nodata
        data, lost = encode_member(array, codec, recipe.video, nodata, f"sample {key}: {member}")
        if lost is not None:
            self._lost[member] = self._lost[member] + lost if member in self._lost else lost
        return data, CODECS[codec]

    def _arrays(self, sample: Sample) -> dict[str, np.ndarray]:
        members, modalities = self._recipe.members, self._recipe.modalities
        unknown = set(sample.arrays) - set(members)
        if unknown:
            hint = suggest(min(unknown), members)
            raise FMError(f"sample {sample.key}: array {min(unknown)!r} was not declared; {hint}")
        if not any(member in modalities for member in sample.arrays):
            raise FMError(f"sample {sample.key}: it holds no modality; leave it out")
        result = {}
        for member in members:
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
            if member in modalities:
                _check_pixels(where, array, modalities[member], sample)
            else:
                check_mask(where, array, self._recipe.masks[member])
            result[member] = array
        return result

    def _update(self, name: str, array: np.ndarray, valid: np.ndarray | None) -> None:
        known = self._recipe.modalities[name]
        pixels = np.moveaxis(array, -3, 0).reshape(array.shape[-3], -1)
        mask = None if valid is None else np.moveaxis(valid, -3, 0).reshape(pixels.shape)
        if array.dtype.kind != "f":
            pixels = pixels * np.float64(known.scale) + known.offset
        self._statistics[name].update(pixels, valid=mask)

    def finish(self, inputs: str | None = None) -> Part:
        """Put all files in place, the record last.

        Args:
            inputs: `shards.building.inputs.stamp`, from before the first sample was made.
        """
        durable, place, number = self._recipe.durable, self._place, self._number
        shard = None
        if self._tar is not None:
            name, digest = self._recipe.shard(number), self._tar.finish()
            place.move(self._aside, place.folder / name, durable=durable)
            shard = ShardInfo(name, len(self._rows), self._tar.size, digest)
        table = index.to_table(self._rows, self._recipe.members, self._recipe.labels)
        rows, states = pa.BufferOutputStream(), io.BytesIO()
        with pa.ipc.new_file(rows, table.schema) as writer:
            writer.write_table(table)
        np.savez(states, **self._state())  # type: ignore[arg-type]
        made = {"arrow": rows.getvalue().to_pybytes(), "npz": states.getvalue()}
        part = Part(
            number=number,
            made=len(self._hashes),
            shard=shard,
            files={
                ending: place.write(place.file(number, ending), data, durable=durable)
                for ending, data in made.items()
            },
            dtypes=self._dtypes,
            box=index.bounds(table),
            skipped=self._skipped,
            left_out=tuple(sorted(self._left_out)),
            inputs=inputs,
        )
        record = json.dumps(dataclasses.asdict(part)).encode()
        place.write(place.file(number, "json"), record, durable=durable)
        return part

    def _state(self) -> dict[str, np.ndarray]:
        hashes = np.array(self._hashes, np.uint64).reshape(-1, 4)
        kept = np.array([k not in self._left_out for k in range(len(hashes))], bool)
        states = {name: state.to_arrays() for name, state in self._statistics.items()}
        states |= {f"{name}.lost": lost.to_arrays() for name, lost in self._lost.items()}
        labels = np.array(self._labels, np.uint64)
        return {"hashes": hashes, "kept": kept, "labels": labels} | {
            f"{name}.{key}": array
            for name, arrays in states.items()
            for key, array in arrays.items()
        }

    def abandon(self) -> None:
        """Remove what is half done; harmless after `finish`."""
        if self._tar is not None:
            self._tar.close()
        self._aside.unlink(missing_ok=True)


def _check_pixels(where: str, array: np.ndarray, known: Known, sample: Sample) -> None:
    count = len(known.table)
    if array.ndim not in (3, 4) or array.shape[-3] != count:
        raise FMError(
            f"{where} has shape {array.shape}, expected [{count}, H, W] or "
            f"[T, {count}, H, W] for its {count} bands"
        )
    if sample.times is not None and array.ndim == 4 and len(array) != len(sample.times):
        raise FMError(f"{where} has {len(array)} dates but `times` names {len(sample.times)}")
    numbers = [number for number in known.nodata or () if number is not None]
    if not numbers:
        return
    if array.dtype.kind == "f":
        raise FMError(f"{where} is {array.dtype}, whose missing data is NaN, not {numbers[0]}")
    limits = np.iinfo(array.dtype)
    if wrong := [number for number in numbers if not limits.min <= number <= limits.max]:
        raise FMError(f"{where}: no-data {wrong[0]} cannot stand in {array.dtype} pixels")
