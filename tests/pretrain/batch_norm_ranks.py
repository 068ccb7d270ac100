"""Batch norm over ranks."""

from pathlib import Path

import torch
from torch import Tensor, nn

from pretrain.objectives.contrast.batch_norm import of_each_rank, over_all_ranks
from pretrain.ranks import collective
from pretrain.ranks.processes import processes

SHARES = ((5, 3), (8, 0))
"""Rows of each rank, of 8."""
SHAPES = ((8, 6), (8, 6, 3, 2))
FEW = ((1, 4), (1, 1), (1, 0), (0, 0))
"""Rows of each rank, of which one has no variance and none no mean."""


def rows(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return numbers far from zero, and what each counts in the loss."""
    generator = torch.Generator().manual_seed(len(shape))
    return (
        torch.randn(shape, generator=generator) + 30.0,
        torch.randn(shape, generator=generator),
    )


def norm_of(shape: tuple[int, ...]) -> nn.Module:
    """Return torch's norm for a shape, with weights that do something."""
    made = (nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d)(shape[1])
    with torch.no_grad():
        made.weight.copy_(torch.linspace(0.5, 2.0, shape[1]))
        made.bias.copy_(torch.linspace(-1.0, 1.0, shape[1]))
    return made


def results(norm: nn.Module, x: Tensor, counts: Tensor) -> dict[str, Tensor]:
    """Normalise twice; return the last result, gradients and running statistics."""
    x = x.clone().requires_grad_()
    norm(x.detach())
    out = norm(x)
    (out.pow(3) * counts).sum().backward()
    grads = {name: collective.all_reduce_sum(p.grad) for name, p in norm.named_parameters()}
    return {"out": out.detach(), "x": x.grad, **grads, **dict(norm.named_buffers())}


def few(share: tuple[int, ...], *, alone: bool) -> dict[str, Tensor]:
    """Normalise twice maps of a pixel, with the moments of each rank or of all."""
    first, last = sum(share[: collective.rank()]), sum(share[: collective.rank() + 1])
    x, counts = (x[first:last] for x in rows((8, 6, 1, 1)))
    norm = norm_of((8, 6, 1, 1))
    (of_each_rank if alone else over_all_ranks)(norm)
    return results(norm, x, counts)


def main(out: Path) -> None:
    """Write the results of each rank for each share and shape."""
    found = {}
    with processes():
        for share in SHARES:
            first, last = sum(share[: collective.rank()]), sum(share[: collective.rank() + 1])
            for shape in SHAPES:
                x, counts = rows(shape)
                norm = over_all_ranks(norm_of(shape))
                found[share, shape] = results(norm, x[first:last], counts[first:last])
        told = {(share, alone): few(share, alone=alone) for share in FEW for alone in (True, False)}
        torch.save(told, out / f"few{collective.rank()}.pt")
        torch.save(found, out / f"{collective.rank()}.pt")
