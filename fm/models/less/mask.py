"""The perception field: which positions see each other."""

import functools

import torch
from torch import Tensor

from fm.models.positions import crossed


def perception_field(
    rows: int, columns: int, token_m: float, radius_m: float, device: torch.device
) -> Tensor:
    """Return which tokens see each other: those no farther apart than a radius.

    LESS ViT (arXiv 2503.12843, section on the perception field mask). The class position sees all
    and is seen by all. Made once for each grid, token size and radius.

    Args:
        rows: grid height.
        columns: grid width.
        token_m: ground distance between neighbouring tokens, metres.
        radius_m: of the field, metres.
        device: where to make it.

    Returns:
        `[1 + rows * columns, 1 + rows * columns]` bool, the class position first.
    """
    if torch.compiler.is_exporting():  # its tensors are not real and its sizes may vary
        return _field(rows, columns, token_m, radius_m, device)
    return _kept(rows, columns, token_m, radius_m, device)


def _field(
    rows: int, columns: int, token_m: float, radius_m: float, device: torch.device
) -> Tensor:
    with torch.inference_mode(False):  # kept for later calls, which may need gradients
        row, column = crossed(
            torch.arange(rows, dtype=torch.float64, device=device),
            torch.arange(columns, dtype=torch.float64, device=device),
        )
        place = torch.stack([row, column], dim=1) * token_m
        # the exact differences: cdist by matrix products would round on the border
        apart = (place[:, None] - place[None]).square().sum(dim=-1)
        size = 1 + place.shape[0]
        allowed = torch.ones((size, size), dtype=torch.bool, device=device)
        allowed[1:, 1:] = apart <= radius_m**2 * (1 + 1e-9)
        return allowed


_kept = functools.lru_cache(maxsize=64)(_field)
