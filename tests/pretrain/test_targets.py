"""Targets and token losses against float64 references written from the formulas."""

import math

import numpy as np
import pytest
import torch

from pretrain.objectives.targets import any_valid, normalise_target, token_angle, token_loss

SHAPES = {"a_10": (2, 3, 4, 6, 6), "a_60": (2, 3, 3, 1, 2)}


def draw(seed: int, mean: float, std: float) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {m: generator.normal(mean, std, shape) for m, shape in SHAPES.items()}


def as_float32(values: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {m: torch.tensor(v, dtype=torch.float32) for m, v in values.items()}


def reference(truth: np.ndarray, mask: np.ndarray, kind: str, unbiased: bool = False) -> np.ndarray:
    """Normalise the valid values of one token `[C, p, p]`; the others become 0."""
    made = np.zeros_like(truth)
    parts = [mask] if kind == "token" else []
    for band in range(len(truth)) if kind == "band" else ():
        one = np.zeros_like(mask)
        one[band] = mask[band]
        parts.append(one)
    for part in parts:
        values = truth[part]
        if len(values):
            spread = np.sqrt(values.var(ddof=1 if unbiased else 0) + 1e-6)
            made[part] = (values - values.mean()) / spread
    return np.where(mask, truth, 0.0) if kind == "pixel" else made


@pytest.mark.parametrize("kind", ["pixel", "token", "band"])
@pytest.mark.parametrize("partly", [False, True])
def test_target_and_loss_equal_the_formula(kind: str, partly: bool) -> None:
    truth, guess = draw(0, 2, 3), draw(1, 0, 1)
    chance = np.random.default_rng(2)
    masks = {m: chance.random(s) > (0.3 if partly else -1) for m, s in SHAPES.items()}
    if partly:
        masks["a_10"][0, 0, 1] = False  # a band without a valid value
        for mask in masks.values():
            mask[1, 2] = False  # a token without any
    expected = np.zeros((2, 3))
    for b in range(2):
        for t in range(3):
            per_band = []
            for m in SHAPES:
                wanted = reference(truth[m][b, t], masks[m][b, t], kind)
                for c in range(len(wanted)):
                    used = masks[m][b, t, c]
                    if used.any():
                        per_band.append(np.mean((guess[m][b, t, c] - wanted[c])[used] ** 2))
            expected[b, t] = np.mean(per_band) if per_band else 0.0
    valid = {m: torch.tensor(v) for m, v in masks.items()} if partly else {}
    holed = {m: np.where(masks[m], v, np.nan) for m, v in truth.items()}
    target = {
        m: normalise_target(v, valid.get(m), kind)  # type: ignore[arg-type]
        for m, v in as_float32(holed).items()
    }
    ours = token_loss(as_float32(guess), target, valid)
    # float32 statistics of about 100 values of size 3: relative error below 1e-5
    assert np.allclose(ours.numpy(), expected, rtol=2e-5)
    if partly:
        here = any_valid(valid, SHAPES)
        assert here is not None
        assert here.tolist() == [[True] * 3, [True, True, False]]
        assert any_valid({"a_10": valid["a_10"]}, SHAPES) is None


def test_unbiased_variance_divides_by_one_less() -> None:
    truth = draw(3, 0, 1)["a_10"]
    masks = np.random.default_rng(4).random(truth.shape) > 0.2
    for mask in (np.ones_like(masks), masks):
        valid = None if mask.all() else torch.tensor(mask)
        ours = normalise_target(
            torch.tensor(truth, dtype=torch.float32), valid, "token", unbiased=True
        )
        want = reference(truth[1, 2], mask[1, 2], "token", unbiased=True)
        assert np.allclose(ours[1, 2].numpy(), want, atol=1e-5)


def test_spectral_angle_equals_the_arc_cosine() -> None:
    truth, guess = draw(5, 1, 1), draw(6, 1, 1)
    truth["b_20"], guess["b_20"] = np.ones((2, 3, 1, 2, 2)), np.zeros((2, 3, 1, 2, 2))
    masks = {m: np.random.default_rng(7).random(v.shape) > 0.1 for m, v in truth.items()}
    expected = np.zeros((2, 3))
    for b in range(2):
        for t in range(3):
            total, bands = 0.0, 0
            for m in SHAPES:
                u, v = guess[m][b, t].reshape(SHAPES[m][2], -1), truth[m][b, t]
                v = v.reshape(u.shape)
                cosine = (u * v).sum(0) / np.sqrt((u**2).sum(0) * (v**2).sum(0))
                used = masks[m][b, t].reshape(u.shape).all(0)
                if used.any():
                    total += len(u) * np.arccos(cosine)[used].mean()
                    bands += len(u)
            expected[b, t] = total / bands
    valid = {m: torch.tensor(v) for m, v in masks.items()}
    ours = token_angle(as_float32(guess), as_float32(truth), valid)
    assert np.allclose(ours.numpy(), expected, atol=1e-5)


def test_spectral_angle_of_known_spectra() -> None:
    """45 degrees between (1, 0) and (1, 1); 0, with a gradient that is a number, where equal."""
    u = torch.tensor([1.0, 0.0]).reshape(1, 1, 2, 1, 1).requires_grad_()
    v = torch.tensor([2.0, 2.0]).reshape(1, 1, 2, 1, 1)
    assert token_angle({"x": u}, {"x": v}).item() == pytest.approx(math.pi / 4, abs=1e-6)
    same = token_angle({"x": u}, {"x": 3 * u.detach()})
    same.sum().backward()
    assert same.item() == 0
    assert torch.isfinite(u.grad).all()
