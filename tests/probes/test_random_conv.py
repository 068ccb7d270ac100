from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import linalg, signal

from fm.errors import FMError
from probes.benchmarks.base import Data, Inputs
from probes.features import random_conv
from probes.features.floors import (
    encoder,
    floor_features,
    image_statistics,
    image_statistics_corley,
)
from probes.features.pixels import moments, physical, training_rows

SCALING = {"fine": (0.5, 1.0), "coarse": (1.0, 0.0)}


@pytest.fixture(autouse=True)
def all_features(monkeypatch):
    monkeypatch.setattr(random_conv, "FEATURES", 512)


def _data(count=30, seed=0, side=8, covered=0.0) -> Data:
    """Images of two grids, the coarser one of half the pixels; thirds are train, val and test."""
    rng = np.random.default_rng(seed)
    pixels = {
        "fine": rng.integers(100, 900, (count, 2, side, side)).astype(np.uint16),
        "coarse": rng.normal(-10, 3, (count, 1, side // 2, side // 2)).astype(np.float32),
    }
    valid = {
        m: rng.random((count, *x.shape[2:])) >= covered * (m == "fine") for m, x in pixels.items()
    }
    data = Data(
        read=lambda index: Inputs(
            {m: x[index] for m, x in pixels.items()}, {m: v[index] for m, v in valid.items()}
        ),
        targets=np.arange(count) % 2,
        split=np.repeat(["train", "val", "test"], count // 3),
        unit=np.arange(count),
        shards=np.arange(count).astype(str),
        classes=("a", "b"),
        bands={"fine": ("x", "y"), "coarse": ("z",)},
        scaling=SCALING,
        dataset="images",
        manifest_hash="0",
        folder=None,
    )
    return data


def _other_pixels_outside_train(data: Data) -> Data:
    """The same training images; every value of the others is another."""
    train = set(data.of("train").tolist())

    def read(index):
        inputs = data.read(index)
        other = np.array([n not in train for n in index.tolist()])[:, None, None, None]
        return Inputs(
            {m: np.where(other, x * 3 + 7, x).astype(x.dtype) for m, x in inputs.pixels.items()},
            inputs.valid,
        )

    return replace(data, read=read)


@pytest.mark.parametrize("kind", ["gaussian", "zca"])
def test_kernels_and_scaling_come_from_the_training_split_alone(kind):
    data = _data()
    one, two = (random_conv.fit(d, kind, seed=0) for d in (data, _other_pixels_outside_train(data)))
    torch.testing.assert_close(one.weights, two.weights, rtol=0, atol=0)
    for modality, level in one.levels.items():
        np.testing.assert_array_equal(level.mean, two.levels[modality].mean)
        np.testing.assert_array_equal(level.spread, two.levels[modality].spread)
    assert not torch.equal(one.weights, random_conv.fit(data, kind, seed=1).weights)
    assert one.weights.shape == (256, 3, 3, 3)


def test_features_are_both_signs_of_a_correlation_averaged():
    data = _data(6, side=6)
    fitted = random_conv.fit(data, "gaussian", seed=0)
    inputs = data.read(np.arange(6))
    found = fitted(inputs, SCALING)
    assert found.shape == (6, 512)
    x, valid = random_conv.stack(inputs, SCALING, fitted.levels)
    assert bool(valid.all())
    kernel = fitted.weights.double().numpy()
    for image in (0, 5):
        for k in (0, 100):
            answer = sum(
                signal.correlate2d(x[image, c].double().numpy(), kernel[k, c], mode="valid")
                for c in range(3)
            )
            answer = answer - 1
            assert found[image, k] == pytest.approx(np.maximum(answer, 0).mean(), abs=1e-4)
            assert found[image, 256 + k] == pytest.approx(np.maximum(-answer, 0).mean(), abs=1e-4)


def test_whitened_patches_are_those_of_a_matrix_root():
    rng = np.random.default_rng(0)
    found = rng.normal(size=(60, 2, 3, 3)) * rng.uniform(0.1, 3, (1, 2, 3, 3))
    flat = found.reshape(60, -1)
    flat = flat - flat.mean(1, keepdims=True)
    flat = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    root = linalg.inv(linalg.sqrtm(flat.T @ flat / 60 + 1e-3 * np.eye(18)))
    want = flat @ root @ root.T
    np.testing.assert_allclose(random_conv.whiten(found).reshape(60, -1), want, rtol=1e-6)


def test_invalid_pixels_change_nothing():
    data = _data(covered=0.1)
    fitted = random_conv.fit(data, "zca", seed=0)
    inputs = data.read(np.arange(10))
    mask = inputs.valid["fine"][:, None]
    loud = Inputs(
        {**inputs.pixels, "fine": np.where(mask, inputs.pixels["fine"], 60000).astype(np.uint16)},
        inputs.valid,
    )
    np.testing.assert_array_equal(fitted(inputs, SCALING), fitted(loud, SCALING))
    nothing = _data(covered=1.1)
    with pytest.raises(FMError, match="no valid pixel"):
        random_conv.fit(nothing, "gaussian", seed=0)


def test_images_smaller_than_a_kernel_are_extended():
    data = _data(side=2)
    assert np.isfinite(floor_features("random-conv", data)).all()
    with pytest.raises(FMError, match="no 3x3 patch"):
        floor_features("random-conv-zca", data)


def test_statistics_of_training_pixels():
    data = _data(covered=0.4)
    rows = training_rows(data, seed=0)
    np.testing.assert_array_equal(rows, data.of("train"))
    found = moments(data, rows, batch_size=3)
    inputs = data.read(rows)
    for modality, level in found.items():
        x = np.moveaxis(physical(inputs.pixels[modality], SCALING[modality]), 1, -1)
        x = x[inputs.valid[modality]]
        np.testing.assert_allclose(level.mean, x.mean(0))
        np.testing.assert_allclose(level.spread, x.std(0))
        np.testing.assert_array_equal(level.high, x.max(0))


def test_four_statistics_of_the_seed_paper():
    data = _data(covered=0.4)
    inputs = data.read(np.arange(4))
    found = image_statistics_corley(inputs, SCALING)
    two = image_statistics(inputs, SCALING)
    assert found.shape == (4, 12)
    np.testing.assert_array_equal(found[:, :4], two[:, :4])
    x = inputs.pixels["fine"][1] * 0.5 + 1.0
    inside = x[:, inputs.valid["fine"][1]]
    np.testing.assert_allclose(found[1, 4:8], [*inside.max(1), *inside.min(1)])


def test_floor_features_do_not_depend_on_the_batch():
    data = _data()
    for name in ("random-conv", "random-conv-zca", "image-statistics-corley"):
        whole = floor_features(name, data, seed=3)
        np.testing.assert_allclose(
            floor_features(name, data, seed=3, batch_size=7), whole, rtol=1e-5, atol=1e-5
        )
        made = encoder(name, data, 3)(data.read(np.arange(2)))
        np.testing.assert_allclose(made, whole[:2], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_torchgeo_gives_the_same_features():
    """The witness: torchgeo's layer with our kernels, its whitening of our patches."""
    rcf = pytest.importorskip("torchgeo.models").RCF
    data = _data()
    fitted = random_conv.fit(data, "gaussian", seed=0)
    inputs = data.read(np.arange(5))
    x, _ = random_conv.stack(inputs, SCALING, fitted.levels)
    theirs = rcf(in_channels=3, features=512, kernel_size=3, bias=-1.0, mode="gaussian")
    theirs.weights = fitted.weights
    np.testing.assert_allclose(fitted(inputs, SCALING), theirs(x).numpy(), rtol=1e-4, atol=1e-4)
    found = np.random.default_rng(0).normal(size=(400, 3, 3, 3))
    np.testing.assert_allclose(random_conv.whiten(found), theirs._normalize(found), atol=1e-3)
