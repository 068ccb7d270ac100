"""`fm embed MODEL SCENE`: a model's tokens over a whole scene, as a georeferenced grid."""

import math
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fm
from fm.console import note, progress
from fm.errors import FMError, UsageError
from fm.files import refuse_within
from probes.benchmarks.base import Inputs
from probes.dense.token_maps import TokenMaps, token_maps
from probes.embed import forms
from probes.embed.coding import DTYPES, Coding
from probes.embed.doubts import doubts
from probes.embed.ranks import Ranks
from probes.embed.scene import Scene
from probes.embed.scene_checks import known
from probes.embed.stage import kept_bytes, publish, refuse_existing
from probes.embed.target import check_ending, check_room
from probes.embed.tiles import Tiling, blend, seams
from probes.features import workers as pool
from probes.features.extraction import encode, model_hash

VERSION = 2
"""Raised when the same model and scene would give other numbers."""
LARGEST = 64
"""Tokens along the side of what is embedded as one image."""
WIDEST = 2048
"""Tokens along the side of a tile, at most: enough for networks whose tokens are pixels."""
TOKENS = 16
"""Along the side of a tile, where none is given: of the coarsest tokens."""


def embed_scene(
    model: str | Path | Any,
    scene: Scene,
    out: Path,
    *,
    tile_m: float | None = None,
    overlap_m: float | None = None,
    dtype: str = "float32",
    batch_size: int = 8,
    workers: int = 1,
    overwrite: bool = False,
) -> Path:
    """Write the tokens of a scene: a cell a token, its corner at the scene's.

    The scene is read in square tiles that overlap; where they do, tokens are blended with weights
    that rise from a tile's edge over the overlap. Pixels without data are not used, and a token
    without any is empty (NaN). Tiles that are done are kept when the process dies.

    Args:
        model: a checkpoint folder, or a model with `encode` and `groups`.
        scene: what to embed.
        out: `.tif` (a cloud-optimised GeoTIFF) or `.zarr`; there whole or not at all.
        tile_m: side of a tile in metres, a whole number of tokens of every group; `TOKENS` of them
            when None. Give the side of the images that the model was trained on.
        overlap_m: of neighbouring tiles, likewise; a quarter of a tile when None.
        dtype: `float32`, `float16`, or `int8` with a scale and an offset a feature.
        batch_size: tiles encoded at once.
        workers: processes; no number depends on them.
        overwrite: replace what is there.

    Returns:
        `out`.

    Raises:
        UsageError: the model takes nothing of the scene or gives no tokens, sizes that do not fit,
            or numbers that cannot be what their unit says.
        FMError: see `probes.embed.world.embed_map`.
    """
    ending = check_ending(out, forms.ENDINGS, "a scene's tokens")
    forms.require(ending)
    if dtype not in DTYPES:
        raise UsageError(f"--dtype {dtype}: give {', '.join(DTYPES)}")
    refuse_existing(out, overwrite)
    forms.refuse_foreign(out)
    for file in scene.files:
        refuse_within(file, out)
    loaded = fm.load(model) if isinstance(model, str | Path) else model
    modalities = [m for m in scene.layers if m in loaded.bands]
    if not modalities:
        raise UsageError(
            f"{scene.place}: the model takes {', '.join(loaded.bands)}, the scene has "
            f"{', '.join(scene.layers)}; embed with another model"
        )
    ranks = Ranks.of_launcher()
    if isinstance(loaded, torch.nn.Module):
        loaded.to(ranks.device(workers))
    loaded.eval()
    work = _Tiles(loaded, scene.keep(modalities), tile_m, overlap_m, batch_size)
    first, notes = work.first()
    step_m = work.side_m / work.tiling.side
    times = round(step_m / (first.cells[0][0] * work.side_m))
    dim = first.levels[0].shape[1]
    corners = work.tiling.corners
    shape = (len(corners), work.tiling.side * times, work.tiling.side * times, dim)
    if first.levels[0].shape[2:] != shape[1:3]:
        raise UsageError(f"{scene.place}: the model's tokens do not fill a tile of whole tokens")
    cell_m = step_m / times
    rows, columns = (math.ceil(round(x / cell_m, 6)) for x in work.extent)
    cell = cell_m / scene.unit_m
    ground = forms.Ground(scene.crs, scene.west, scene.north, (cell, cell), rows, columns)
    about: dict[str, Any] = {
        "model": getattr(getattr(loaded, "card", None), "name", type(loaded).__name__),
        "model_sha256": model_hash(loaded),
        "scene": scene.place.name,
        "scene_sha256": dict(scene.sha256),
        "bands": {m: list(scene.layers[m].bands) for m in modalities},
        "scaling": {m: list(scene.layers[m].scaling) for m in modalities},
        "tile_m": work.side_m,
        "overlap_m": work.tiling.overlap * step_m,
    }
    job = {"version": VERSION, "batch_size": batch_size, **about}
    raw = 4 * math.prod(shape)
    check_room(out, raw + forms.bytes_needed(ground, dim, dtype, ending), kept_bytes(out))
    bounds = [*range(0, len(corners), batch_size), len(corners)]
    with ranks.together(), ranks.opened(out, job, shape, bounds, overwrite=overwrite) as stage:
        there = sum(stage.rows(p).stop - stage.rows(p).start for p in stage.done)
        if there and ranks.first:
            note(f"going on: {there} of {len(corners)} tiles are there")

        def make(piece: int) -> int:
            some = stage.rows(piece)
            maps = work.encode(corners[some])
            stage.put(piece, np.moveaxis(maps.levels[0].cpu().numpy(), 1, -1))
            return some.stop - some.start

        begun, mine = time.perf_counter(), ranks.part(stage.left)
        count = sum(bounds[piece + 1] - bounds[piece] for piece in mine)
        with progress("tiles", there + count, done=there, show=ranks.first) as bar:
            pool.each(make, mine, workers, bar.advance)
        ended = ranks.finished(stage, count, begun)
        if ended is None:
            return out  # the first rank puts it together
        if ended.made:
            note(f"{ended.made} tiles in {ended.seconds:.1f} s, {ended.rate:.1f} a second")
        kept = stage.read()
        # a row of strips reads the tiles of two or three rows: keep those
        across = len({column for _, column in corners})
        read = lru_cache(maxsize=3 * across)(lambda number: kept[number : number + 1][0])
        blended = blend(work.tiling, times, dim, read)

        def rows_of(a: int, b: int) -> np.ndarray:
            return np.asarray(blended(a, b)[:, :columns])

        def strips() -> Iterator[np.ndarray]:
            height = max(1, shape[1] // 2)
            return (rows_of(a, min(a + height, rows)) for a in range(0, rows, height))

        edges = [[x * times for x in part] for part in work.tiling.edges]
        found = seams(strips(), (edges[0], edges[1]))
        if found is not None:
            about["seam_ratio"] = round(found["ratio"], 4)
            note(f"steps over tiles' edges are {found['ratio']:.3f} times those elsewhere")
        sheet = forms.Sheet(
            ground, dim, rows_of, Coding.of(dtype, strips()), {**about, "notes": notes}
        )
        forms.write(sheet, stage.result, ending)
        publish(stage.result, out)
    return out


class _Tiles:
    """Tiles of a scene, encoded.

    Attributes:
        side_m: of a tile.
        tiling: in steps, the smallest ground that is a whole number of every group's tokens.
        extent: height and width of the scene in metres.
    """

    def __init__(
        self,
        model: Any,
        scene: Scene,
        tile_m: float | None,
        overlap_m: float | None,
        batch_size: int,
    ) -> None:
        self.model, self.scene, self.batch_size = model, scene, batch_size
        self.bands = {m: layer.bands for m, layer in scene.layers.items()}
        self.scaling = {m: layer.scaling for m, layer in scene.layers.items()}
        self.unit_m = scene.unit_m
        sizes = [
            layer.gsd * scene.unit_m * member.patch
            for group in getattr(model, "groups", {}).values()
            for member in group.members
            for m, layer in scene.layers.items()
            if m == member.modality
        ]
        if not sizes:
            raise UsageError(
                "the model does not say how large its tokens are; take one with tokens"
            )
        step = math.lcm(*(round(1000 * size) for size in sizes)) / 1000
        side = TOKENS * step if tile_m is None else tile_m
        overlap = side // (4 * step) * step if overlap_m is None else overlap_m
        for name, size, least in (("tile", side, step), ("overlap", overlap, 0)):
            whole_steps = math.isfinite(size) and abs(size / step - round(size / step)) <= 1e-6
            if size < least or not whole_steps:
                raise UsageError(
                    f"--{name} {size:g}: give metres, a multiple of the model's {step:g} m tokens"
                )
        if overlap >= side:
            raise UsageError(f"--overlap {overlap:g}: give less than a tile, which is {side:g} m")
        if side > WIDEST * step:
            raise UsageError(
                f"--tile {side:g}: {side / step:.0f} of the model's {step:g} m tokens along a "
                f"side, at most {WIDEST} are read at once; give a smaller one"
            )
        self.side_m = side
        self.extent = (
            (scene.north - scene.south) * scene.unit_m,
            (scene.east - scene.west) * scene.unit_m,
        )
        rows, columns = (math.ceil(round(x / step, 6)) for x in self.extent)
        self.step_m = step
        self.tiling = Tiling(rows, columns, round(side / step), round(overlap / step))

    def first(self) -> tuple[TokenMaps, list[str]]:
        """Encode the first tile with data, after a look at its numbers."""
        for corner in self.tiling.corners:
            inputs = self.read([corner])
            assert inputs.valid is not None
            if all(valid.any() for valid in inputs.valid.values()):
                where = str(self.scene.place)
                told = doubts(self.model, inputs, self.bands, self.scaling, where=where)
                self.check(inputs)
                return self._maps(inputs), told
        raise FMError(f"{self.scene.place}: no pixel with data in it")

    def read(self, corners: list[tuple[int, int]]) -> Inputs:
        """Read some tiles."""
        pixels: dict[str, np.ndarray] = {}
        valid: dict[str, np.ndarray] = {}
        for modality in self.scene.layers:
            parts = [
                self.scene.square(
                    modality,
                    self.scene.west + column * self.step_m / self.unit_m,
                    self.scene.north - row * self.step_m / self.unit_m,
                    self.side_m / self.unit_m,
                )
                for row, column in corners
            ]
            pixels[modality] = np.stack([part for part, _ in parts])
            valid[modality] = np.stack([mask for _, mask in parts])
        return Inputs(pixels, valid)

    def encode(self, corners: list[tuple[int, int]]) -> TokenMaps:
        """Encode some tiles; tokens without a valid pixel are NaN."""
        inputs = self.read(corners)
        self.check(inputs)
        return self._maps(inputs)

    def check(self, inputs: Inputs) -> None:
        """Refuse numbers that are no measurement; see `probes.embed.scene_checks.known`."""
        assert inputs.valid is not None
        for modality, layer in self.scene.layers.items():
            pixels = np.moveaxis(inputs.pixels[modality], 1, 0)[:, inputs.valid[modality]]
            known(self.scene.place, layer.items, layer.scaling, pixels)

    def _maps(self, inputs: Inputs) -> TokenMaps:
        with torch.inference_mode():
            return token_maps(
                self.model, inputs, self.bands, self.scaling, pyramid=False, finite=True
            )


def whole(model: Any, scene: Scene) -> np.ndarray:
    """Embed a scene as one image: its pooled features `[D]`.

    Raises:
        UsageError: as `embed_scene`.
    """
    modalities = [m for m in scene.layers if m in model.bands]
    if not modalities:
        raise UsageError(
            f"{scene.place}: the model takes {', '.join(model.bands)}, the scene has "
            f"{', '.join(scene.layers)}"
        )
    work = _Tiles(model, scene.keep(modalities), None, None, 1)
    steps = max(work.tiling.rows, work.tiling.columns)
    if steps > LARGEST:
        raise UsageError(
            f"{scene.place}: {steps} tokens along a side, at most {LARGEST} are one image; cut a "
            f"smaller one out"
        )
    work.side_m = steps * work.step_m
    inputs = work.read([(0, 0)])
    doubts(model, inputs, work.bands, work.scaling, where=str(scene.place))
    work.check(inputs)
    with torch.inference_mode():
        pooled = encode(model, inputs, work.bands, work.scaling)
    return np.asarray(pooled.float().cpu().numpy()[0])
