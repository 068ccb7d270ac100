"""Estimates of a model's bands from others: closed forms, refusals, pixels."""

import numpy as np
import pytest
import torch
from hypothesis import given as examples
from hypothesis import settings
from hypothesis import strategies as st

from fm.adapt import POLICIES, estimate
from fm.errors import UsageError
from fm.sensors import Band, sensor
from fm.spectral import SIGMA, overlap, response

S2 = sensor("sentinel2-l2a").bands
L8 = sensor("landsat8-oli-l2").bands
ENMAP = sensor("enmap-l2a").bands
RADAR = sensor("sentinel1-grd").bands


def band(name: str, nm: float | None, width: float | None = 20.0, **more) -> Band:
    return Band(name, nm, width, 30.0, more.pop("unit", "reflectance"), **more)


def test_overlap_is_the_integral_of_the_product_of_two_gaussians() -> None:
    a, b = [band("a", 660.0, 30.0), band("b", 700.0, 90.0)], [band("c", 665.0, 60.0)]
    found, share = overlap(a, b)
    at = np.linspace(0.0, 2000.0, 400_001)

    def gaussian(one: Band) -> np.ndarray:
        sigma = one.fwhm_nm / SIGMA
        return np.exp(-0.5 * ((at - one.wavelength_nm) / sigma) ** 2) / (sigma * (2 * np.pi) ** 0.5)

    want = [np.trapezoid(gaussian(x) * gaussian(b[0]), at) for x in a]
    np.testing.assert_allclose(found[0], want, rtol=1e-9)
    variance = (np.array([30.0, 90.0]) ** 2 + 60.0**2) / SIGMA**2
    np.testing.assert_allclose(share[0], np.exp(-0.5 * np.array([5.0, 35.0]) ** 2 / variance))
    # half of each width between the centres is apart
    assert overlap([band("x", 619.9, 30.0)], b)[0][0, 0] == 0
    assert overlap([band("x", 620.1, 30.0)], b)[0][0, 0] > 0


def test_overlap_of_narrow_bands_is_what_response_samples() -> None:
    narrow = [band(f"n{i}", 600.0 + 0.5 * i, 0.1) for i in range(300)]
    wide = [band("w", 675.0, 30.0)]
    rows, want = overlap(narrow, wide)[0][0], response(narrow, wide)[0]
    inside = rows > 0
    assert inside.sum() == 61  # the centres within 15 nm and half of 0.1 nm
    np.testing.assert_allclose(rows[inside] / rows.max(), want[inside] / want.max(), rtol=1e-4)


@examples(
    st.lists(st.floats(400, 2400), min_size=1, max_size=12, unique=True),
    st.lists(st.floats(400, 2400), min_size=1, max_size=12, unique=True),
    st.sampled_from(["nearest", "response"]),
)
@settings(max_examples=60, deadline=None)
def test_a_flat_spectrum_is_estimated_without_error(known, given, policy) -> None:
    one = estimate(
        [band(f"k{nm}", nm) for nm in known],
        [band(f"g{nm}", nm, 60.0) for nm in given],
        policy=policy,
        tolerance_nm=40.0 if policy == "nearest" else None,
        beyond="zero",
    )
    rows = one.matrix.sum(axis=1)
    lost = [b.name for b in one.dropped]
    np.testing.assert_allclose(rows, [b.name not in lost for b in one.known], atol=1e-12)
    assert (one.matrix >= 0).all()


def test_a_linear_spectrum_is_off_by_its_slope_times_what_the_report_says() -> None:
    one = estimate(S2, L8, policy="response", beyond="zero")
    at = np.array([b.wavelength_nm for b in L8])
    found = one.matrix @ (0.1 + 2e-4 * at)
    off = one.off_nm()
    assert set(off) == {"B01", "B02", "B03", "B04", "B08", "B8A", "B11", "B12"}
    for i, b in enumerate(S2):
        if b.name in off:
            want = 0.1 + 2e-4 * (b.wavelength_nm + off[b.name])
            assert found[i] == pytest.approx(want, abs=2e-7)
    # and two bands as far above as below are exact
    two = estimate([band("x", 600.0)], [band("a", 585.0), band("b", 615.0)], policy="response")
    np.testing.assert_allclose(two.matrix, [[0.5, 0.5]])
    assert two.off_nm() == {"x": 0.0}


