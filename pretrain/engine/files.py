"""DeepSpeed's files of a checkpoint, read without an engine and without running what they hold."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fm.errors import FMError
from fm.tensors import Weights


def read_state(path: Path) -> dict[str, Any]:
    """Read one of DeepSpeed's files; tensors stay on disk until they are looked at.

    Raises:
        FMError: it is damaged, or holds other objects than DeepSpeed writes.
    """
    from deepspeed.runtime.fp16.loss_scaler import LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    try:
        with torch.serialization.safe_globals([LossScaler, ZeroStageEnum, fragment_address]):
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError:
        raise FMError(f"{path}: is missing; the checkpoint is damaged") from None
    except Exception as error:  # of the zip, of the pickle in it, or of what it names
        words = str(error).splitlines()[0]
        raise FMError(f"{path}: not a file of a checkpoint ({words})") from None
    if not isinstance(state, dict):
        raise FMError(f"{path}: not a file of a checkpoint")
    return state


def model_files(folder: Path) -> list[Path]:
    """Return the files of the model in the order of the ranks; one below ZeRO 3.

    Raises:
        FMError: there are none.
    """
    found = sorted(folder.glob("*model_states.pt"), key=_rank)
    if not found:
        raise FMError(f"{folder}: holds no state of a model; the checkpoint is damaged")
    return found


def _rank(path: Path) -> int:
    found = re.search(r"zero_pp_rank_(\d+)_", path.name)
    return int(found.group(1)) if found else 0


class ModelFiles:
    """A model in a checkpoint: buffers, frozen and trained parameters, whole whatever the stage.

    Weights that were trained in bfloat16 come from the optimiser's float32 copy.

    Args:
        folder: DeepSpeed's.
        stage: ZeRO's.
    """

    def __init__(self, folder: Path, stage: int) -> None:
        self._folder, self._states = folder, [read_state(path) for path in model_files(folder)]
        first = self._states[0]
        self._module: Mapping[str, Tensor] = first["module"]
        self._frozen: Mapping[str, Any] = first.get("frozen_param_shapes") or {}
        self._trained: dict[str, tuple[int, int, torch.Size]] = {}
        self._rounded: dict[str, torch.Size] = {}
        self._optimizers: list[Mapping[str, Any]] = []
        groups = first.get("param_shapes") or []
        if stage in (1, 2):
            shapes = {name: torch.Size(shape) for group in groups for name, shape in group.items()}
            halves = {n for n, value in self._module.items() if value.dtype == torch.bfloat16}
            self._rounded = {name: shapes[name] for name in halves & shapes.keys()}
        if stage == 3:
            for number, group in enumerate(groups):
                start = 0
                for name, shape in group.items():
                    self._trained[name] = (number, start, torch.Size(shape))
                    start += -(-torch.Size(shape).numel() // len(self._states))
        self._split = stage == 3

    def weights(self, prefix: str) -> Weights:
        """Return what is under a prefix, without the prefix."""
        layout = {}
        for name in self._module:
            if name.startswith(prefix):
                value = self._module[name]
                split = self._trained.get(name)
                shape = split[2] if split else self._frozen.get(name, value.shape)
                dtype = torch.float32 if split or name in self._rounded else value.dtype
                layout[name.removeprefix(prefix)] = (dtype, tuple(shape))

        def values(names: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
            for name in names:
                yield name, self.tensor(prefix + name)

        return Weights(layout, values)

    def tensor(self, name: str) -> Tensor:
        """Return a buffer or parameter.

        Raises:
            FMError: there is none of that name.
        """
        if name in self._trained:
            return self._gathered(name)
        if name in self._rounded:
            return self._pieced(name)
        if self._split and name in self._frozen:
            parts = [state["frozen_param_fragments"][name].flatten() for state in self._states]
            shape = self._frozen[name]
            return torch.cat(parts)[: shape.numel()].view(shape)
        if name not in self._module:
            raise FMError(f"{self._folder}: holds no {name}; it is of another model")
        return self._module[name]

    def _gathered(self, name: str) -> Tensor:
        """Return a parameter of which ZeRO 3 gave each rank an equal piece, the last one padded."""
        number, start, shape = self._trained[name]
        size = -(-shape.numel() // len(self._states))
        flat = [state["fp32_flat_groups"][number].flatten() for state in self._of_ranks()]
        parts = [x[start : start + size] for x in flat]
        return torch.cat(parts)[: shape.numel()].view(shape)

    def _pieced(self, name: str) -> Tensor:
        """Return a parameter that lies in the flat groups of one rank or of some that follow."""
        parts = []
        for state in self._of_ranks():
            flat = state["single_partition_of_fp32_groups"]
            for group, pieces in zip(flat, state["param_slice_mappings"], strict=True):
                if name in pieces:
                    place = pieces[name]
                    parts.append(group.flatten()[place.start : place.start + place.numel])
        return torch.cat(parts).view(self._rounded[name])

    def _of_ranks(self) -> list[Mapping[str, Any]]:
        """Return the optimiser's state of each rank, in their order."""
        if not self._optimizers:
            paths = sorted(self._folder.glob("*optim_states.pt"), key=_rank)
            states = [read_state(path)["optimizer_state_dict"] for path in paths]
            if not states:
                raise FMError(f"{self._folder}: holds no state of an optimiser; it is damaged")
            count = len(self._states) if self._split else states[0]["partition_count"][0]
            if len(states) != count:
                raise FMError(f"{self._folder}: {count} ranks wrote it, {len(states)} are there")
            self._optimizers = states
        return self._optimizers
