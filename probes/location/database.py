"""Databases of images for retrieval (RANGE): where each was, its key, and what it knows."""

import hashlib
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import fm.location
from fm.console import note
from fm.errors import FMError, UsageError
from fm.files import sha256_file
from probes.location.encoders import Encoder

RANGE_FIELDS = ("locs", "satclip_embeddings", "image_embeddings")
"""Of the file that RANGE's authors released: places, keys, values. Places are (lon, lat), though
their code names them the other way around."""
HEADS: dict[str, dict[str, float]] = {
    "range": {"temperature": 15.0, "share": 1.0},
    "range-plus": {"temperature": 12.0, "share": 0.5},
}
"""Heads by the names of Dhakal et al. 2025, arXiv 2502.19781, with their settings."""


@dataclass(frozen=True)
class Database:
    """Images.

    Attributes:
        lonlat: `[M, 2]` degrees.
        keys: `[M, K]` embeddings in the space of a location encoder.
        values: `[M, V]` features of any model.
        sha256: of the files.
        about: where it comes from, for results.
    """

    lonlat: NDArray[np.float64]
    keys: NDArray[np.float32]
    values: NDArray[np.float32]
    sha256: str
    about: dict[str, Any] = field(default_factory=dict)

    def on(self, encoder: Encoder) -> list[Encoder]:
        """Put both heads of `HEADS` on an encoder.

        Raises:
            UsageError: the keys are not of the encoder's width, or say that they lie in the space
                of another encoder.
        """
        space, own = self.about.get("space"), encoder.about.get("weights_sha256")
        if space is not None and own is not None and space != own:
            raise UsageError(
                f"the database's keys lie in the space of another location encoder than "
                f"{encoder.name}; make them with `fm embed` of its own folder"
            )
        width = encoder(np.zeros((1, 2))).shape[1]
        if width != self.keys.shape[1]:
            raise UsageError(
                f"the database's keys have {self.keys.shape[1]} numbers and {encoder.name} gives "
                f"{width}; keys are embeddings of images in the encoder's own space"
            )
        return [self._head(encoder, name) for name in HEADS]

    def _head(self, encoder: Encoder, name: str) -> Encoder:
        module = fm.location.Retrieval(
            encoder.module,  # type: ignore[arg-type]
            torch.from_numpy(self.keys),
            torch.from_numpy(self.values),
            torch.from_numpy(self.lonlat),
            **HEADS[name],
        )
        own = str(encoder.about.get("weights_sha256") or encoder.name)
        both = hashlib.sha256(f"{own} {self.sha256} {name}".encode()).hexdigest()
        about = {
            **encoder.about,
            "architecture": f"Retrieval on {encoder.about.get('architecture')}",
            "weights_sha256": both,
            "head_on": encoder.name,
            "database": {**self.about, "sha256": self.sha256, **HEADS[name]},
        }
        return Encoder(f"{encoder.name}-{name}", module.eval(), encoder.kind, about, encoder.seen)


def open_database(files: list[Path]) -> Database:
    """Read a database.

    Args:
        files: RANGE's `.npz`; or one or two GeoParquet files of `fm embed` over the same dataset,
            whose embeddings are the keys and the values (both, of a single file). Rows belong
            together by their key; those without a place are left out, and told.

    Raises:
        UsageError: more files, or others.
        FMError: a file that cannot be read, sizes or values that cannot be, or files of different
            datasets.
    """
    endings = {path.suffix.lower() for path in files}
    if endings == {".npz"} and len(files) == 1:
        return _of_npz(files[0])
    if endings != {".parquet"} or len(files) > 2:
        raise UsageError(
            f"--database {' '.join(map(str, files))}: give RANGE's .npz, or one or two .parquet "
            f"files of fm embed (keys, values)"
        )
    return _of_tables(files[0], files[-1])


def _of_npz(path: Path) -> Database:
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in RANGE_FIELDS if name not in file.files]
            if missing:
                raise FMError(f"{path}: lacks {', '.join(missing)}; it is no database of RANGE")
            lonlat, keys, values = (np.asarray(file[name]) for name in RANGE_FIELDS)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        if isinstance(error, FMError):
            raise
        reason = "no such file" if not path.exists() else "not an .npz without pickles"
        raise FMError(f"{path}: {reason}") from None
    return _checked(path, lonlat, keys, values, sha256_file(path), {"files": [path.name]})


def _of_tables(first: Path, second: Path) -> Database:
    from probes.embed.parquet import read

    keys, values = read(first), read(first if second == first else second)
    hashes = [table.about.get("manifest_hash") for table in (keys, values)]
    if hashes[0] != hashes[1]:
        raise FMError(f"{first} and {second} are of different datasets; embed the same one")
    place = {key: row for row, key in enumerate(values.keys)}
    absent = [key for key in keys.keys if key not in place]
    if absent:
        raise FMError(f"{second}: lacks {len(absent)} samples of {first}, such as {absent[0]}")
    if "places_sha256" not in keys.about:
        note(
            f"{first}: does not say in which space its embeddings lie; they are taken for keys in "
            f"the space of the encoder (`fm embed RUN/location` makes such)"
        )
    known = np.asarray(np.isfinite(keys.lonlat).all(axis=1))
    if not known.all():
        lost = f"{(~known).sum()} of {len(keys.keys)} samples"
        note(f"{first}: {lost} have no place and are left out")
    rows = np.array([place[key] for key in keys.keys], np.int64)[known]
    digest = hashlib.sha256(f"{sha256_file(first)} {sha256_file(second)}".encode()).hexdigest()
    about = {
        "files": [first.name, second.name],
        "keys": keys.about.get("model_sha256"),
        "values": values.about.get("model_sha256"),
        "space": keys.about.get("places_sha256"),
        "manifest_hash": hashes[0],
    }
    parts = keys.lonlat[known], keys.embedding[known], values.embedding[rows]
    return _checked(first, *parts, digest, about)


def _checked(
    path: Path,
    lonlat: np.ndarray,
    keys: np.ndarray,
    values: np.ndarray,
    sha256: str,
    about: dict[str, Any],
) -> Database:
    arrays = {"places": lonlat, "keys": keys, "values": values}
    shapes = ", ".join(f"{name} {list(x.shape)}" for name, x in arrays.items())
    if any(x.ndim != 2 or x.dtype.kind != "f" for x in arrays.values()):
        raise FMError(f"{path}: {shapes}; expected floats [M, 2], [M, K] and [M, V]")
    if lonlat.shape[1] != 2 or len({len(x) for x in arrays.values()}) != 1 or not len(keys):
        raise FMError(f"{path}: {shapes}; expected [M, 2], [M, K] and [M, V] of the same M")
    for name, x in arrays.items():
        if not np.isfinite(x).all():
            raise FMError(f"{path}: {name} hold NaN or infinite numbers; make it anew")
    if (np.abs(lonlat) > (360, 90)).any():
        raise FMError(f"{path}: places beyond the poles; they are (lon, lat) in degrees")
    if not np.linalg.norm(keys, axis=1).all():
        raise FMError(f"{path}: a key is zero and has no direction; leave that image out")
    return Database(
        np.asarray(lonlat, np.float64),
        np.asarray(keys, np.float32),
        np.asarray(values, np.float32),
        sha256,
        {**about, "images": len(keys)},
    )
