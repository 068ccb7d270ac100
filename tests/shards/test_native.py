import pickle
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

import fm.sensors
from fm.errors import FMError, UsageError
from shards.building.declare import Declared
from shards.codecs.native import FACTORS, copy_factor, is_copied, native_grids
from shards.sample import Sample
from shards.sources.base import Content, Skip

BANDS = tuple(band.name for band in fm.sensors.sensor("sentinel2-l1c").bands)
GSD = {band.name: int(band.gsd_m) for band in fm.sensors.sensor("sentinel2-l1c").bands}


def upsampled(seed: int, side: int = 24, times: int = 0) -> np.ndarray:
    """Thirteen bands on one 10 m grid, the coarse ones by copying: [13, H, W] or [T, 13, H, W]."""
    rng = np.random.default_rng(seed)
    bands = []
    for name in BANDS:
        k = GSD[name] // 10
        native = rng.integers(0, 10000, (max(times, 1), side // k, side // k)).astype(np.uint16)
        bands.append(native.repeat(k, -2).repeat(k, -1))
    array = np.stack(bands, axis=1)
    return array if times else array[0]


def make(times: int, wrong: int | None, task: int) -> Sample:
    if task == 1:
        raise Skip("too cloudy")
    array = upsampled(task, times=times)
    if task == wrong:
        array[..., BANDS.index("B11"), 7, 5] ^= 1
    mask = np.zeros((24, 24), np.uint8)
    return Sample(f"s{task}", {"s2l1c": array, "label": mask}, window=(0, 0, 24, 24))


def content(times: int = 0, wrong: int | None = None, **changes: object) -> Content:
    declared = {"sensor": "sentinel2-l1c", "bands": BANDS, "gsd_m": 10.0, "nodata": 0} | changes
    modalities = {"s2l1c": Declared(**declared)}  # type: ignore[arg-type]
    return Content("c", range(9), partial(make, times, wrong), modalities, {"a": 1}, "CC0-1.0")


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64"])
@pytest.mark.parametrize("factor", [*FACTORS, 1])
def test_the_factor_is_found(factor: int, dtype: str) -> None:
    rng = np.random.default_rng(factor)
    native = rng.integers(0, 200, (12 // factor * 3, 24 // factor)).astype(dtype)
    band = native.repeat(factor, 0).repeat(factor, 1)
    assert copy_factor(band) == factor
    assert copy_factor(np.stack([band, band])) == factor


def test_one_pixel_of_one_block_decides() -> None:
    band = np.arange(16).reshape(4, 4).repeat(6, 0).repeat(6, 1).astype(np.uint16)
    for at in ((0, 0), (23, 23), (11, 6), (6, 11)):
        changed = band.copy()
        changed[at] += 1
        assert copy_factor(band) == 6
        assert copy_factor(changed) == 1


@pytest.mark.parametrize("axis", [0, 1])
def test_copies_along_one_axis_are_none(axis: int) -> None:
    native = np.random.default_rng(0).integers(0, 9999, (24, 24))
    assert copy_factor(native.repeat(6, axis)) == 1


def test_copies_that_are_shifted_are_none() -> None:
    band = np.arange(25).reshape(5, 5).repeat(6, 0).repeat(6, 1)
    assert copy_factor(band[6:, 6:]) == 6
    assert copy_factor(band[2:26, 2:26]) == 2  # cut at an even pixel: pairs are left
    assert copy_factor(band[1:25, 1:25]) == 1


def test_sides_that_are_no_multiples_are_no_copies() -> None:
    assert not is_copied(np.ones((12, 13)), 2)
    assert copy_factor(np.ones((7, 5))) == 1


def test_bits_are_compared_not_values() -> None:
    nan = np.full((6, 6), np.nan, np.float32)
    assert copy_factor(nan) == 6
    zero = np.zeros((6, 6), np.float32)
    zero[3, 3] = -0.0
    assert copy_factor(zero) == 1


@pytest.mark.parametrize("times", [0, 3])
def test_native_grids_and_back_is_bit_exact(times: int) -> None:
    before = content(times)
    after = native_grids(before)
    assert list(after.modalities) == ["s2l1c_10", "s2l1c_20", "s2l1c_60"]
    pickle.loads(pickle.dumps(after.make))  # it runs in other processes
    assert after.provenance["native_grids"] == {
        "s2l1c": {"s2l1c_10": 1, "s2l1c_20": 2, "s2l1c_60": 6}
    }
    table = fm.sensors.sensor("sentinel2-l1c").modalities
    for name, declared in after.modalities.items():
        assert declared.bands == tuple(band.name for band in table[name])
        assert declared.gsd_m == table[name][0].gsd_m
        assert declared.nodata == (0,) * len(declared.bands)
    for old, new in zip(before.samples(), after.samples(), strict=True):
        assert new.key == old.key
        assert new.arrays["label"] is not None
        assert new.window == old.window
        back = np.empty_like(old.arrays["s2l1c"])
        for name, declared in after.modalities.items():
            k = int(declared.gsd_m or 0) // 10
            native = new.arrays[name]
            assert native.shape[-1] == 24 // k
            places = [BANDS.index(band) for band in declared.bands]
            back[..., places, :, :] = native.repeat(k, -2).repeat(k, -1)
        assert np.array_equal(back, old.arrays["s2l1c"])
        size = sum(new.arrays[name].nbytes for name in after.modalities)
        assert back.nbytes / size == pytest.approx(13 / (4 + 6 / 4 + 3 / 36))


def test_each_sample_is_verified_when_it_is_made() -> None:
    late = native_grids(content(wrong=7))  # not among those that are probed
    with pytest.raises(FMError, match=r"sample s7: s2l1c: band B11 .*without --native-grids"):
        list(late.samples())


def test_a_product_without_copies_stops_before_the_build() -> None:
    with pytest.raises(FMError, match=r"sample s2: .*band B11"):
        native_grids(content(wrong=2))


def odd(task: int) -> Sample:
    return Sample("odd", {"s2l1c": np.zeros((13, 16, 12), np.uint16)})


def test_sizes_that_are_no_multiples_are_refused() -> None:
    plain = content()
    with pytest.raises(FMError, match=r"16 x 12 pixels, no multiple of the 6 x 6 copies of B01"):
        native_grids(Content("c", [0], odd, plain.modalities, {}, "x"))


def test_what_cannot_be_split_is_refused_in_words() -> None:
    one = {"s2l1c_10": Declared("sentinel2-l1c", ("B02", "B03"))}
    with pytest.raises(UsageError, match="no modality holds bands of a coarser grid"):
        native_grids(Content("c", [0], odd, one, {}, "x"))
    with pytest.raises(UsageError, match="no whole number of its pixels"):
        native_grids(content(gsd_m=8.0))
    with pytest.raises(UsageError, match="no band of s2l1c was measured at 5 m"):
        native_grids(content(gsd_m=5.0))
    # a modality on one grid is none of its business, whatever that grid is
    radar = {"s1": Declared("sentinel1-grd", ("VV", "VH"), gsd_m=7.0)}
    beside = replace(content(), modalities={**content().modalities, **radar})
    assert "s1" in native_grids(beside).modalities
    taken = content()
    modalities = {**taken.modalities, "s2l1c_20": Declared("sentinel2-l1c", ("B05",))}
    with pytest.raises(UsageError, match=r"s2l1c_20.* there already"):
        native_grids(Content("c", [0], odd, modalities, {}, "x"))
