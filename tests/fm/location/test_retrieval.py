"""Retrieval by meaning and by distance, against the formula."""

import numpy as np
import pytest
import torch

from fm.errors import FMError
from fm.location import Retrieval, create_encoding

PLACES = torch.tensor([[10.0, 50.0], [-60.0, -10.0]], dtype=torch.float64)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def test_range_and_range_plus() -> None:
    rng = np.random.default_rng(0)
    keys, values = rng.normal(size=(6, 3)), rng.normal(size=(6, 4))
    database = rng.uniform(-80, 80, (6, 2))
    encoder = create_encoding("cartesian")
    made = Retrieval(
        encoder, *(torch.tensor(x) for x in (keys, values, database)), temperature=12, share=0.25
    )
    query = encoder.double()(PLACES).numpy()
    unit = encoder(torch.tensor(database)).numpy()
    alike = softmax(12 * query @ (keys / np.linalg.norm(keys, axis=1, keepdims=True)).T)
    mixed = 0.25 * alike + 0.75 * softmax(40 * query @ unit.T)
    expected = np.concatenate([query, mixed @ values], 1)
    assert np.allclose(made(PLACES).numpy(), expected, atol=1e-5)
    plain = Retrieval(encoder, torch.tensor(keys), torch.tensor(values), temperature=12)
    assert np.allclose(plain(PLACES).numpy()[:, 3:], alike @ values, atol=1e-5)


def test_refusals() -> None:
    keys, values = torch.ones(2, 3), torch.ones(2, 4)
    encoder = create_encoding("cartesian")
    with pytest.raises(FMError, match="lonlat"):
        Retrieval(encoder, keys, values, share=0.5)
    with pytest.raises(FMError, match=r"\[M, D\]"):
        Retrieval(encoder, keys, values[:1])
    with pytest.raises(FMError, match="width 5"):
        Retrieval(encoder, torch.ones(2, 5), values)(PLACES)


@pytest.mark.parametrize("given", [{"temperature": float("nan")}, {"sharpness": -1.0}])
def test_temperatures_that_turn_nearness_around_are_refused(given: dict[str, float]) -> None:
    keys = torch.ones(2, 3)
    with pytest.raises(FMError, match="give numbers above 0"):
        Retrieval(create_encoding("cartesian"), keys, keys, PLACES, **given)


def test_what_is_retrieved_does_not_depend_on_the_autocast() -> None:
    """Rounded to bfloat16, the cosines moved what was retrieved by 4 % of its size."""
    drawn = torch.Generator().manual_seed(0)
    keys, values = torch.randn(200, 3, generator=drawn), torch.randn(200, 8, generator=drawn)
    database = torch.rand(200, 2, generator=drawn, dtype=torch.float64) * 100 - 50
    made = Retrieval(create_encoding("cartesian"), keys, values, database, share=0.5)
    expected = made(PLACES)
    with torch.autocast("cpu", torch.bfloat16):
        found = made(PLACES)
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_a_database_of_latitudes_first_is_refused() -> None:
    keys = torch.ones(2, 3)
    with pytest.raises(FMError, match="beyond the poles"):
        Retrieval(
            create_encoding("cartesian"), keys, keys, torch.tensor([[50.0, 10.0], [0, 151.0]])
        )
