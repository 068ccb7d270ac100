import pickle
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fm.errors import FMError, UsageError
from fm.sensors import Band
from shards.building.declare import Declared
from shards.codecs.quantise import LIMIT_DB, NODATA, decibels, quantised
from shards.sample import Sample
from shards.sources.base import Content

S1 = {"s1grd_10": Declared("sentinel1-grd", ("VV", "VH"))}
S2 = {"s2l1c_10": Declared("sentinel2-l1c", ("B02",))}

values = st.one_of(st.floats(-LIMIT_DB, LIMIT_DB, width=32), st.just(float("nan")))


@given(
    hnp.arrays(np.float32, hnp.array_shapes(min_dims=1, max_dims=4, max_side=9), elements=values)
)
@settings(max_examples=60, deadline=None)
def test_the_error_is_at_most_half_a_step(array: np.ndarray) -> None:
    stored = quantised(array, "x")
    assert stored.dtype == np.int16
    missing = np.isnan(array)
    assert np.array_equal(stored == NODATA, missing)
    back = stored.astype(np.float64) * 0.01
    error = np.abs(back - array.astype(np.float64))[~missing]
    assert error.max(initial=0.0) <= 0.005 + 1e-12  # the last term: 0.01 is no binary fraction


def test_every_step_comes_back_as_itself() -> None:
    steps = np.arange(-32700, 32701)
    for dtype in (np.float32, np.float64):
        assert np.array_equal(quantised((steps * 0.01).astype(dtype), "x"), steps)


def test_halves_go_to_even() -> None:
    # 0.125 dB is 12.5 steps, to the last bit of a float64
    array = np.array([0.125, 0.375, -0.125, -0.375, 0.625])
    assert quantised(array, "x").tolist() == [12, 38, -12, -38, 62]


@pytest.mark.parametrize("value", [327.02, -327.02, 1e9, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_no_decibel_is_refused_not_clipped(value: float, dtype: type) -> None:
    array = np.zeros((2, 3, 3), dtype)
    array[1, 2, 0] = value
    with pytest.raises(FMError, match="beyond"):
        quantised(array, "sample a: s1grd_10")


def make(dtype: str, task: int) -> Sample:
    rng = np.random.default_rng(task)
    array = rng.normal(-12, 5, (2, 8, 8)).astype(dtype)
    if array.dtype.kind == "f":
        array[0, 0, :3] = np.nan
    return Sample(f"s{task}", {"s1grd_10": array, "s2l1c_10": np.full((1, 8, 8), 3, np.uint16)})


def test_a_content_is_quantised_where_it_is_in_decibels() -> None:
    before = Content("c", range(3), partial(make, "float32"), S1 | S2, {"a": 1}, "CC0-1.0")
    after = decibels(before)
    pickle.loads(pickle.dumps(after.make))  # it runs in other processes
    declared = after.modalities["s1grd_10"]
    assert (declared.scale, declared.offset, declared.nodata) == (0.01, 0.0, -32768)
    assert after.modalities["s2l1c_10"] == S2["s2l1c_10"]
    assert after.provenance == {"a": 1, "quantised": {"s1grd_10": "int16 of 0.01 dB"}}
    for old, new in zip(before.samples(), after.samples(), strict=True):
        stored = new.arrays["s1grd_10"]
        assert (stored[0, 0, :3] == -32768).all()
        assert np.nanmax(np.abs(stored * 0.01 - old.arrays["s1grd_10"])[1]) <= 0.00501
        assert np.array_equal(new.arrays["s2l1c_10"], old.arrays["s2l1c_10"])


def test_linear_power_and_integers_are_refused_in_words() -> None:
    with pytest.raises(UsageError, match=r"no modality is in dB \(s2l1c_10 in reflectance\)"):
        decibels(Content("c", range(1), partial(make, "float32"), S2, {}, "x"))
    linear = (Band("VV", None, None, 10.0, "power", "VV"), Band("VH", None, None, 10.0, "power"))
    power = {"s1": Declared("mine", ("VV", "VH"), 1.0, 0.0, table=linear)}
    with pytest.raises(UsageError, match="linear power is converted first"):
        decibels(Content("c", range(1), partial(make, "float32"), power, {}, "x"))
    table = (Band("VV", None, None, 10.0, "dB", "VV"), Band("angle", None, None, 10.0, "degree"))
    mixed = {"s1": Declared("mine", ("VV", "angle"), 1.0, 0.0, table=table)}
    with pytest.raises(UsageError, match="mixes units"):
        decibels(Content("c", range(1), partial(make, "float32"), mixed, {}, "x"))
    integers = decibels(Content("c", range(1), partial(make, "int16"), S1, {}, "x"))
    with pytest.raises(FMError, match=r"sample s0: s1grd_10 is int16, expected floating dB"):
        list(integers.samples())
