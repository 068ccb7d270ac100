"""Copies of a state in host memory: apart from it, whole, and byte for byte the same on disk."""

import collections
import io
from typing import Any

import torch
from torch import Tensor

from pretrain.engine.snapshot import HostBuffers


def state() -> dict[str, Any]:
    """Parts of one tensor, one tensor twice, and what else DeepSpeed writes."""
    flat = torch.arange(24, dtype=torch.float32)
    module = collections.OrderedDict(
        weight=flat[:12].view(3, 4), bias=flat[12:16], turned=flat[16:].view(2, 4).t()
    )
    module._metadata = {"": {"version": 1}}  # type: ignore[attr-defined]
    shared = [1, 2]
    return {
        "module": module,
        "optimizer": {"state": {0: {"step": torch.tensor(3.0), "exp_avg": flat[3:9]}}},
        "half": torch.ones(5, dtype=torch.bfloat16),
        "empty": torch.empty(0),
        "sizes": [torch.Size([3, 4])],
        "pair": (flat, "text"),
        "twice": [shared, shared],
        "flag": True,
    }


def written(value: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def test_the_copy_is_written_byte_for_byte_as_the_state() -> None:
    value = state()
    assert written(HostBuffers().take("a", value)) == written(value)


def test_the_copy_does_not_see_later_values() -> None:
    value = state()
    before = written(value)
    taken = HostBuffers().take("a", value)
    value["pair"][0].add_(1)
    value["optimizer"]["state"][0]["step"] += 1
    value["twice"][0].append(3)
    assert written(value) != before
    assert written(taken) == before


def test_the_same_memory_takes_the_next_state() -> None:
    buffers = HostBuffers()
    first: Tensor = buffers.take("a", state())["half"]
    size = buffers.nbytes
    second: Tensor = buffers.take("a", state())["half"]
    assert second.data_ptr() == first.data_ptr()
    assert buffers.nbytes == size == 24 * 4 + 4 + 10
    other: Tensor = buffers.take("b", state())["half"]
    assert other.data_ptr() != first.data_ptr()


def test_a_state_that_changed_its_size_is_whole() -> None:
    buffers = HostBuffers()
    buffers.take("a", {"x": torch.ones(3)})
    assert buffers.take("a", {"x": torch.arange(5)})["x"].tolist() == [0, 1, 2, 3, 4]
