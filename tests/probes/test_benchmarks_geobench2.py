"""GEO-Bench-2: bands by their own names, whatever the authors' package calls them."""

from pathlib import Path

import numpy as np
import pytest

from fm.errors import FMError
from probes.benchmarks import geobench_v2, tortilla
from probes.benchmarks.declare import Declaration
from probes.benchmarks.geobench2 import Samples
from probes.benchmarks.geobench_v1 import L2A
from probes.benchmarks.geobench_v2 import DECLARATIONS
from tests.probes.layouts import tortilla as layout
from tests.probes.layouts.scene import codes, colour, optical, radar
from tests.probes.layouts.witness import declared

SPLITS = ("train", "test", "validation", "train", "validation", "test")
COUNTS = {"train": 2, "val": 2, "test": 2}
OURS = ["train", "test", "val", "train", "val", "test"]
TASKS = {one.name: one for one in DECLARATIONS}
LABELS = ["Pastures", "Arable land", "Marine waters", "Mixed forest"]
TREES = ["Picea", "Abies", "Tilia", "Fagus"]
SIX = (np.arange(304) * 6) // 304


def places(n: int) -> dict[str, float]:
    return {"lon": 10.5 + n, "lat": -40.25 + n}


def vh_first(n: int) -> np.ndarray:
    """VH at -18 dB, VV at -11 dB."""
    return radar(2, 120, 120, n)[::-1]


