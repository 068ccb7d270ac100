"""What DeepSpeed leaves out, or changes, when it loads a checkpoint."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fm.errors import FMError
from pretrain.engine.files import ModelFiles


@contextmanager
def own_hyperparameters(optimizer: Any) -> Iterator[None]:
    """Keep the parameter groups' settings those of this run's config while a state is loaded.

    Under ZeRO 3 a universal checkpoint gives all groups the settings of the first, so that what
    must not be decayed would be. It also gives all states one count of steps, which every group
    would then raise; here each gets its own.

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
    for state in getattr(optimizer, "optimizer", optimizer).state.values():
        if isinstance(state.get("step"), Tensor):
            state["step"] = state["step"].clone()


def load_untrained(module: nn.Module, folder: Path, stage: int) -> None:
    """Load buffers and frozen parameters, which DeepSpeed leaves out of universal checkpoints.

    Args:
        module: as it was given to DeepSpeed.
        folder: the universal checkpoint; the files of the model are those that the ranks wrote.
        stage: ZeRO's.

    Raises:
        FMError: one of them is missing, or of another shape.
    """
    files, kept = ModelFiles(folder, stage), set(module.state_dict())
    for name, buffer in module.named_buffers():
        if name in kept:
            _fill(name, buffer, files.tensor(name), folder)
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            with _whole(parameter):
                _fill(name, parameter.data, files.tensor(name), folder)


def _fill(name: str, target: Tensor, value: Tensor, folder: Path) -> None:
    if value.shape != target.shape:
        raise FMError(
            f"{folder}: {name} is {tuple(value.shape)} and not {tuple(target.shape)}; it is of "
            f"another model"
        )
    with torch.no_grad():
        target.copy_(value)


@contextmanager
def _whole(parameter: nn.Parameter) -> Iterator[None]:
    """Gather a parameter that ZeRO 3 splits, and split what was written into it."""
    if not hasattr(parameter, "ds_id"):
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0):
        yield
