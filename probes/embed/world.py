"""`fm embed MODEL --grid DEG`: a location encoder's embedding of every cell of the globe."""

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import fm.location
from fm.console import note, progress
from fm.errors import FMError, UsageError
from fm.files import refuse_unwritable, write_atomic
from fm.location.encoder import LocationEncoder
from probes.embed import forms, picture
from probes.embed.coding import DTYPES, Coding
from probes.embed.ranks import Ranks
from probes.embed.stage import kept_bytes, publish, refuse_existing
from probes.embed.target import check_ending, check_room
from probes.features import workers as pool
from probes.features.extraction import update
from probes.location.encoders import Encoder

VERSION = 1
"""Raised when the same encoder would give other numbers."""
_PIECE_BYTES = 16 << 20
_FINEST = 1e-3


@dataclass(frozen=True)
class Grid:
    """Places all over the globe, a row a latitude from the north, columns from 180 W.

    Attributes:
        step: degrees between places, in both directions.
        nodes: places stand at multiples of the step, both poles and 180 W included (as ERA5's
            do); else at the centres of cells whose edges are these multiples.
    """

    step: float
    nodes: bool = False

    def __post_init__(self) -> None:
        count = 180 / self.step if self.step > 0 else 0
        if not _FINEST <= self.step <= 90 or abs(count - round(count)) > 1e-9 * count:
            raise UsageError(
                f"--grid {self.step:g}: give degrees that divide 180 into whole rows, from "
                f"{_FINEST:g} to 90, such as 0.25"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        rows = round(180 / self.step)
        return rows + self.nodes, 2 * rows

    @property
    def lat(self) -> NDArray[np.float64]:
        """`[Y]` degrees, from the north."""
        rows = round(180 / self.step)
        at = np.arange(self.shape[0]) + (0 if self.nodes else 0.5)
        return 90 - at * 180 / rows

    @property
    def lon(self) -> NDArray[np.float64]:
        """`[X]` degrees."""
        at = np.arange(self.shape[1]) + (0 if self.nodes else 0.5)
        return at * 360 / self.shape[1] - 180

    @property
    def ground(self) -> forms.Ground:
        """The cells around the places."""
        out = self.step / 2 if self.nodes else 0.0
        return forms.Ground(
            "EPSG:4326", -180 - out, 90 + out, (self.step, self.step), *self.shape, self.nodes
        )

    @property
    def area(self) -> NDArray[np.float64]:
        """`[Y]` area of a row's cells as a share of the largest, what lies beyond a pole cut."""
        edge = np.minimum(self.lat + self.step / 2, 90), np.maximum(self.lat - self.step / 2, -90)
        part = np.sin(np.radians(edge[0])) - np.sin(np.radians(edge[1]))
        return np.asarray(part / part.max())


def embed_map(
    encoder: Encoder,
    grid: Grid,
    out: Path,
    *,
    dtype: str = "float32",
    month: float | None = None,
    land: bool = False,
    workers: int = 1,
    drawn: Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the embedding of every place of a grid.

    Rows go to the disk as they are made and are kept when the process dies: the same command goes
    on from there. The map is never in memory.

    Args:
        encoder: of `probes.location.encoders`, or an encoding without a network.
        grid: the places.
        out: `.tif` (a cloud-optimised GeoTIFF) or `.zarr`; there whole or not at all.
        dtype: `float32`, `float16`, or `int8` with a scale and an offset a feature.
        month: 1 to 12, where the encoder has a season.
        land: leave out cells without land (NaN); coasts of the extra `geo`.
        workers: processes.
        drawn: a PNG of the first principal components, see `probes.embed.picture`.
        overwrite: replace what is there.

    Returns:
        `out`.

    Raises:
        UsageError: a wrong ending or type, or a month missing or not used.
        FMError: it is there already, the disk is too small, coasts cannot be had, an embedding is
            not finite, or float16 cannot hold it.
    """
    ending = check_ending(out, forms.ENDINGS, "a map")
    forms.require(ending)
    if dtype not in DTYPES:
        raise UsageError(f"--dtype {dtype}: give {', '.join(DTYPES)}")
    module = encoder.module
    assert isinstance(module, nn.Module)
    _check_month(module, month, encoder.name)
    refuse_existing(out, overwrite)
    forms.refuse_foreign(out)
    if drawn is not None:
        check_ending(drawn, (".png",), "a picture", "--picture")
        refuse_unwritable(drawn.absolute().parent, f"--picture {drawn}:")
        refuse_existing(drawn, overwrite, "--picture")
    mask = land_mask(grid) if land else None
    dim = _width(module, grid, month)
    height, width = grid.shape
    rows = max(1, _PIECE_BYTES // (4 * dim * width))
    bounds = [*range(0, height, rows), height]
    job = {
        "version": VERSION,
        "model_sha256": fingerprint(module),
        "grid": [grid.step, "nodes" if grid.nodes else "cells"],
        "month": month,
        "land": land,
        "rows": rows,
    }
    needed = 4 * height * width * dim + forms.bytes_needed(grid.ground, dim, dtype, ending)
    check_room(out, needed, kept_bytes(out))
    ranks = Ranks.of_launcher()
    with (
        ranks.together(),
        ranks.opened(out, job, (height, width, dim), bounds, overwrite=overwrite) as stage,
    ):
        lon, lat = torch.from_numpy(grid.lon), torch.from_numpy(grid.lat)

        def make(piece: int) -> int:
            some = stage.rows(piece)
            made = torch.cat(list(fm.location.on_grid(module, lon, lat[some], month=month)))
            values = made.float().cpu().numpy()
            if not np.isfinite(values).all():
                raise FMError(f"{encoder.name} gives NaN or infinite embeddings; none is written")
            if mask is not None:
                values[~mask[some]] = np.nan
            stage.put(piece, values)
            return len(values)

        there = sum(stage.rows(p).stop - stage.rows(p).start for p in stage.done)
        if there and ranks.first:
            note(f"going on: {there} of {height} rows are there")
        begun, mine = time.perf_counter(), ranks.part(stage.left)
        count = sum(bounds[piece + 1] - bounds[piece] for piece in mine)
        with progress("rows of the map", there + count, done=there, show=ranks.first) as bar:
            pool.each(make, mine, workers, bar.advance)
        ended = ranks.finished(stage, count, begun)
        if ended is None:
            return out  # the first rank puts it together
        if ended.made:
            places = ended.made * width
            note(f"{places} places in {ended.seconds:.1f} s, {places / ended.seconds:.0f} a second")
        values = stage.read()
        about = {
            "model": encoder.name,
            "model_sha256": job["model_sha256"],
            "places": "nodes: multiples of the step" if grid.nodes else "cells: their centres",
            "month": "none" if month is None else month,
            "cells": "with land alone" if land else "all",
        }
        coding = Coding.of(dtype, (values[stage.rows(p)] for p in range(len(bounds) - 1)))
        sheet = forms.Sheet(grid.ground, dim, lambda a, b: values[a:b], coding, about)
        forms.write(sheet, stage.result, ending)
        if drawn is not None:  # last of all: a picture that is there would refuse going on
            write_atomic(drawn, picture.draw(values, grid, f"{encoder.name}: {dim} features"))
        publish(stage.result, out)
    return out


def fingerprint(module: nn.Module) -> str:
    """Return the SHA-256 of a module of places: what it is and its tensors."""
    digest = hashlib.sha256(repr(module).encode())
    digest.update(repr(sorted(getattr(module, "config", {}).items())).encode())
    update(digest, module.state_dict())
    return digest.hexdigest()


def land_mask(grid: Grid) -> NDArray[np.bool_]:
    """Say which cells hold land, `[Y, X]`: where a cell of 6 arc minutes of it is land.

    Raises:
        FMError: the package with the coasts is not installed.
    """
    from shards.seeing.land import coarse_land

    found = coarse_land()
    if found is None:
        raise FMError("--land needs the coasts of global-land-mask: pip install eofm[geo]")
    ground = grid.ground
    fine_rows, fine_columns = found.shape
    # each place's own fine cell, and each fine cell's own place: whichever grid is finer
    at = np.clip(((90 - grid.lat) / 180 * fine_rows).astype(int), 0, fine_rows - 1)
    along = ((grid.lon + 180) / 360 * fine_columns).astype(int) % fine_columns
    mask: NDArray[np.bool_] = found[at][:, along]
    lat = 90 - (np.arange(fine_rows) + 0.5) * 180 / fine_rows
    lon = (np.arange(fine_columns) + 0.5) * 360 / fine_columns - 180
    row = ((ground.north - lat) / grid.step).astype(int)
    column = ((lon - ground.west) / grid.step).astype(int) % ground.width
    r, c = np.nonzero(found)
    mask[row[r], column[c]] = True
    return mask


def _check_month(module: nn.Module, month: float | None, name: str) -> None:
    season = isinstance(module, LocationEncoder) and module.month is not None
    if season and month is None:
        raise UsageError(f"{name} has a season: give --month, 1 to 12")
    if month is not None and not season:
        raise UsageError(f"--month {month:g}: {name} has no season; leave it out")
    if month is not None and not 1 <= month <= 12:
        raise UsageError(f"--month {month:g}: give 1 to 12, fractions allowed")


def _width(module: nn.Module, grid: Grid, month: float | None) -> int:
    place = torch.from_numpy(grid.lon[:1]), torch.from_numpy(grid.lat[:1])
    return int(next(fm.location.on_grid(module, *place, month=month)).shape[-1])
