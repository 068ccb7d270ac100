"""Effects are made of those they hit, and come out as if they were made of all."""

import pytest
import torch
from torch import Tensor

from pretrain.augment.hit import anyone, where_hit


@pytest.mark.parametrize("who", [(0, 0), (0, 1), (1, 1)])
def test_what_was_made_stands_where_a_sample_is_hit(who: tuple[int, int]) -> None:
    hit = torch.tensor(who).bool()[:, None]
    before, made = torch.zeros(2, 3), torch.tensor([[1.0], [2.0]])
    want = torch.tensor([[one * 1.0] * 3 for one in (who[0], 2 * who[1])])
    assert torch.equal(where_hit(hit, made, before), want)
    assert anyone(hit) == any(who)


def test_a_device_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Defect: every effect waits for the device."""
    hit = torch.zeros(2, 1, dtype=torch.bool, device="meta")
    for name in ("any", "all", "__bool__"):
        monkeypatch.setattr(Tensor, name, lambda *_, n=name: pytest.fail(n))
    assert anyone(hit)
    x = torch.zeros(2, 3, device="meta")
    assert where_hit(hit, x, x).shape == (2, 3)
