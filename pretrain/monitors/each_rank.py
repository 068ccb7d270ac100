"""Numbers of every rank, on every rank."""

from collections.abc import Sequence

import torch

from pretrain.ranks import collective


def each_rank(values: Sequence[float], device: torch.device) -> list[list[float]]:
    """Gather a few numbers of each rank in one collective.

    Args:
        values: this rank's, as many on each.
        device: of this process.

    Returns:
        for each of the values, those of all ranks in their order.
    """
    found = torch.zeros((len(values), collective.world_size()), dtype=torch.float64, device=device)
    found[:, collective.rank()] = torch.tensor(list(values), dtype=torch.float64, device=device)
    rows: list[list[float]] = collective.all_reduce_sum(found).tolist()
    return rows
