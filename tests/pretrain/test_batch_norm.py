"""Batch norm over ranks is torch's on one process that holds all rows."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from pretrain.objectives.contrast.batch_norm import BatchNorm, of_each_rank, over_all_ranks
from tests import ranks as forked
from tests.pretrain import batch_norm_ranks
from tests.pretrain.batch_norm_ranks import FEW, SHAPES, SHARES, norm_of, results, rows


class Fused(nn.BatchNorm2d):
    """A norm that may do more than torch's."""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two ranks found."""
    folder = tmp_path_factory.mktemp("norms")
    done = forked.launch(folder / "told", batch_norm_ranks.main, folder, ranks=2)
    assert done.returncode == 0, done.stderr
    return folder


def test_two_ranks_are_one_with_gradients_and_statistics(told: Path) -> None:
    """Ranks of 5 and 3 rows, and of 8 and none."""
    ranks = [torch.load(told / f"{rank}.pt") for rank in (0, 1)]
    for share in SHARES:
        for shape in SHAPES:
            want = results(norm_of(shape).double(), *(x.double() for x in rows(shape)))
            parts = [rank[share, shape] for rank in ranks]
            for name, value in want.items():
                got = [part[name] for part in parts]
                got = [torch.cat(got)] if name in ("out", "x") else got
                near = 2e-5 * float(value.abs().max())  # float32 sums of numbers near 30
                for own in got:
                    assert torch.allclose(own.double(), value.double(), 0, near), (share, name)


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("share", FEW)
def test_few_rows_leave_what_they_do_not_know(
    told: Path, share: tuple[int, int], alone: bool
) -> None:
    """Defects: one row ends its rank and hangs the others; none makes the statistics NaN."""
    parts = [torch.load(told / f"few{rank}.pt")[share, alone] for rank in (0, 1)]
    x, count = rows((8, 6, 1, 1))[0].double()[: sum(share), :, 0, 0], sum(share)
    groups = [part for part in (x.split(list(share)) if alone else [x]) if len(part) > 1]
    mean, variance = torch.zeros(6).double(), torch.ones(6).double()
    kept = 0.9**2  # of two batches
    if count:
        mean = (1 - kept) * x.mean(dim=0)
    if groups:
        variance = kept + (1 - kept) * groups[0].var(dim=0)
    norm = norm_of((8, 6, 1, 1))
    for rank, part in enumerate(parts):
        assert torch.allclose(part["running_mean"].double(), mean, 1e-5, 1e-5)
        assert torch.allclose(part["running_var"].double(), variance, 1e-4, 1e-4)
        assert len(part["out"]) == share[rank]
        if share[rank] == 1 and (alone or count == 1):
            assert torch.equal(part["out"][0, :, 0, 0], norm.bias)
            assert not part["x"].any()
        assert all(value.isfinite().all() for value in part.values())


def test_one_process_has_torchs_own(tmp_path: Path) -> None:
    x, counts = rows((8, 6, 3, 2))
    want = results(norm_of(x.shape), x, counts)
    got = results(over_all_ranks(norm_of(x.shape)), x, counts)
    assert all(torch.equal(got[name], value) for name, value in want.items())
    norm = over_all_ranks(norm_of(x.shape)).eval()
    assert torch.allclose(norm(x), norm_of(x.shape).eval()(x))


@pytest.mark.parametrize("of", [over_all_ranks, of_each_rank])
@pytest.mark.parametrize("shape", [(1, 6), (1, 6, 1, 1)])
def test_one_row_of_one_process_is_the_bias(
    of: Callable[[nn.Module], object], shape: tuple[int, ...]
) -> None:
    """Defect: torch refuses it, and the step that could read one sample ends the run."""
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    norm = norm_of(shape).double()
    of(norm)
    made = norm(x)
    assert torch.equal(made.flatten(), norm.bias)
    made.square().sum().backward()
    assert x.grad is not None
    assert not x.grad.any()
    assert torch.allclose(norm.running_mean, 0.1 * x.detach().flatten())
    assert torch.equal(norm.running_var, torch.ones(6, dtype=torch.float64))


@pytest.mark.parametrize("of", [over_all_ranks, of_each_rank])
def test_one_row_after_several_leaves_their_gradient(of: Callable[[nn.Module], object]) -> None:
    """Defect: DINO's one small view after its large ones ends the run in autograd's own error."""
    x = torch.randn((3, 6), requires_grad=True)
    norm = norm_of(x.shape)
    of(norm)
    several = norm(x)
    (several.square().sum() + norm(x[:1]).sum()).backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_norms_are_changed_where_they_are() -> None:
    net = nn.Sequential(nn.Conv2d(2, 3, 1), nn.Sequential(nn.BatchNorm2d(3), nn.ReLU()))
    before = net.state_dict()
    assert over_all_ranks(net) is net
    assert isinstance(net[1][0], BatchNorm)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    with pytest.raises(ValueError, match="1: no batch norm over all ranks for Fused"):
        over_all_ranks(nn.Sequential(nn.ReLU(), Fused(3)))
    with pytest.raises(ValueError, match=r"takes \[B, C\]"):
        BatchNorm(3)(torch.zeros(3))
