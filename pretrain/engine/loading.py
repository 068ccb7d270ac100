"""What DeepSpeed leaves out, or changes, when it loads a checkpoint."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fm.errors import FMError


@contextmanager
def own_hyperparameters(optimizer: Any) -> Iterator[None]:
    """Keep the parameter groups' settings those of this run's config while a state is loaded.

    Under ZeRO 3 a universal checkpoint gives all groups the settings of the first, so that what
    must not be decayed would be.

    Args:
        optimizer: with `param_groups`; counts of steps in them are loaded.
    """
    before = [
        {key: value for key, value in group.items() if key not in ("params", "step")}
        for group in optimizer.param_groups
    ]
    yield
    for group, values in zip(optimizer.param_groups, before, strict=True):
        group.update(values)


def load_untrained(module: nn.Module, folder: Path) -> None:
    """Load buffers and frozen parameters, which DeepSpeed leaves out of universal checkpoints.

    Args:
        module: as it was given to DeepSpeed.
        folder: the universal checkpoint; the files of the model are those that the ranks wrote.

    Raises:
        FMError: one of them is missing, or of another shape.
    """
    states = [
        torch.load(path, map_location="cpu", weights_only=False, mmap=True)
        for path in sorted(folder.glob("*_model_states.pt"), key=_rank)
    ]
    if not states:
        raise FMError(f"{folder}: holds no state of the model")
    kept = set(module.state_dict())
    for name, buffer in module.named_buffers():
        if name in kept:
            _fill(name, buffer, states[0]["module"].get(name), folder)
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            with _gathered(parameter):
                _fill(name, parameter.data, _frozen(states, name), folder)


def _rank(path: Path) -> int:
    """Return the rank that wrote a file of the model; below ZeRO 3 there is but one."""
    found = re.match(r"zero_pp_rank_(\d+)_", path.name)
    return int(found.group(1)) if found else 0


def _frozen(states: list[dict[str, Any]], name: str) -> Tensor | None:
    """Return a frozen parameter, from its parts where ZeRO 3 splits it."""
    shapes = states[0].get("frozen_param_shapes") or {}
    parts = [(state.get("frozen_param_fragments") or {}).get(name) for state in states]
    if name not in shapes or any(part is None for part in parts) or len(states) == 1:
        whole = states[0]["module"].get(name)
        if whole is not None and (name not in shapes or whole.shape == shapes[name]):
            return whole
    if name not in shapes or any(part is None for part in parts):
        return None
    shape = shapes[name]
    return torch.cat([part.flatten() for part in parts])[: shape.numel()].view(shape)


def _fill(name: str, target: Tensor, value: Tensor | None, folder: Path) -> None:
    if value is None or value.shape != target.shape:
        raise FMError(f"{folder}: {name} is missing or of another shape; it is of another model")
    with torch.no_grad():
        target.copy_(value)


@contextmanager
def _gathered(parameter: nn.Parameter) -> Iterator[None]:
    """Make a parameter whole while it is written; every rank writes the same."""
    if not hasattr(parameter, "ds_id"):
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0):
        yield
