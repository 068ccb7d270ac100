"""ZeRO 3: weights that are whole only where they are used.

DeepSpeed gathers a module's own parameters when the module is called, and gathers them again for
its backward pass by hooks on the tensors that it returned. Objectives use codes, class tokens and
heads outside the forward of the module that owns them, and return data classes, which have no such
hooks. So the weights are cut into units: each block is gathered as one when it is called, and all
that lies in none is held from the beginning of a pass to its end.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def outside(root: nn.Module, blocks: Iterable[nn.Module]) -> list[nn.Parameter]:
    """Return the parameters of the root that lie in no block."""
    placed = {id(parameter) for block in blocks for parameter in block.parameters()}
    return [parameter for parameter in root.parameters() if id(parameter) not in placed]


def own_units(root: nn.Module, blocks: Iterable[nn.Module]) -> None:
    """Make each block a unit that is gathered as one, and the root one of all the rest.

    Args:
        root: what DeepSpeed calls; takes what it likes, returns tensors.
        blocks: parts of it that are used by calling them, none inside another; they take and
            return tensors.
    """
    from deepspeed.runtime.zero import register_external_parameter

    # it warns of modules that take or return no tensors, which is what the units are for
    logging.getLogger("DeepSpeed").addFilter(
        lambda record: "has unknown inputs or outputs type" not in record.getMessage()
    )
    found = list(blocks)
    units = [(block, list(block.parameters())) for block in found]
    for unit, parameters in [*units, (root, outside(root, found))]:
        own = {id(parameter) for parameter in unit.parameters(recurse=False)}
        for parameter in parameters:
            if id(parameter) not in own:
                register_external_parameter(unit, parameter)


@contextmanager
def linear_inside(function: Callable[..., Tensor] | None = None) -> Iterator[None]:
    """Put `torch.nn.functional.linear` back on leaving.

    DeepSpeed replaces it for the rest of the process by one that holds no view of a gathered
    weight until the backward pass. Whatever else the process computes would then be computed by
    it too: rounded otherwise, and unknown to a compiler.

    Args:
        function: what it is inside; None leaves it as it is.
    """
    before = torch.nn.functional.linear
    if function is not None:
        torch.nn.functional.linear = function
    try:
        yield
    finally:
        torch.nn.functional.linear = before
