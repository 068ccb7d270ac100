import json

import numpy as np
import pytest

from fm.errors import FMError, UsageError
from fm.normalize import KINDS, Normalisation
from fm.sensors import modality_bands
from fm.statistics import Statistics

STATISTICS = {
    "mean": [0.1, -12.0],
    "std": [0.02, 3.0],
    "min": [0.0, -40.0],
    "max": [0.5, 5.0],
    "p2": [0.03, -20.0],
    "p98": [0.4, -3.0],
}


def reference(kind, x, band):
    s = {key: values[band] for key, values in STATISTICS.items()}
    if kind == "zscore":
        return (x - s["mean"]) / s["std"]
    if kind == "clip_sigma":
        return np.clip((x - (s["mean"] - 2 * s["std"])) / (4 * s["std"]), 0, 1)
    if kind == "divide":
        return x / max(abs(s["min"]), abs(s["max"]))
    return np.clip((x - s["p2"]) / (s["p98"] - s["p2"]), 0, 1)


@pytest.fixture
def pixels():
    rng = np.random.default_rng(0)
    return np.stack([rng.uniform(0, 0.5, (3, 5)), rng.uniform(-40, 5, (3, 5))])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("band_axis", [0, 1, -1])
def test_formulas_against_float64(kind, band_axis, pixels):
    made = Normalisation.fit(kind, STATISTICS)
    result = made(np.moveaxis(pixels, 0, band_axis), band_axis=band_axis)
    assert result.dtype == np.float32
    expected = np.stack([reference(kind, pixels[band], band) for band in range(2)])
    # One float32 rounding of x, shift and scale each; zscore values reach 20.
    np.testing.assert_allclose(np.moveaxis(result, band_axis, 0), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_tensors_get_the_same_numbers(kind, pixels):
    torch = pytest.importorskip("torch")
    made = Normalisation.fit(kind, STATISTICS)
    x = pixels.astype(np.float32)
    result = made(torch.from_numpy(x)[None], band_axis=1)
    assert result.dtype == torch.float32
    np.testing.assert_allclose(result[0].numpy(), made(x, band_axis=0), rtol=1e-6, atol=1e-7)
    half = made(torch.from_numpy(x).to(torch.bfloat16), band_axis=0)
    assert half.dtype == torch.float32, "normalisation is float32 whatever the input"
    with pytest.raises(FMError, match="scale and offset"):
        made(torch.zeros(2, 3, 5, dtype=torch.uint16), band_axis=0)


def test_invalid_pixels_stay_visible(pixels):
    pixels[0, 0, 0] = np.nan
    for kind in KINDS:
        result = Normalisation.fit(kind, STATISTICS)(pixels, band_axis=0)
        assert np.isnan(result).sum() == 1


def test_identity_and_select_and_json(pixels):
    np.testing.assert_array_equal(
        Normalisation.identity(2)(pixels, band_axis=0), pixels.astype(np.float32)
    )
    made = Normalisation.fit("clip_sigma", STATISTICS)
    again = Normalisation.from_dict(json.loads(json.dumps(made.to_dict())))
    assert again == made
    np.testing.assert_array_equal(
        made.select([1, 0])(pixels[::-1], band_axis=0), made(pixels, band_axis=0)[::-1]
    )
    with pytest.raises(FMError, match="no band 2"):
        made.select([2])


def test_stored_numbers_and_wrong_bands_are_refused(pixels):
    made = Normalisation.fit("zscore", STATISTICS)
    with pytest.raises(FMError, match="scale and offset"):
        made(np.zeros((2, 4, 4), np.uint16), band_axis=0)
    with pytest.raises(FMError, match=r"2 bands got shape \[3, 4, 4\]"):
        made(np.zeros((3, 4, 4), np.float32), band_axis=0)


def test_constant_bands_are_named():
    flat = STATISTICS | {"std": [0.02, 0.0], "p98": [0.4, -20.0]}
    for kind in ("zscore", "clip_sigma", "percentile"):
        with pytest.raises(FMError, match="'VH' does not vary"):
            Normalisation.fit(kind, flat, bands=modality_bands("s1grd_10"))
    with pytest.raises(FMError, match=r"band 1 \(counted from 0\) does not vary"):
        Normalisation.fit("zscore", flat)
    with pytest.raises(FMError, match="does not vary"):
        Normalisation("divide", (0.0,), (0.0,))
    with pytest.raises(FMError, match="'VV' are not finite"):
        Normalisation.fit("zscore", STATISTICS | {"mean": [float("nan"), 0.0]}, ["VV", "VH"])


def test_wrong_counts_and_kinds_are_named():
    with pytest.raises(FMError, match=r"1 values of 'std' for 2 bands .*'VH'"):
        Normalisation.fit("zscore", STATISTICS | {"std": [1.0]}, bands=["VV", "VH"])
    with pytest.raises(FMError, match="2 values of 'mean' for 3 bands"):
        Normalisation.fit("zscore", STATISTICS, bands=["a", "b", "c"])
    with pytest.raises(FMError, match="needs the statistic 'p98'"):
        Normalisation.fit("percentile", {"p2": [0.0]})
    with pytest.raises(UsageError, match="did you mean 'zscore'"):
        Normalisation.fit("zscores", STATISTICS)
    with pytest.raises(FMError, match="kind, shift, scale"):
        Normalisation.from_dict({"kind": "zscore", "mean": [0.0], "std": [1.0]})


def test_fit_takes_what_statistics_give():
    rng = np.random.default_rng(4)
    x = rng.normal([[5.0], [-3.0]], [[2.0], [0.1]], (2, 5000))
    statistics = Statistics(["a", "b"])
    statistics.update(x)
    z = Normalisation.fit("zscore", json.loads(json.dumps(statistics.to_dict())))(x, band_axis=0)
    np.testing.assert_allclose(z.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(z.std(axis=1), 1, atol=1e-5)
