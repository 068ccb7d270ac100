"""Maps of location encoders: the right number at the right place, whole or not at all."""

import json
import multiprocessing
import os
import shutil
import signal
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch

import fm.location
from fm.cli import main
from fm.errors import FMError, UsageError
from probes.embed import picture, stage, world
from probes.embed.coding import Coding
from probes.embed.stage import Stage, work_folder
from probes.embed.world import Grid, embed_map
from probes.location.encoders import Encoder, of_module

zarr = pytest.importorskip("zarr", reason="the extra cube writes .zarr")


def small(season: bool = False) -> Encoder:
    torch.manual_seed(0)
    made = fm.location.create("sh", L=6, width=8, dim=4, depth=1, season=season)
    return of_module("small", made)


@pytest.fixture(autouse=True)
def pieces_of_some_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "_PIECE_BYTES", 4 * 4 * 36 * 3)  # 3 rows of 10 degrees


@pytest.mark.parametrize("nodes", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_numbers_lie_where_the_transform_says(tmp_path: Path, nodes: bool, dtype: str) -> None:
    encoder, grid = small(), Grid(10.0, nodes)
    path = embed_map(encoder, grid, tmp_path / "m.tif", dtype=dtype)
    with rasterio.open(path) as raster:
        assert raster.crs.to_epsg() == 4326
        assert raster.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert raster.tags()["AREA_OR_POINT"] == ("Point" if nodes else "Area")
        assert raster.tags()["EOFM_MODEL"] == "small"
        assert raster.tags()["EOFM_MODEL_SHA256"] == world.fingerprint(encoder.module)
        assert raster.descriptions[3] == "feature 3"
        found = np.moveaxis(raster.read(), 0, -1).astype(np.float64)
        if dtype == "int8":
            found = found * np.array(raster.scales) + np.array(raster.offsets)
        rows, columns = np.indices(found.shape[:2])
        lon, lat = raster.transform @ (columns + 0.5, rows + 0.5)
    assert found.shape == ((19, 36, 4) if nodes else (18, 36, 4))
    assert (lon.min(), lat.max()) == ((-180, 90) if nodes else (-175, 85))
    wanted = encoder(np.stack([lon.ravel(), lat.ravel()], 1)).reshape(found.shape)
    off = {"float32": 1e-5, "float16": 1e-3, "int8": np.ptp(wanted) / 254}[dtype]
    np.testing.assert_allclose(found, wanted, atol=off)


def test_zarr_has_coordinates_and_the_same_numbers(tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray")
    encoder = small()
    path = embed_map(encoder, Grid(20.0), tmp_path / "m.zarr")
    with xarray.open_zarr(path, consolidated=False) as cube:
        assert cube.embedding.dims == ("lat", "lon", "feature")
        assert cube.lat.attrs["units"] == "degrees_north"
        assert cube.attrs["model"] == "small"
        assert cube.crs.attrs["grid_mapping_name"] == "latitude_longitude"
        there = cube.embedding.sel(lat=50, lon=-30, method="nearest")
        place = np.array([[float(there.lon), float(there.lat)]])
        np.testing.assert_allclose(there.values, encoder(place)[0], atol=1e-5)
        np.testing.assert_array_equal(cube.lat.values, np.arange(80, -81, -20.0))


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_cells_without_land_are_missing_to_readers_of_zarr(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    """Of int8 they were read as -128, which by scale and offset is a number like others."""
    xarray = pytest.importorskip("xarray")
    land = np.zeros((1800, 3600), bool)
    land[5, 7] = True  # 89.45 N, 179.25 W
    monkeypatch.setattr("shards.seeing.land._land", lambda: land)
    encoder, grid = small(), Grid(10.0)
    path = embed_map(encoder, grid, tmp_path / "m.zarr", dtype=dtype, land=True)
    with xarray.open_zarr(path, consolidated=False) as cube:
        found = cube.embedding.values
        if dtype == "int8":
            found = found * cube.scale.values + cube.offset.values
    assert np.argwhere(np.isfinite(found).all(axis=2)).tolist() == [[0, 0]]
    np.testing.assert_allclose(found[0, 0], encoder(np.array([[-175.0, 85.0]]))[0], atol=1e-3)


def test_encodings_sums_and_seasons(tmp_path: Path) -> None:
    plain = Encoder("xyz", fm.location.create_encoding("cartesian"), "floor")
    with rasterio.open(embed_map(plain, Grid(30.0, nodes=True), tmp_path / "e.tif")) as raster:
        np.testing.assert_allclose(raster.read()[:, 0, 0], [0, 0, 1], atol=1e-7)  # the pole
    seasonal = small(season=True)
    found = {}
    for month in (1.0, 7.0):
        path = embed_map(seasonal, Grid(30.0), tmp_path / f"{month}.tif", month=month)
        found[month] = rasterio.open(path).read()
    assert np.abs(found[1.0] - found[7.0]).max() > 1e-3
    with pytest.raises(UsageError, match="give --month"):
        embed_map(seasonal, Grid(30.0), tmp_path / "f.tif")
    with pytest.raises(UsageError, match="has no season"):
        embed_map(plain, Grid(30.0), tmp_path / "f.tif", month=3)


def _killed(out: Path, when: str) -> None:
    """Embed in a process that dies by SIGKILL at its third piece."""

    def dies(self: Stage, piece: int, values: np.ndarray) -> None:
        if piece == 2 and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        put(self, piece, values)
        if piece == 2 and when == "half":  # the journal has the line, the bytes were lost
            with open(self.folder / "rows.f32", "r+b") as stream:
                stream.seek(self.bounds[2] * self._row)
                stream.write(b"\0" * 40)
            os.kill(os.getpid(), signal.SIGKILL)

    put, Stage.put = Stage.put, dies  # type: ignore[method-assign]
    embed_map(small(), Grid(10.0), out)


@pytest.mark.parametrize("when", ["before", "half"])
def test_a_killed_map_goes_on_to_the_same_file(
    tmp_path: Path, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = embed_map(small(), Grid(10.0), tmp_path / "whole.tif").read_bytes()
    out = tmp_path / "m.tif"
    process = multiprocessing.get_context("fork").Process(target=_killed, args=(out, when))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert not out.exists()
    made = []
    put = Stage.put
    monkeypatch.setattr(Stage, "put", lambda self, n, x: (made.append(n), put(self, n, x)))
    embed_map(small(), Grid(10.0), out)
    assert made == [2, 3, 4, 5]  # of six
    assert out.read_bytes() == whole
    assert not work_folder(out).exists()


def test_a_picture_does_not_refuse_the_same_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Defect: a run that ends while its map is written leaves a picture, which stops the next."""
    monkeypatch.setattr("shards.seeing.land._land", lambda: None)  # its file takes seconds

    def stop(*_: object) -> None:
        raise FMError("enough")

    out, drawn = tmp_path / "m.tif", tmp_path / "m.png"
    with monkeypatch.context() as patch:
        patch.setattr(world.forms, "write", stop)
        with pytest.raises(FMError, match="enough"):
            embed_map(small(), Grid(30.0), out, drawn=drawn)
    embed_map(small(), Grid(30.0), out, drawn=drawn)
    assert drawn.exists()


def test_workers_change_no_byte(tmp_path: Path) -> None:
    one = embed_map(small(), Grid(10.0), tmp_path / "a.tif").read_bytes()
    assert embed_map(small(), Grid(10.0), tmp_path / "b.tif", workers=3).read_bytes() == one


def test_another_job_is_not_mixed_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "m.tif"

    def stop(*_: object) -> None:
        raise FMError("enough")

    with monkeypatch.context() as patch:
        patch.setattr(world.forms, "write", stop)
        with pytest.raises(FMError, match="enough"):
            embed_map(small(), Grid(10.0), out)
    assert stage.kept_bytes(out) >= 4 * 4 * 18 * 36  # counts towards the room that is needed
    with pytest.raises(FMError, match="unfinished result with another model_sha256"):
        embed_map(
            of_module("other", fm.location.create("sh", L=6, width=8, dim=4)), Grid(10.0), out
        )
    other = Encoder("xyz", fm.location.create_encoding("cartesian"), "floor")
    embed_map(other, Grid(10.0), out, overwrite=True)
    assert rasterio.open(out).count == 3
    with pytest.raises(FMError, match="exists already"):
        embed_map(other, Grid(10.0), out)
    with (
        stage.opened(tmp_path / "n.tif", {"a": 1}),
        pytest.raises(FMError, match="another process"),
        stage.opened(tmp_path / "n.tif", {"a": 1}),
    ):
        pass


def test_what_does_not_fit_is_told_before_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, 10**7))
    with pytest.raises(FMError, match=r"are needed there .* 10 MB are free"):
        embed_map(small(), Grid(10.0), tmp_path / "m.tif")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("step", [0.7, 0, -1, 100, 1e-5, float("nan")])
def test_grids_that_do_not_close_are_refused(step: float) -> None:
    with pytest.raises(UsageError, match="divide 180"):
        Grid(step)


def test_areas_are_those_of_the_sphere() -> None:
    for nodes in (False, True):
        grid = Grid(15.0, nodes)
        edges = np.clip(grid.ground.north - 15.0 * np.arange(grid.shape[0] + 1), -90, 90)
        part = -np.diff(np.sin(np.radians(edges)))
        np.testing.assert_allclose(grid.area, part / part.max(), rtol=1e-12)
    assert Grid(0.25).shape == (720, 1440)
    assert Grid(0.25, nodes=True).shape == (721, 1440)


def test_components_are_those_of_the_weighted_covariance() -> None:
    rng = np.random.default_rng(0)
    values = (rng.normal(size=(40, 30, 5)) * [5, 3, 2, 1, 0.5] + 1000).astype(np.float32)
    values[3, 4] = np.nan
    weight = np.cos(np.radians(np.linspace(-80, 80, 40)))
    mean, found, share = picture.components(values, weight)
    flat = values.reshape(-1, 5).astype(np.float64)
    w = np.repeat(weight, 30)
    keep = np.isfinite(flat).all(1)
    flat, w = flat[keep], w[keep]
    np.testing.assert_allclose(mean, np.average(flat, axis=0, weights=w), rtol=1e-12)
    expected = np.cov(flat.T, aweights=w, ddof=0)
    np.testing.assert_allclose(
        found @ expected @ found.T, np.diag(share) * np.trace(expected), atol=1e-6
    )
    assert (found[np.arange(5), np.abs(found).argmax(1)] > 0).all()
    assert share.sum() == pytest.approx(1)
    shown, _ = picture.colours(values, weight)
    assert np.isnan(shown[3, 4]).all()
    inside = shown[np.isfinite(shown[..., 0])]
    assert inside.min() == 0
    assert inside.max() == 1
    low = [(w * (inside[:, n] == 0)).sum() / w.sum() for n in range(3)]
    np.testing.assert_allclose(low, 0.02, atol=0.003)  # of the area, not of the rows


def test_land_alone_and_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    land = np.zeros((1800, 3600), bool)
    land[5, 7] = True  # 89.45 N, 179.25 W
    monkeypatch.setattr("shards.seeing.land._land", lambda: land)
    out, drawn = tmp_path / "m.tif", tmp_path / "m.png"
    embed_map(small(), Grid(10.0), out, land=True, drawn=drawn)
    with rasterio.open(out) as raster:
        known = np.isfinite(raster.read(1))
        assert raster.nodata != raster.nodata  # NaN
    assert np.argwhere(known).tolist() == [[0, 0]]
    assert drawn.read_bytes()[:4] == b"\x89PNG"
    fine = world.land_mask(Grid(0.05))
    assert np.argwhere(fine).tolist() == [[r, c] for r in (10, 11) for c in (14, 15)]
    nodes = world.land_mask(Grid(10.0, nodes=True))
    assert np.argwhere(nodes).tolist() == [[0, 0]]
    monkeypatch.setattr("shards.seeing.land._land", lambda: None)
    with pytest.raises(FMError, match=r"eofm\[geo\]"):
        world.land_mask(Grid(10.0))


def test_numbers_that_a_type_cannot_hold() -> None:
    with pytest.raises(FMError, match="float16 holds 65504"):
        Coding.of("float16", [np.full((2, 3), 1e5)])
    with pytest.raises(FMError, match="no finite"):
        Coding.of("int8", [np.full((2, 3), np.nan)])
    coding = Coding.of("int8", [np.array([[0.0, 5.0], [1.0, 5.0], [np.nan, np.nan]])])
    assert coding(np.array([[0.0, 5.0], [1.0, 5.0], [np.nan, 5.0]])).tolist() == [
        *([-127, 0], [127, 0], [-128, 0])
    ]


def test_the_verb(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shards.seeing.land._land", lambda: None)  # its file takes seconds
    folder, out = tmp_path / "location", tmp_path / "m.tif"
    made = fm.location.create("sh", L=4, width=8, dim=4, depth=1)
    fm.location.save(folder, made, {"name": "by-name"})
    words = ["embed", str(folder), "--grid", "30", "--out", str(out)]
    assert main([*words, "--picture", str(tmp_path / "m.png")]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    assert rasterio.open(out).tags()["EOFM_MODEL"] == "by-name"
    for more, text in (
        ([], "exists already"),
        (["--overwrite", "--dtype", "float8"], "float32, float16, int8"),
        (["--overwrite", "--where", "x"], "--where is not for places"),
        (["--overwrite", "--workers", "0"], "from 1"),
        (["--overwrite", "--picture", "m.jpg"], ".png"),
    ):
        assert main([*words, *more]) != 0
        told = capsys.readouterr().err.strip()
        assert text in told
        assert "\n" not in told
    assert main(["embed", "location:nonsense", "--grid", "30", "--out", "a.tif"]) == 2
    assert main(["embed", str(folder), "--grid", "30", "--out", "a.nc"]) == 2
    assert main(["embed", str(folder), "--out", "a.tif"]) == 2
    assert main(["embed", str(folder), "ds", "--nodes", "--out", "a.parquet"]) == 2
    assert main(["embed", str(folder), "ds", "--grid", "3", "--out", "a.parquet"]) == 2


def test_metadata_is_plain(tmp_path: Path) -> None:
    path = embed_map(small(), Grid(30.0), tmp_path / "m.zarr")
    told = json.loads((path / "zarr.json").read_text())["attributes"]
    assert told["places"] == "cells: their centres"