def test_sentinel_2_from_landsat_8_and_from_a_spectrometer() -> None:
    one = estimate(S2, L8, policy="response")
    assert [b.name for b in one.dropped] == ["B05", "B06", "B07", "B09"]
    rows = {row["band"]: row["from"] for row in one.rows()}
    assert [s["band"] for s in rows["SR_B5"]] == ["B08", "B8A"]
    near = rows["SR_B5"][1]
    assert near["weight"] == 1.0
    assert near["distance_nm"] == pytest.approx(-0.03, abs=0.011)
    assert near["overlap"] == pytest.approx(1.0, abs=1e-3)
    assert rows["SR_B5"][0]["overlap"] == pytest.approx(
        np.exp(-0.5 * 31.87**2 / ((106**2 + 28.25**2) / SIGMA**2)), abs=1e-3
    )
    fine = estimate(S2, ENMAP, policy="response", beyond="zero")
    assert not fine.dropped
    assert max(abs(nm) for nm in fine.off_nm().values()) < 4  # nm: EnMAP samples every 6 to 12


def test_nearest_takes_the_nearest_within_the_tolerance_and_says_how_far_it_was() -> None:
    own = [band("red", 660.0), band("nir", 860.0)]
    given = [band("a", 655.0), band("b", 640.0), band("c", 850.0)]
    one = estimate(own, given, policy="nearest", tolerance_nm=25.0)
    np.testing.assert_array_equal(one.matrix, [[1, 0, 0], [0, 0, 1]])
    assert one.rows()[0]["from"] == [{"band": "red", "weight": 1.0, "distance_nm": -5.0}]
    assert one.rows()[1]["from"] == []
    with pytest.raises(
        UsageError, match=r"b at 640 nm: red, .* lies 20 nm off, the tolerance is 10 nm"
    ):
        estimate(own, given, policy="nearest", tolerance_nm=10.0)
    left = estimate(own, given, policy="nearest", tolerance_nm=10.0, beyond="zero")
    assert not left.matrix[:, 1].any()
    # two bands with one centre, such as Landsat 7's thermal gains, share it
    twin = estimate(own, [band("a", 655.0), band("d", 655.0)], policy="nearest", tolerance_nm=25.0)
    np.testing.assert_array_equal(twin.matrix, [[0.5, 0.5], [0, 0]])


def test_a_band_of_the_model_that_comes_in_is_itself_whatever_lies_near() -> None:
    own = [band("red", 660.0, 30.0)]
    given = [band("red", 665.0, 30.0), band("other", 661.0, 30.0)]
    for policy, tolerance in (("response", None), ("nearest", 40.0), ("zero", None)):
        one = estimate(own, given, policy=policy, tolerance_nm=tolerance)
        np.testing.assert_array_equal(one.matrix, [[1, 0]])


def test_radar_is_told_by_polarisation_never_by_wavelength() -> None:
    own = [band("VV", None, None, unit="dB", polarisation="VV"), *S2[:3]]
    # a carrier's wavelength is no optical one, and 442.7 nm on a radar band means nothing
    like = [band("gamma0_vv", 442.7, 20.0, unit="dB", polarisation="VV"), S2[1]]
    for policy, tolerance in (("response", None), ("nearest", 40.0)):
        one = estimate(own, like, policy=policy, tolerance_nm=tolerance)
        np.testing.assert_array_equal(one.matrix, [[1, 0], [0, 0], [0, 1], [0, 0]])
        with pytest.raises(UsageError, match="x: the model has no HH in dB"):
            estimate(
                own,
                [band("x", 442.7, 20.0, unit="dB", polarisation="HH")],
                policy=policy,
                tolerance_nm=tolerance,
            )
    two = [band(n, None, None, unit="dB", polarisation="VV") for n in ("p", "q")]
    with pytest.raises(UsageError, match="p, q all have the polarisation VV"):
        estimate(RADAR, two, policy="response")


