"""Weights that go to a file one after another, so that they need never be held together."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fm.errors import FMError

DTYPES = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.uint16: "U16",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int32: "I32",
    torch.uint32: "U32",
    torch.float32: "F32",
    torch.float64: "F64",
    torch.int64: "I64",
    torch.uint64: "U64",
}
"""Names of the format, in the order in which it sorts them; tensors of the last come first."""


@dataclass(frozen=True)
class Weights:
    """Named tensors that are not there yet.

    Attributes:
        layout: dtype and shape of each.
        values: takes names and yields them with their tensors, in that order, on the CPU.
    """

    layout: Mapping[str, tuple[torch.dtype, Sequence[int]]]
    values: Callable[[Sequence[str]], Iterator[tuple[str, Tensor]]]

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> "Weights":
        """Take tensors that are there."""
        layout = {name: (value.dtype, tuple(value.shape)) for name, value in state.items()}
        return cls(layout, lambda names: ((n, state[n].detach().to("cpu")) for n in names))

    def renamed(self, names: Mapping[str, str]) -> "Weights":
        """Take some of the tensors under other names.

        Args:
            names: new name to the one here.
        """
        there = {own: new for new, own in names.items()}

        def values(wanted: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
            for own, value in self.values([names[new] for new in wanted]):
                yield there[own], value

        return Weights({new: self.layout[own] for new, own in names.items()}, values)

    def order(self) -> list[str]:
        """Return the names in the order of the file."""
        ranks = {dtype: number for number, dtype in enumerate(DTYPES)}
        return sorted(self.layout, key=lambda name: (-ranks[self.layout[name][0]], name))


def write_tensors(path: Path, weights: Weights) -> None:
    """Write a safetensors file, the same bytes as `safetensors.torch.save_file`.

    Source of the format: https://huggingface.co/docs/safetensors. One tensor is held at a time.

    Args:
        path: of the file; durable when this returns, whole only then.
        weights: what goes in.

    Raises:
        FMError: a tensor is not as the layout says, or of a dtype that the format has not.
    """
    for name, (dtype, _) in weights.layout.items():
        if dtype not in DTYPES:
            raise FMError(f"{path}: safetensors has no {dtype} ({name})")
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    names, end = weights.order(), 0
    for name in names:
        dtype, shape = weights.layout[name]
        start, end = end, end + dtype.itemsize * torch.Size(shape).numel()
        header[name] = {
            "dtype": DTYPES[dtype],
            "shape": list(shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as stream:
        stream.write(len(text).to_bytes(8, "little"))
        stream.write(text)
        for expected, (name, value) in zip(names, weights.values(names), strict=True):
            dtype, shape = weights.layout[expected]
            if name != expected or value.dtype != dtype or tuple(value.shape) != tuple(shape):
                raise FMError(f"{path}: {name} is not as it was announced ({expected})")
            flat = value.detach().contiguous().flatten()
            if flat.numel():
                stream.write(flat.view(torch.uint8).numpy().data)
            del value, flat
        stream.flush()
        os.fsync(stream.fileno())
