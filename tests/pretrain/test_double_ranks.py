"""Batch norms and queues over ranks: between two ranks and one is rounding and nothing else."""

from typing import Any

import pytest
import torch

from tests import ranks as forked
from tests.pretrain import double_ranks


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What contrasts over batch norms give in float64 on two ranks."""
    out = tmp_path_factory.mktemp("double") / "found.pt"
    done = forked.launch(out.parent / "told", double_ranks.main, out, ranks=2)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = torch.load(out)
    return found


@pytest.mark.parametrize("name", double_ranks.CASES)
def test_only_rounding_is_between_two_ranks_and_one(name: str, two: dict[str, Any]) -> None:
    """In float32 the norms of a whole network multiply it to 2e-5; in float64 to nothing."""
    one = double_ranks.results(name)
    assert two[name]["sums"].keys() == one["sums"].keys()
    for metric, value in one["sums"].items():
        assert two[name]["sums"][metric] == pytest.approx(value, rel=1e-10, abs=1e-10), metric
    assert two[name]["gradients"].keys() == one["gradients"].keys()
    for parameter, want in one["gradients"].items():
        got = two[name]["gradients"][parameter]
        assert got.dtype == torch.float64
        assert torch.allclose(got, want, 0, 1e-10 * float(want.abs().max())), parameter
    assert two[name]["queues"].keys() == one["queues"].keys()
    for buffer, rows in one["queues"].items():
        assert torch.allclose(two[name]["queues"][buffer].double(), rows.double(), 0, 1e-10), buffer
