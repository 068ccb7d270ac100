"""The spectral basis: whitening, the conditional mean of other bands, and simulated sensors."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fm.checkpoint import load, save
from fm.errors import FMError, UsageError
from fm.models import create_model
from fm.models.embed import Moments, SpectralBasis
from fm.models.embed.spectral_views import bank_of, make_views
from fm.normalize import Normalisation
from fm.sensors import Band, sensor


def smooth(count: int, centres: np.ndarray, seed: int = 0) -> np.ndarray:
    """Spectra of a few smooth bumps, `[count, bands]`, physical."""
    generator = np.random.default_rng(seed)
    bumps = np.exp(-0.5 * ((centres[None] - np.linspace(400, 2400, 12)[:, None]) / 160.0) ** 2)
    noise = generator.normal(scale=0.01, size=(count, len(centres)))
    return generator.normal(1.0, 0.3, (count, 12)) @ bumps + noise


def bands_at(centres: np.ndarray, width: float = 20.0) -> tuple[Band, ...]:
    return tuple(Band(f"b{c:g}", float(c), width, 20.0, "reflectance") for c in centres)


CENTRES = np.arange(420.0, 2400.0, 30.0)


@pytest.fixture(scope="module")
def fitted() -> tuple[SpectralBasis, np.ndarray]:
    x = smooth(4000, CENTRES)
    normalisation = Normalisation("zscore", tuple(x.mean(axis=0)), tuple(x.std(axis=0)))
    basis = SpectralBasis(bands_at(CENTRES), normalisation, floor=0.01)
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    basis.fit(Moments.of(z))
    return basis, z


def components(basis: SpectralBasis, z: np.ndarray, bands: tuple[Band, ...]) -> np.ndarray:
    patches = torch.from_numpy(z.astype(np.float32))[None, :, :, None, None]
    return basis(patches, bands, True)[0, :, :, 0, 0].numpy()


def test_own_bands_become_decorrelated(fitted: tuple[SpectralBasis, np.ndarray]) -> None:
    basis, z = fitted
    made = components(basis, z, basis.bands)
    second = made.T.astype(np.float64) @ made / len(made)
    values = np.linalg.eigvalsh(z.T @ z / len(z))[::-1]
    assert np.allclose(second, np.diag(values / (values + 0.01)), atol=1e-3)
    assert np.allclose(
        basis.estimate(basis.bands, True), np.eye(len(CENTRES)), atol=2e-3
    )  # the jitter


def test_other_bands_are_the_conditional_mean(fitted: tuple[SpectralBasis, np.ndarray]) -> None:
    """Dropped bands: the estimate is the regression of all bands on those that are left."""
    basis, z = fitted
    kept = np.arange(0, len(CENTRES), 2)
    given = tuple(basis.bands[i] for i in kept)
    second = z.T @ z / len(z)
    estimate = basis.estimate(given, True)
    want = second[:, kept] @ np.linalg.inv(second[np.ix_(kept, kept)] + 1e-6 * np.eye(len(kept)))
    spread = np.sqrt(np.diag(second) - z.mean(axis=0) ** 2)[kept]
    assert np.allclose(estimate, want * spread, atol=1e-6)
    again = z[:, kept] @ estimate.T
    lost = np.square(again - z).mean()
    nearest = np.square(z[:, np.minimum(np.arange(len(CENTRES)) // 2 * 2, kept[-1])] - z).mean()
    assert lost < nearest / 4


def test_a_pixel_does_not_depend_on_the_order_of_its_bands(
    fitted: tuple[SpectralBasis, np.ndarray],
) -> None:
    basis, _ = fitted
    centres = np.array([500.0, 655.0, 842.0, 1610.0, 2190.0])
    given = bands_at(centres, 60.0)
    z = np.random.default_rng(3).normal(size=(7, 5))
    order = [3, 0, 4, 1, 2]
    a = components(basis, z, given)
    b = components(basis, z[:, order], tuple(given[i] for i in order))
    assert np.allclose(a, b, atol=1e-5)
    assert not np.allclose(components(basis, z[:, order], given), a, atol=1e-2)


@pytest.mark.parametrize("count", [1, 2, 3, 10, 13, 60, 74, 75, 120, 202, 235])
def test_any_number_of_bands(fitted: tuple[SpectralBasis, np.ndarray], count: int) -> None:
    basis, _ = fitted
    given = bands_at(np.linspace(430.0, 2390.0, count))
    made = components(basis, np.random.default_rng(0).normal(size=(4, count)), given)
    assert made.shape == (4, len(CENTRES))
    assert np.isfinite(made).all()


def test_the_interpolation_error_is_measured_on_pixels(
    fitted: tuple[SpectralBasis, np.ndarray],
) -> None:
    basis, z = fitted
    scale, shift = np.array(basis.normalisation.scale), np.array(basis.normalisation.shift)
    x = z * scale + shift
    rows = basis.left_out()
    made = x @ rows.T
    alike = (made - made.mean(axis=0)) / made.std(axis=0)
    assert np.allclose(basis.errors(True), np.square(alike - z).mean(axis=0), atol=1e-9)
    other = np.square((x - made) / (rows @ scale)).mean(axis=0)
    assert np.allclose(basis.errors(False), other, atol=1e-9)


def test_views_are_what_other_sensors_would_have_left(
    fitted: tuple[SpectralBasis, np.ndarray],
) -> None:
    basis, z = fitted
    views = make_views(basis, 12)
    assert views.matrix.shape == (12, len(CENTRES), len(CENTRES))
    again = [z @ m.T + o for m, o in zip(views.matrix, views.offset, strict=True)]
    errors = np.array([np.square(a - z).mean() for a in again])
    assert (errors < np.square(z).mean()).all()  # better than knowing nothing
    assert errors.max() > 10 * errors.min()  # and of different quality
    assert np.array_equal(make_views(basis, 12).matrix, views.matrix)


def zscore(bands: int) -> dict[str, Normalisation]:
    return {"aviris_20": Normalisation("zscore", (0.5,) * bands, (0.3,) * bands)}


def model_with_basis(fit: bool = True) -> torch.nn.Module:
    torch.manual_seed(0)
    model = create_model(
        "vit_nano",
        bands=sensor("aviris-indian-pines"),
        token_m=60,
        depth=1,
        normalisation=zscore(200),
        basis={"aviris": {"components": 40}},
    )
    if fit:
        ((_, basis),) = model.bases()
        z = np.random.default_rng(0).normal(size=(900, 200)).cumsum(axis=1) / 10
        basis.fit(Moments.of(z))
    return model.eval()


def test_a_model_with_a_basis_takes_other_bands_and_keeps_it_in_its_checkpoint(tmp_path) -> None:
    model = model_with_basis()
    x = torch.randn(2, 200, 6, 6)
    save(tmp_path / "m", model)
    again = load(tmp_path / "m")
    assert torch.equal(again.encode({"aviris_20": x}).pooled, model.encode({"aviris_20": x}).pooled)
    table = sensor("sentinel2-l1c").bands
    s2 = [replace(b, gsd_m=20.0) for b in table if b.name in ("B02", "B04", "B8A", "B11")]
    pixels = {"aviris_20": torch.randn(2, 4, 6, 6)}
    made = model.encode(pixels, bands={"aviris_20": s2}).pooled
    assert made.shape == (2, 128)
    some = list(model.bands["aviris_20"][:30])
    kept = model.encode({"aviris_20": x[:, :30]}, bands={"aviris_20": [b.name for b in some]})
    assert torch.equal(
        kept.pooled, model.encode({"aviris_20": x[:, :30]}, bands={"aviris_20": some}).pooled
    )
    with pytest.raises(UsageError, match="give them as Bands"):
        model.encode({"aviris_20": x[:, :2]}, bands={"aviris_20": ["B001", "B999"]})


def test_a_random_floor_keeps_the_basis_and_nothing_else(tmp_path) -> None:
    model = model_with_basis()
    save(tmp_path / "m", model)
    fresh = load(tmp_path / "m", weights="random", seed=5)
    ((_, own),), ((_, basis),) = model.bases(), fresh.bases()
    assert torch.equal(own.matrix, basis.matrix)
    assert not torch.equal(model.blocks[0].attn.qkv.weight, fresh.blocks[0].attn.qkv.weight)


def test_an_unfitted_basis_and_wrong_options_are_refused() -> None:
    with pytest.raises(FMError, match="not fitted"):
        model_with_basis(fit=False).encode({"aviris_20": torch.randn(1, 200, 6, 6)})
    with pytest.raises(UsageError, match="did you mean 'components'"):
        create_model(
            "vit_nano", bands=sensor("aviris-indian-pines"), basis={"aviris": {"component": 4}}
        )
    ((_, basis),) = model_with_basis(fit=False).bases()
    with pytest.raises(FMError, match="too few"):
        basis.fit(Moments.of(np.zeros((10, 200))))


def test_invalid_values_do_not_leak_through_the_mixing() -> None:
    model = model_with_basis()
    x = torch.randn(1, 200, 6, 6)
    valid = torch.ones(1, 200, 6, 6, dtype=torch.bool)
    valid[0, 17, 1, 1] = False
    changed = x.clone()
    changed[0, 17, 1, 1] = 1e4
    masks = {"aviris_20": valid}
    a = model.encode({"aviris_20": x}, valid=masks).pooled
    assert torch.equal(a, model.encode({"aviris_20": changed}, valid=masks).pooled)


def test_only_zscore_is_whitened_for_other_bands(fitted: tuple[SpectralBasis, np.ndarray]) -> None:
    basis, z = fitted
    for kind in ("divide", "clip_sigma", "percentile"):
        own = Normalisation(kind, basis.normalisation.shift, basis.normalisation.scale)
        other = SpectralBasis(basis.bands, own)
        with pytest.raises(UsageError, match=f"normalised by zscore, the model has {kind}"):
            other.fit(Moments.of(z))
        other.load_state_dict(basis.state_dict())
        with pytest.raises(UsageError, match="normalised by zscore"):
            other.estimate(basis.bands[:20], True)
    model = model_with_basis()
    given = {"aviris_20": Normalisation.identity(200)}
    with pytest.raises(UsageError, match="normalisation is divide"):
        model.encode({"aviris_20": torch.randn(1, 200, 6, 6)}, normalisation=given)


def test_dropping_a_band_of_many_changes_little(fitted: tuple[SpectralBasis, np.ndarray]) -> None:
    basis, z = fitted
    kept = np.delete(np.arange(len(CENTRES)), 7)
    again = z[:, kept] @ basis.estimate(tuple(basis.bands[i] for i in kept), True).T
    assert np.square(again - z).mean() < 0.01 * np.square(z).mean()


def test_one_invalid_value_does_not_empty_its_tokens() -> None:
    """A band without data in every pixel leaves the tokens valid and is estimated."""
    model = model_with_basis()
    x = torch.rand(2, 200, 6, 6)
    valid = torch.ones(2, 200, 6, 6, dtype=torch.bool)
    valid[0, 17] = False
    made = model.encode({"aviris_20": x}, valid={"aviris_20": valid})
    assert made.mask is not None
    assert made.mask.all()
    assert made.pooled.abs().sum() > 0
    # as if the band had not been given, and the other sample is left alone
    kept = [i for i in range(200) if i != 17]
    bands = {"aviris_20": [model.bands["aviris_20"][i] for i in kept]}
    want = model.encode({"aviris_20": x[:1, kept]}, bands=bands).pooled
    assert torch.allclose(made.pooled[:1], want, atol=1e-5)
    assert torch.allclose(made.pooled[1:], model.encode({"aviris_20": x[1:]}).pooled, atol=1e-5)
    filled = x.clone()
    filled[0, 17] = 0.5  # the mean
    assert not torch.allclose(made.pooled, model.encode({"aviris_20": filled}).pooled, atol=1e-4)


def test_a_pixel_of_few_valid_bands_is_not_read() -> None:
    model = model_with_basis()
    valid = torch.ones(1, 200, 6, 6, dtype=torch.bool)
    valid[0, :101, :3, :3] = False
    made = model.encode({"aviris_20": torch.rand(1, 200, 6, 6)}, valid={"aviris_20": valid})
    assert made.mask is not None
    assert made.mask[0].tolist() == [False, True, True, True]


def test_views_follow_the_weights_that_are_loaded(fitted: tuple[SpectralBasis, np.ndarray]) -> None:
    basis, z = fitted
    other = SpectralBasis(basis.bands, basis.normalisation, floor=0.01)
    other.fit(Moments.of(z[:, ::-1]))
    stale = bank_of(other, 6)[0].clone()
    assert not torch.equal(stale, bank_of(basis, 6)[0])
    other.load_state_dict(basis.state_dict())
    assert torch.equal(bank_of(other, 6)[0], bank_of(basis, 6)[0])


def test_fitted_is_noticed_after_loading(fitted: tuple[SpectralBasis, np.ndarray]) -> None:
    basis, _ = fitted
    other = SpectralBasis(basis.bands, basis.normalisation)
    assert not other.fitted
    other.load_state_dict(basis.state_dict())
    assert other.fitted
