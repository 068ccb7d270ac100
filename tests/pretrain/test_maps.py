"""Maps of tokens brought from one grid to another, in closed form."""

import torch

from pretrain.objectives.distill.maps import regridded


def test_a_coarser_token_is_the_mean_of_the_finer_ones_under_it() -> None:
    tokens = torch.arange(48.0).view(1, 24, 2).requires_grad_()
    found, valid = regridded(tokens, None, (4, 6), (2, 3))
    image = tokens.detach().view(4, 6, 2)
    want = [
        image[2 * r : 2 * r + 2, 2 * c : 2 * c + 2].mean(dim=(0, 1))
        for r in range(2)
        for c in range(3)
    ]
    assert torch.allclose(found[0], torch.stack(want), atol=1e-5)
    assert valid is None
    assert not found.requires_grad


def test_a_finer_grid_is_bilinear_between_centres() -> None:
    tokens = torch.tensor([[[0.0], [1.0]]])
    found, _ = regridded(tokens, None, (1, 2), (1, 4))
    assert found.flatten().tolist() == [0.0, 0.25, 0.75, 1.0]


def test_tokens_that_are_not_valid_count_for_nothing() -> None:
    """Defect: a teacher's tokens without data that bleed into the targets beside them."""
    tokens = torch.tensor([[1.0, 3.0, 100.0, 5.0, 100.0, 100.0, 100.0, 7.0]]).unsqueeze(2)
    valid = torch.tensor([[True, True, False, True, False, False, False, True]])
    found, known = regridded(tokens, valid, (2, 4), (1, 2))
    assert known is not None
    assert known.tolist() == [[True, True]]  # half of what each is made of is known
    assert found.flatten().tolist() == [2.0, 6.0]
    valid[0, 1] = False
    found, known = regridded(tokens, valid, (2, 4), (1, 2))
    assert known is not None
    assert known.tolist() == [[False, True]]
    assert found[0, 0] == 0.0


def test_one_grid_is_left_as_it_is_and_no_samples_are_none() -> None:
    tokens = torch.randn(2, 6, 3, dtype=torch.bfloat16)
    assert regridded(tokens, None, (2, 3), (2, 3))[0] is tokens
    found, known = regridded(tokens[:0], torch.ones(0, 6, dtype=torch.bool), (2, 3), (4, 6))
    assert found.shape == (0, 24, 3)
    assert known is not None
    assert known.shape == (0, 24)
