"""Weights written one after another: the file of the library, and one tensor held at a time."""

import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from fm.errors import FMError
from fm.tensors import DTYPES, Weights, write_tensors


def state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    values = {f"x.{i}": (torch.rand(3, i + 1) * 9).to(dtype) for i, dtype in enumerate(DTYPES)}
    return {
        **values,
        "b.weight": torch.rand(4, 2).t(),
        "a.é": torch.rand(5),
        "scalar": torch.tensor(2.0),
        "none": torch.empty(0, 3),
    }


def test_the_bytes_are_those_of_the_library(tmp_path: Path) -> None:
    tensors = state()
    write_tensors(tmp_path / "ours", Weights.of(tensors))
    whole = {name: value.contiguous() for name, value in tensors.items()}
    save_file(whole, str(tmp_path / "theirs"), metadata={"format": "pt"})
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    for name, value in load_file(str(tmp_path / "ours")).items():
        assert torch.equal(value, tensors[name]), name


def test_one_tensor_is_held_at_a_time(tmp_path: Path) -> None:
    alive: set[int] = set()
    most = []

    def values(names: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
        for number, name in enumerate(names):
            value = torch.full((100,), float(name))
            alive.add(number)
            weakref.finalize(value, alive.discard, number)
            most.append(len(alive))
            yield name, value
            del value

    layout = {f"{i:02d}": (torch.float32, (100,)) for i in range(20)}
    write_tensors(tmp_path / "file", Weights(layout, values))
    assert load_file(str(tmp_path / "file"))["07"].tolist() == [7.0] * 100
    assert max(most) <= 2  # the one that is made, and the one that was written last


def test_what_is_not_as_announced_is_refused(tmp_path: Path) -> None:
    layout = {"a": (torch.float32, (2,))}
    with pytest.raises(FMError, match="not as it was announced"):
        write_tensors(tmp_path / "x", Weights(layout, lambda names: iter([("a", torch.ones(3))])))
    with pytest.raises(FMError, match=r"no torch\.complex64 \(c\)"):
        write_tensors(tmp_path / "x", Weights.of({"c": torch.ones(1, dtype=torch.complex64)}))
