"""Samples that could not be read: what is left of a batch without them."""

import torch

from fm.models import Inputs
from pretrain.objectives.contrast.rows import placed, readable, taken


def test_all_that_is_of_a_sample_goes_with_it() -> None:
    each = torch.arange(3.0)
    inputs = Inputs(
        pixels={"s1grd_10": each[:, None, None, None]},
        bands={},
        scaling={},
        normalisation={},
        valid={"s1grd_10": (each > 0)[:, None, None]},
        lonlat=each[:, None].repeat(1, 2),
        time=each,
        images=2,
        times=each[:, None].repeat(1, 2),
    )
    rows = readable(torch.tensor([1.0, 0.0, 0.5]))
    assert rows is not None
    left = taken(inputs, rows)
    assert left.valid is not None
    for value in (left.pixels["s1grd_10"], left.lonlat, left.time, left.times):
        assert value is not None
        assert value.reshape(2, -1)[:, 0].tolist() == [0.0, 2.0]
    assert left.valid["s1grd_10"].flatten().tolist() == [False, True]
    assert placed(torch.ones(2, 1), rows, 3)[:, 0].tolist() == [1.0, 0.0, 1.0]
    assert readable(torch.ones(3)) is None
    assert taken(inputs, None) is inputs
