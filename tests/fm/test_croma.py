import math

import pytest
import torch

from fm.errors import UsageError
from fm.foreign import on_grid
from fm.models import create_model
from fm.models.croma import distance_bias
from fm.sensors import sensor

RADAR = on_grid(sensor("sentinel1-grd").bands, 10)
OPTICAL = on_grid(sensor("sentinel2-l2a").select(["B02", "B03", "B04"]), 10)
BOTH = {**RADAR, **OPTICAL}
(S1,), (S2,) = RADAR, OPTICAL


def build(bands=BOTH):
    torch.manual_seed(0)
    sizes = {"width": 32, "depth": 4, "heads": 4}
    return create_model("croma_base", bands=bands, token_m=40, **sizes).eval()


def images(batch: int = 2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    counts = {S1: 2, S2: 3}
    return {m: torch.rand(batch, n, 8, 12, generator=generator) for m, n in counts.items()}


def test_distance_bias_is_minus_distance_times_slope() -> None:
    bias = distance_bias((2, 3), 4)
    assert bias.shape == (1, 4, 6, 6)
    for head in range(4):
        slope = 2 ** (-8 * (head + 1) / 4)
        assert bias[0, head, 0, 5].item() == pytest.approx(-math.sqrt(1 + 4) * slope)
        assert bias[0, head, 4, 4].item() == 0


def test_both_sensors_join_and_either_goes_alone() -> None:
    model, x = build(), images()
    with torch.no_grad():
        both = model.encode(x, hidden=True)
        radar, optical = model.encode({S1: x[S1]}), model.encode({S2: x[S2]})
    assert both.tokens.shape == (2, 12, 32)
    assert list(both.grid.values()) == [(2, 3), (2, 3)]
    assert len(both.hidden) == 2
    assert torch.equal(both.tokens[:, 6:], optical.tokens)
    assert not torch.allclose(both.tokens[:, :6], radar.tokens, atol=1e-2)
    assert torch.allclose(both.pooled, both.tokens[:, :6].mean(dim=1), atol=1e-6)


def test_an_invalid_token_is_seen_by_none() -> None:
    model, x = build(), images()
    valid = {m: torch.ones(2, 8, 12, dtype=torch.bool) for m in x}
    valid[S2][0, :4, :4] = False
    other = {m: value.clone() for m, value in x.items()}
    other[S2][0, :, :4, :4] = 9.0
    with torch.no_grad():
        first, second = model.encode(x, valid=valid), model.encode(other, valid=valid)
        plain = model.encode(x)
    assert first.mask is not None
    assert first.mask.sum(dim=1).tolist() == [11, 12]
    keep = first.mask
    assert torch.equal(first.tokens[keep], second.tokens[keep])
    assert torch.equal(first.pooled, second.pooled)
    torch.testing.assert_close(first.tokens[1], plain.tokens[1], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(first.pooled[0], plain.pooled[0], atol=1e-4)


def test_what_it_cannot_take_is_refused() -> None:
    model, x = build(), images()
    with pytest.raises(UsageError, match="must cover the same tokens"):
        model.encode({S1: x[S1], S2: x[S2][..., :8]})
    with pytest.raises(UsageError, match="one group of radar bands and one of optical"):
        build({**OPTICAL, **on_grid(sensor("sentinel2-l1c").select(["B02"]), 10)})
    with pytest.raises(UsageError, match="heads a power of 2"):
        create_model("croma_base", bands=BOTH, token_m=40, width=36, depth=4, heads=6)