@pytest.mark.parametrize("policy", ["nearest", "response"])
def test_what_the_policy_needs_and_a_band_lacks_is_an_error(policy: str) -> None:
    tolerance = 40.0 if policy == "nearest" else None
    more = {"policy": policy, "tolerance_nm": tolerance}
    with pytest.raises(UsageError, match="band 'x' has no wavelength"):
        estimate(S2, [band("x", None)], beyond="zero", **more)
    if policy == "response":
        with pytest.raises(UsageError, match="band 'x' has no fwhm_nm"):
            estimate(S2, [band("x", 660.0, None)], **more)
    for own, given in ((S2, [band("x", 0.66)]), ([band("k", 0.66)], [band("x", 660.0)])):
        with pytest.raises(UsageError, match=r"at 0.66 nm: .* 0.66 micrometres are 660"):
            estimate(own, given, beyond="zero", **more)
    with pytest.raises(UsageError, match="no band with a wavelength"):
        estimate(RADAR, [band("x", 660.0)], **more)


def test_micrometres_on_both_sides_are_refused_too() -> None:
    with pytest.raises(UsageError, match="wavelengths are in nanometres"):
        estimate([band("k", 0.48)], [band("x", 0.86)], policy="nearest", tolerance_nm=40.0)


def test_refusals() -> None:
    assert POLICIES[0] == "refuse"
    with pytest.raises(UsageError, match=r"never saw SR_B1, .* name a policy"):
        estimate(S2, L8)
    seven = sensor("landsat7-etm-gls").bands
    with pytest.raises(UsageError, match=r"never saw B4 \(835 nm; its own B4 lies at 654.59 nm\)"):
        estimate(sensor("landsat8-oli-l1").bands, [b for b in seven if b.name == "B4"])
    with pytest.raises(UsageError, match="nearest needs tolerance_nm"):
        estimate(S2, L8, policy="nearest")
    with pytest.raises(UsageError, match="tolerance_nm is for the policy nearest"):
        estimate(S2, L8, policy="response", tolerance_nm=40.0)
    with pytest.raises(UsageError, match="no policy 'respnse'; did you mean 'response'"):
        estimate(S2, L8, policy="respnse")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="the data has two bands B02"):
        estimate(S2, [S2[1], S2[1]])
    assert not estimate(S2[:3], S2, policy="zero").matrix[:, 3:].any()


def test_pixels_and_their_validity() -> None:
    own = [band("k1", 600.0, 60.0), band("k2", 2000.0)]
    given = [band("a", 585.0, 30.0), band("b", 615.0, 30.0), band("c", 1200.0)]
    one = estimate(own, given, policy="response", beyond="zero")
    x = torch.tensor([0.2, 0.4, 9.0], dtype=torch.float64)[:, None, None].expand(3, 2, 2).clone()
    made, known = one.pixels(x)
    assert made[0].tolist() == [[pytest.approx(0.3)] * 2] * 2
    assert known[:, 0, 0].tolist() == [True, False]
    assert made[1].eq(0).all()
    valid = torch.ones(3, 2, 2, dtype=torch.bool)
    valid[1, 0, 0] = valid[2, 1, 1] = False
    x[1, 0, 0] = float("nan")
    made, known = one.pixels(x, valid)
    assert known[0].tolist() == [[False, True], [True, True]]  # c tells nothing of k1
    assert torch.isfinite(made).all()
    with pytest.raises(UsageError, match=r"\[..., 3, H, W\], got int32"):
        one.pixels(x.int())
