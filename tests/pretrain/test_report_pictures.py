"""Reconstructions as numbers and as colours: physical, by wavelength, errors of what was hidden."""

import warnings

import numpy as np
import pytest

from pretrain.monitors.pictures import save_panels
from pretrain.report import stored
from pretrain.report.colours import SIDE, colours, heat, look
from pretrain.report.pca import components
from pretrain.report.reconstruct import _error, section
from tests.pretrain.report_run import modalities, normalisation, panel, write_pictures


@pytest.fixture
def panels(tmp_path):
    write_pictures(tmp_path)
    return stored.load(tmp_path / "pictures")


def test_stored_panels_come_back_in_physical_units(panels):
    assert [(p.key, p.modality) for p in panels[:3]] == [
        ("sample_0", "s2l1c_10"),
        ("sample_0", "s2l1c_20"),
        ("sample_0", "s2l1c_60"),
    ]
    made, numbers = panel("s2l1c_20", 12, 0), normalisation()["s2l1c_20"]
    shift, scale = (np.array(x)[:, None, None] for x in (numbers.shift, numbers.scale))
    # float16 keeps 11 bits of values of about 1
    assert np.allclose(panels[1].image, made.image * scale + shift, atol=4e-4)
    assert np.allclose(panels[1].predicted, made.predicted * scale + shift, atol=4e-4)
    assert np.array_equal(panels[1].shown[3], made.shown)
    assert panels[1].bands == made.bands


def test_groups_of_one_array_are_joined_by_wavelength(tmp_path):
    first, second = panel("s2l1c_20", 12, 0, (4, 5)), panel("s2l1c_20", 12, 1, (0, 1, 2, 3))
    second.shown[:] = False
    own = {name: tuple(bands) for name, bands in modalities().items()}
    numbers = normalisation()
    stored.save(tmp_path, [[first, second]], ["k"], bands=own, normalisation=numbers)
    (joined,) = stored.load(tmp_path)
    names = [band.name for band in joined.bands]
    assert names == [band.name for band in own["s2l1c_20"]]
    assert joined.scale.tolist() == pytest.approx(list(numbers["s2l1c_20"].scale))
    assert joined.shown.mean(axis=(1, 2)).tolist() == [0, 0, 0, 0, 0.5, 0.5]
    assert np.allclose(joined.image[4], first.image[0] * 0.09 + 0.14, atol=4e-4)


def test_a_file_keeps_to_its_size(tmp_path, monkeypatch):
    monkeypatch.setattr(stored, "LARGEST", 15_000)
    write_pictures(tmp_path, samples=4)
    kept = {p.key for p in stored.load(tmp_path / "pictures")}
    assert kept == {"sample_0"}


def test_errors_are_of_hidden_values_alone_in_units_of_the_model(panels):
    error = _error(panels[0])
    assert np.isnan(error[:, :12]).all()
    assert np.allclose(error[:, 12:], 1.0, atol=2e-3)


def test_values_that_nobody_knows_are_compared_with_nothing(tmp_path):
    held = panel("s2l1c_20", 12, 0)
    held.image[0, :, 9:] = held.image[:, 0] = np.nan
    own = {name: tuple(bands) for name, bands in modalities().items()}
    stored.save(tmp_path, [[held]], ["k"], bands=own, normalisation=normalisation())
    loaded = stored.load(tmp_path)
    error = _error(loaded[0])
    assert np.isnan(error[0]).all()
    assert np.isnan(error[:, :6]).all()
    assert np.allclose(error[1:, 6:], 1.0, atol=2e-3)
    assert ">nan" not in "".join(section(loaded, 10**6))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert save_panels(tmp_path, [[held]], ["k"])


def test_true_colour_shows_red_in_red(tmp_path):
    bands = tuple(modalities()["s2l1c_10"])
    names = [band.name for band in bands]
    image = np.full((len(bands), 4, 4), 0.1)
    image[:, 0] = 0.0
    image[:, 3] = 0.3
    image[names.index("B04"), 1, 1] = 0.3
    how = look("s2l1c_10", bands, [image])
    made = colours(image, how, how.panels[0])
    assert how.panels[0].title == "true colour: B04 B03 B02"
    assert made[1, 1, 0] > 0.9
    assert made[1, 1, 1] == pytest.approx(made[1, 1, 2])
    assert made[1, 1, 1] < 0.5
    image[names.index("B03"), 2, 2] = np.nan
    assert colours(image, how, how.panels[0])[..., 3].sum() == 15


def test_pictures_are_bounded_and_gaps_transparent():
    made = heat(np.full((2000, 1000), np.nan), 1.0)
    assert max(made.shape[:2]) <= SIDE
    assert (made[..., 3] == 0).all()
    bright = heat(np.array([[0.0, 1.0]]), 1.0)
    assert bright[0, 1, :3].sum() > bright[0, 0, :3].sum()


def test_samples_beyond_the_budget_are_counted(tmp_path):
    write_pictures(tmp_path, samples=3)
    made = section(stored.load(tmp_path / "pictures"), budget=1)
    assert sum("<article" in part for part in made) == 1
    assert any("2 more samples are in pictures/" in part for part in made)


def test_components_have_one_sign_and_leave_invalid_tokens_out():
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(2, 12, 8)) * np.array([9, 5, 3, 1, 1, 1, 1, 1.0])
    mask = np.ones((2, 12), bool)
    mask[0, :3] = False
    tokens[0, :3] = 1e6
    made = components(tokens, mask, (3, 4))
    assert made.colours.shape == (2, 3, 4, 4)
    assert made.colours[0, 0].tolist()[:3] == [[0, 0, 0, 0]] * 3
    assert made.shares[0] > made.shares[1] > made.shares[2] > 0
    # the first axis is the widest one, its largest weight positive: high there is high in red
    order = np.argsort(tokens[mask][:, 0])
    red = made.colours.reshape(2, 12, 4)[mask][:, 0]
    assert red[order[-1]] == 1.0
    assert red[order[0]] == 0.0
    again = components(np.concatenate([tokens, -tokens * 0])[:2], mask, (3, 4))
    assert np.array_equal(made.colours, again.colours)


def test_the_sign_does_not_turn_with_the_solver():
    # eigenvectors of either sign are right; only the rule makes colours stay
    rng = np.random.default_rng(1)
    for _ in range(8):
        direction = rng.normal(size=6)
        tokens = rng.normal(size=(1, 40, 1)) * direction
        red = components(tokens, np.ones((1, 40), bool), (5, 8)).colours[0, ..., 0].ravel()
        largest = np.abs(direction).argmax()
        assert np.corrcoef(red, tokens[0, :, largest])[0, 1] > 0.9
