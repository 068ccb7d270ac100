"""The spectral basis: whitening, the conditional mean of other bands, and simulated sensors."""

import numpy as np
import pytest
import torch

from fm.checkpoint import load, save
from fm.errors import FMError, UsageError
from fm.models import create_model
from fm.models.embed import Moments, SpectralBasis
from fm.models.embed.spectral_views import make_views
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


def model_with_basis(fit: bool = True) -> torch.nn.Module:
    torch.manual_seed(0)
    model = create_model(
        "vit_nano",
        bands=sensor("aviris-indian-pines"),
        token_m=60,
        depth=1,
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
    s2 = [b for b in sensor("sentinel2-l1c").bands if b.name in ("B02", "B04", "B8A", "B11")]
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