def infrared_first(n: int) -> np.ndarray:
    data = colour(4, 304, 304, n)
    return np.concatenate([data[:1], data[1:] // 2])


def repeated(n: int) -> np.ndarray:
    return optical(geobench_v2.TREES_S2.file_bands, 6, 6, n)[:, SIX[:, None], SIX]


def parts_of_waves(n: int) -> np.ndarray:
    """Real parts of VH and VV, of double width."""
    return np.random.default_rng(n).normal(0, 1, (2, 32, 32)) * [[[0.2]], [[0.5]]]


def exchanged(n: int) -> np.ndarray:
    data = colour(6, 332, 332, n)
    data[[0, 1, 2, 4, 5]] //= 3
    return np.ascontiguousarray(np.swapaxes(data, 1, 2))


def picture(n: int) -> np.ndarray:
    return np.concatenate([colour(3, 512, 512, n), np.full((1, 512, 512), 255, np.uint8)])


def scars(n: int) -> np.ndarray:
    return (optical(geobench_v2.SCARS.file_bands, 512, 512, n) * 1e-4).astype(np.float32)


def zones_s2(n: int) -> np.ndarray:
    return optical(geobench_v2.ZONES_S2.file_bands, 32, 32, n) * 1e-4


def benv2(n: int) -> dict:
    name = f"S2A_MSIL2A_20180529T115401_N9999_R023_T29UN{'ABC'[n // 2]}_88_{n}"
    return {"labels": LABELS[n % 3 : n % 3 + 2], "patch_id": name, **places(n)}


MAKERS = {
    "benv2": {
        "parts": {"s1": vh_first, "s2": lambda n: optical(L2A, 120, 120, n)},
        "row": benv2,
    },
    "treesatai": {
        "parts": {
            "aerial": infrared_first,
            "s1": lambda n: np.full((3, 304, 304), 65529, np.uint16),
            "s2": repeated,
        },
        "row": lambda n: {"species_labels": TREES[n % 3 :], "dist_labels": [1.0], **places(n)},
    },
    "so2sat": {
        "parts": {"s1": parts_of_waves, "s2": zones_s2},
        "row": lambda n: {"labels": geobench_v2.ZONES[3 * n], "patch_id": f"id_{n}"},
    },
    "forestnet": {
        "parts": {"image": exchanged},
        "row": lambda n: {
            "labels": geobench_v2.REASONS[2 * n],
            "patch_id": f"{n}_-1.5_{100 + n // 2}.25_2016_0{n + 1}_01",
            **places(n),
        },
    },
    "burn_scars": {
        "parts": {
            "image": scars,
            "label": lambda n: (codes(2, 512, 512, n) - 1).astype(np.int16)[None],
        },
        "row": places,
    },
    "flair2": {
        "parts": {
            "aerial": lambda n: colour(5, 512, 512, n),
            "mask": lambda n: (codes(18, 512, 512, n) + 1).astype(np.uint8)[None],
        },
        "row": lambda n: {"domain": f"D0{n // 2}_2018", **places(n)},
    },
    "spacenet7": {
        "parts": {
            "images": picture,
            "mask": lambda n: codes(1, 512, 512, n).astype(np.uint8)[None],
        },
        "row": lambda n: {"aoi": f"L15-{n // 3}", **places(n)},
    },
}


def of(one: Declaration) -> str:
    """The data set of a declaration."""
    return one.layout.removeprefix("geobench_").removesuffix(".tortilla")


def write(root: Path, name: str, **parts: object) -> Path:
    maker = MAKERS[name]
    rows = [maker["row"](n) for n in range(len(SPLITS))]
    made = {**maker["parts"], **parts}
    return layout.write(root / f"geobench_{name}.tortilla", made, rows, SPLITS).parent


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Write a data set, once."""
    root, there = tmp_path_factory.mktemp("geobench2"), {}

    def make(name: str) -> Path:
        if name not in there:
            there[name] = write(root / name, name)
        return there[name]

    return make


def load(name: str, folder: Path):
    one = TASKS[name]
    return declared(DECLARATIONS, name, **(COUNTS if one.published else {})).load(folder)


@pytest.mark.parametrize("name", list(TASKS))
def test_every_band_and_class_is_the_one_it_is_called(name, made):
    """Against what was written, by the fixture's own knowledge of which band stands where."""
    one, maker = TASKS[name], MAKERS[of(TASKS[name])]
    data = load(name, made(of(one)))
    assert data.shards.tolist() == [f"sample_{1000 + n}" for n in range(6)]
    assert one.holdout is not None or data.split.tolist() == OURS
    read = data.read(np.arange(6))
    for array in one.arrays:
        for n in range(6):
            raw = maker["parts"][array.source](n)
            if raw is not None and array is geobench_v2.TREES_S2:
                raw = optical(array.file_bands, 6, 6, n)
            if array is geobench_v2.LOSS:
                raw = np.swapaxes(raw, 1, 2)
            for band, plane in zip(
                data.bands[array.modality], read.pixels[array.modality][n], strict=True
            ):
                wanted = raw[array.file_bands.index(band)]
                np.testing.assert_array_equal(plane, wanted.astype(plane.dtype))
    rows = [maker["row"](n) for n in range(6)]
    if one.task == "segmentation":
        maps = data.maps(np.arange(6))
        stored = np.stack([list(maker["parts"].values())[1](n)[0] for n in range(6)]).astype(int)
        wanted = {"flair2": np.minimum(stored, 13) - 1}.get(of(one), stored)
        np.testing.assert_array_equal(maps, wanted)
    elif one.task == "class":
        assert [data.classes[n] for n in data.targets] == [row["labels"] for row in rows]
    else:
        column = "species_labels" if of(one) == "treesatai" else "labels"
        got = [{data.classes[k] for k in np.flatnonzero(t)} for t in data.targets]
        assert got == [set(row[column]) for row in rows]
    if "lon" in rows[0]:
        wanted = [[row["lon"], row["lat"]] for row in rows]
        assert data.lonlat(np.arange(6)).tolist() == wanted
    else:
        assert data.lonlat is None


@pytest.mark.parametrize("name", list(MAKERS))
def test_the_publishers_reader_reads_the_same_files_alike(name, made):
    """tacoreader is no dependency; here wherever it is installed."""
    reader = pytest.importorskip("tacoreader.v1")
    import rasterio

    path = made(name) / f"geobench_{name}.tortilla"
    items = tortilla.contents(path)
    ours, theirs = Samples(path, items), reader.load(str(path))
    assert list(theirs["tortilla:id"]) == [item.name for item in items]
    for n in range(len(items)):
        inside = theirs.read(n)
        assert list(inside["tortilla:id"]) == list(MAKERS[name]["parts"])
        for place, part in enumerate(inside["tortilla:id"]):
            with rasterio.open(inside.read(place)) as file:
                np.testing.assert_array_equal(ours.part(n, part), file.read())


def test_blocks_are_the_scenes_and_squares(made):
    for name, blocks in (
        ("gb2-benv2-s2", 3),
        ("gb2-forestnet", 3),
        ("gb2-flair2", 3),
        ("gb2-spacenet7", 2),
        ("gb2-treesatai-s2", 6),
    ):
        assert len(set(load(name, made(of(TASKS[name]))).unit.tolist())) == blocks, name
    rows = [{"lon": lon, "lat": 1.5} for lon in (0.1, 0.9, 1.0, -0.1, -0.9, -1.1)]
    squares = [geobench_v2.square(row) for row in rows]
    assert squares == ["1 0", "1 0", "1 1", "1 -1", "1 -1", "1 -2"]


def test_a_square_of_burn_scars_is_not_divided(tmp_path):
    rows = [{"lon": n // 2 + 0.25 + n % 2 / 2, "lat": 40.5} for n in range(12)]
    layout.write(
        tmp_path / "geobench_burn_scars.tortilla",
        MAKERS["burn_scars"]["parts"],
        rows,
        SPLITS * 2,
    )
    one = declared(DECLARATIONS, "gb2-burn-scars-block", train=4, val=4, test=4)
    data = one.load(tmp_path)
    assert {len(set(data.split[data.unit == unit])) for unit in set(data.unit.tolist())} == {1}
    assert len(set(data.unit.tolist())) == 6
    assert set(data.split) == {"train", "val", "test"}


@pytest.mark.parametrize(
    ("name", "parts", "message"),
    [
        (  # as the authors' package names them
            "gb2-benv2-s1",
            {"s1": lambda n: radar(2, 120, 120, n)},
            r"mean\(VV\) is -1[78].*, of VH -1[01].*, expected less; the bands are in another",
        ),
        (
            "gb2-treesatai-aerial",
            {"aerial": lambda n: infrared_first(n)[[3, 1, 2, 0]]},
            r"mean\(NIR\) is \d+.*, of R \d+.*, expected less",
        ),
        (
            "gb2-so2sat-s1s2",
            {"s1": lambda n: parts_of_waves(n)[::-1]},
            r"std\(VV_re\) is 0\.(2|19).*, of VH_re 0\.(5|49).*, expected less",
        ),
        (
            "gb2-spacenet7",
            {"images": lambda n: colour(4, 512, 512, n)},
            r"sample_1000: images: its fourth plane is no alpha of 0 or 255",
        ),
        (
            "gb2-treesatai-s2",
            {"s2": lambda n: optical(geobench_v2.TREES_S2.file_bands, 304, 304, n)},
            r"s2: 304 x 304 pixels, expected 6 x 6 repeated to 304 x 304",
        ),
        (
            "gb2-benv2-s2",
            {"s2": lambda n: optical(L2A, 120, 120, n)[:, :60]},
            r"sample_1000: uint16 12 x 60 x 120 for s2l2a_10, expected uint16 12 x 120 x 120",
        ),
        (
            "gb2-burn-scars",
            {"image": lambda n: scars(n) * 1e4},
            r"B02 has a median of .* in reflectance; the stored numbers have another scale",
        ),
        (
            "gb2-burn-scars",
            {"label": lambda n: np.full((1, 512, 512), 2, np.int16)},
            r"label: holds 2 to 2, expected -1, 0 and 1",
        ),
        (
            "gb2-flair2",
            {"mask": lambda n: np.zeros((1, 512, 512), np.uint8)},
            r"mask: its map holds 0, which is no class",
        ),
        (
            "gb2-flair2",
            {"mask": lambda n: np.full((1, 512, 512), 1.5, np.float32)},
            r"mask: float32 of 1 bands, expected a map",
        ),
    ],
)
def test_pixels_of_another_order_or_unit_are_refused(tmp_path, name, parts, message):
    folder = write(tmp_path, of(TASKS[name]), **parts)
    with pytest.raises(FMError, match=message) as caught:
        load(name, folder)
    assert "\n" not in str(caught.value)


def wrong(root: Path, splits: tuple = SPLITS, parts: dict | None = None, **columns: object) -> Path:
    """So2Sat with columns of every row replaced."""
    rows = [{**MAKERS["so2sat"]["row"](n), **columns} for n in range(6)]
    path = root / "geobench_so2sat.tortilla"
    return layout.write(path, parts or MAKERS["so2sat"]["parts"], rows, splits).parent


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": "Moon"}, r"sample_1000: 'Moon' is no class of this data set"),
        ({"labels": 3}, r"sample_1000: labels is 3, expected names of classes"),
        ({"splits": ("extra",) * 6}, r"sample_1000 is TORTILLA in the split 'extra', expected"),
        ({"splits": ("train",) * 6}, r"6 samples in train, the published list of gb2-so2sat-s2@1"),
        ({"parts": {"s1": parts_of_waves}}, r"sample_1000 holds s1, expected one s2; take"),
    ],
)
def test_what_is_not_the_published_tortilla_is_refused(tmp_path, changes, message):
    folder = wrong(tmp_path, **changes)
    with pytest.raises(FMError, match=message) as caught:
        load("gb2-so2sat-s2", folder)
    assert "\n" not in str(caught.value)


def test_a_missing_file_scene_or_place_is_one_line(tmp_path):
    with pytest.raises(FMError, match=r"geobench_so2sat\.tortilla: cannot be read"):
        load("gb2-so2sat-s2", tmp_path)
    rows = [{"aoi": f"{n}"} for n in range(6)]
    parts = {"images": lambda n: np.zeros((4, 16, 16), np.uint8)}
    layout.write(tmp_path / "geobench_spacenet7.tortilla", parts, rows, SPLITS)
    with pytest.raises(FMError, match=r"its table tells no scene or place of every sample"):
        load("gb2-spacenet7", tmp_path)
