"""A state as it is now, copied to host memory, so that it can be written while training goes on."""

import copy
from typing import Any

import torch
from torch import Tensor


class HostBuffers:
    """Host memory that one snapshot after another is copied into.

    A state is the same from one checkpoint to the next but for its values, so the buffers fit
    again. What was copied before is overwritten: one snapshot at a time is whole.
    """

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, int], Tensor] = {}

    def take(self, name: str, state: Any) -> Any:
        """Copy a state.

        What is written of the copy is byte for byte what would be written of the state: tensors
        that share memory share it in the copy, and so do other objects.

        Args:
            name: of the state; another name takes other buffers.
            state: tensors in dicts, lists and tuples, and whatever else there is.

        Returns:
            the same, with plain tensors in host memory.
        """
        copier = _Copier(self, name)
        found = copier.of(state)
        if copier.devices:
            torch.cuda.synchronize()
        return found

    def buffer(self, name: str, number: int, size: int, *, pinned: bool) -> Tensor:
        """Return `size` bytes of host memory, the same ones as for the snapshot before."""
        held = self._buffers.get((name, number))
        if held is None or len(held) != size:
            held = torch.empty(size, dtype=torch.uint8, pin_memory=pinned)
            self._buffers[name, number] = held
        return held

    @property
    def nbytes(self) -> int:
        """Bytes of host memory that are held."""
        return sum(len(held) for held in self._buffers.values())


class _Copier:
    """One snapshot."""

    def __init__(self, buffers: HostBuffers, name: str) -> None:
        self._buffers, self._name = buffers, name
        self._memo: dict[int, Any] = {}
        self._storages: dict[int, Any] = {}
        self._alive: list[Any] = []  # an id in the memo is of an object that must not go
        self.devices = False

    def of(self, value: Any) -> Any:
        known = self._memo.get(id(value))
        if known is not None:
            return known
        if type(value) is Tensor:
            found: Any = self._tensor(value)
        elif isinstance(value, dict) and type(value) is not dict:
            found = copy.copy(value)  # an ordered one, with the attributes it has
            for key, part in value.items():
                found[key] = self.of(part)
        elif type(value) is dict:
            found = {key: self.of(part) for key, part in value.items()}
        elif type(value) is list:
            found = [self.of(part) for part in value]
        elif type(value) is tuple:
            parts = [self.of(part) for part in value]
            same = all(a is b for a, b in zip(parts, value, strict=True))
            found = value if same else tuple(parts)
        else:  # a tensor inside of it is copied too, into memory of its own
            found = copy.deepcopy(value, self._memo)
        self._memo[id(value)] = found
        self._alive.append(value)
        return found

    def _tensor(self, tensor: Tensor) -> Tensor:
        """Copy a tensor, and with it all of the memory it looks into."""
        source = tensor.untyped_storage()
        held = self._storages.get(source._cdata)
        if held is None:
            on_device = source.device.type == "cuda"
            held = self._buffers.buffer(
                self._name, len(self._storages), source.nbytes(), pinned=on_device
            )
            seen = torch.empty(0, dtype=torch.uint8, device=source.device).set_(source)
            held.copy_(seen, non_blocking=on_device)
            self.devices = self.devices or on_device
            self._storages[source._cdata] = held
            self._alive.append(source)
        found = torch.empty(0, dtype=tensor.dtype)
        with torch.no_grad():
            found.set_(
                held.untyped_storage(), tensor.storage_offset(), tensor.size(), tensor.stride()
            )
        return found.requires_grad_(tensor.requires_grad)
