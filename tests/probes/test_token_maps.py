from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fm.errors import UsageError
from probes.benchmarks.base import Inputs
from probes.dense.token_maps import _one_grid, token_maps
from tests.probes import dense_standin as standin

M = standin.MODALITY
BANDS, SCALING = {M: standin.BANDS}, {M: (1.0, 0.0)}


def inputs(side, count=2, valid=None):
    x = np.random.default_rng(0).integers(1, 255, (count, 6, side, side)).astype(np.uint8)
    return Inputs({M: x}, None if valid is None else {M: valid})


def test_tokens_lie_row_major_and_cells_are_of_the_picture_not_of_the_grid():
    model = standin.model(token_px=3)
    given = inputs(11)
    made = token_maps(model, given, BANDS, SCALING, pyramid=False)
    padded = np.pad(given.pixels[M], ((0, 0), (0, 0), (0, 1), (0, 1)))
    valid = torch.zeros(2, 12, 12, dtype=torch.bool)
    valid[:, :11, :11] = True
    tokens = model.encode({M: torch.from_numpy(padded)}, valid={M: valid}).tokens
    torch.testing.assert_close(made.levels[0][1, :, 2, 1], tokens[1, 2 * 4 + 1])
    assert made.levels[0].shape == (2, 32, 4, 4)
    # four tokens of 3 px reach beyond the picture of 11 px
    assert made.cells == [(3 / 11, 3 / 11)]


def test_tokens_without_a_valid_pixel_are_nan():
    valid = np.ones((2, 12, 12), bool)
    valid[0, :3, :6] = False
    valid[1, :3, :2] = False
    made = token_maps(standin.model(3), inputs(12, valid=valid), BANDS, SCALING, pyramid=True)
    for level in made.levels:
        nan = level.isnan().any(1)
        assert nan[0].nonzero().tolist() == [[0, 0], [0, 1]]
        assert not nan[1].any()


def test_levels_of_a_vit_are_four_depths():
    model = standin.model(3, depth=6)
    given = inputs(12)
    made = token_maps(model, given, BANDS, SCALING, pyramid=True)
    whole = model.encode({M: torch.from_numpy(given.pixels[M])}, hidden=True)
    want = [whole.hidden[1], whole.hidden[2], whole.hidden[4], whole.tokens]
    for level, tokens in zip(made.levels, want, strict=True):
        torch.testing.assert_close(level.flatten(2).mT, tokens)


def test_levels_of_a_resnet_are_its_stages():
    model = standin.model(32, "resnet_18", planes=8)
    made = token_maps(model, inputs(64), BANDS, SCALING, pyramid=True)
    assert [(s.channels, s.rows) for s in made.shapes] == [(8, 16), (16, 8), (32, 4), (64, 2)]
    assert [s.cell[0] for s in made.shapes] == [1 / 16, 1 / 8, 1 / 4, 1 / 2]


def test_groups_meet_on_the_grid_of_the_most_tokens():
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(1, 4 + 16, 3, generator=generator)
    grid = {"coarse": (2, 2), "fine": (4, 4)}
    cells = {"coarse": (0.5, 0.5), "fine": (0.25, 0.25)}
    made, cell = _one_grid(tokens, None, grid, cells)
    assert made.shape == (1, 6, 4, 4)
    assert cell == (0.25, 0.25)
    torch.testing.assert_close(made[:, 3:].flatten(2).mT, tokens[:, 4:])
    # a quarter into the next token: 3/4 of the near one and 1/4 of the far one
    coarse = tokens[0, :4].unflatten(0, (2, 2))
    torch.testing.assert_close(made[0, :3, 0, 1], 0.75 * coarse[0, 0] + 0.25 * coarse[0, 1])
    mask = torch.ones(1, 20, dtype=torch.bool)
    mask[0, 1] = False
    spoilt = tokens.clone()
    spoilt[0, 1] = 1e6
    made, _ = _one_grid(spoilt, mask, grid, cells)
    # the token without pixels has no weight, and where it stands alone there is nothing
    torch.testing.assert_close(made[0, :3, 0, 1], coarse[0, 0])
    assert made[0, :3, 0, 3].isnan().all()


def test_a_model_that_does_not_tell_its_tokens_covers_the_picture():
    class Foreign:
        def encode(self, pixels, **_):
            x = torch.ones(2, 6, 4)
            return SimpleNamespace(tokens=x, mask=None, grid={"a": (2, 3)}, hidden=(), images=1)

    made = token_maps(Foreign(), inputs(12), BANDS, SCALING, pyramid=False)
    assert made.cells == [(1 / 2, 1 / 3)]
    with pytest.raises(UsageError, match="after each block"):
        token_maps(Foreign(), inputs(12), BANDS, SCALING, pyramid=True)
    with pytest.raises(UsageError, match="one vector a picture"):
        token_maps(standin.model(12), inputs(12), BANDS, SCALING, pyramid=False)
