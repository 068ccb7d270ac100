"""What the forward pass keeps for the backward one, measured on the meta device.

Autograd is asked for each tensor that it keeps; storages are counted once, those of parameters and
of the batch not at all. The meta device has neither autocast nor fused attention, so both are put
in their place: products take bfloat16, and attention keeps its inputs, its output and one float32
a query.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pretrain.engine.batches import MicroBatch
from pretrain.objective import Objective


@dataclass(frozen=True)
class Activations:
    """Bytes that one forward pass keeps.

    Attributes:
        whole: with nothing computed again.
        checkpointed: with each block of the network computed again in the backward pass: the
            blocks' inputs, what lies outside of them, and the inside of the largest one.
    """

    whole: int
    checkpointed: int


class _Attention(torch.autograd.Function):
    """Keeps what a fused attention keeps."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        *outer, heads, count, _ = query.shape
        # kernels write the heads of a token side by side, so that what follows needs no copy
        out = query.new_empty((*outer, count, heads, value.shape[-1])).transpose(-3, -2)
        sums = query.new_empty(query.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(query, key, value, out, sums)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        raise AssertionError("only the forward pass is measured")


PRODUCTS = frozenset(
    {F.linear, torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm, torch.mm, torch.einsum}
    | {F.conv1d, F.conv2d, F.conv3d, torch.conv2d}
)


class _Stand(TorchFunctionMode):
    """Stands in for autocast (where a dtype is given) and for fused attention."""

    def __init__(self, dtype: torch.dtype | None) -> None:
        super().__init__()
        self._dtype = dtype
        self._weights: dict[int, Tensor] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        words = dict(kwargs or {})
        if func is F.scaled_dot_product_attention:
            query, key, value = (self._cast(x) for x in args[:3])
            return _Attention.apply(query, key, value)
        if func in PRODUCTS:
            args = tuple(self._cast(x) for x in args)
            words = {name: self._cast(x) for name, x in words.items()}
        return func(*args, **words)

    def _cast(self, x: Any) -> Any:
        if self._dtype is None or not isinstance(x, Tensor) or not x.is_floating_point():
            return x
        if x.dtype == torch.float64 or x.dtype == self._dtype:
            return x
        if not isinstance(x, nn.Parameter):
            return x.to(self._dtype)
        if id(x) not in self._weights:  # autocast casts a weight once a pass
            self._weights[id(x)] = x.to(self._dtype)
        return self._weights[id(x)]


def activations(objective: Objective, batch: MicroBatch, precision: str) -> Activations:
    """Measure what one forward pass keeps.

    Args:
        objective: on the meta device.
        batch: of the size of a micro-batch, on the meta device.
        precision: `fp32` takes the tensors as they are, anything else bfloat16 in products.
    """
    apart = {*objective.parameters(), *objective.buffers(), *batch.pixels.values()}
    counted = _Counted({x.untyped_storage()._cdata for x in apart})
    dtype = None if precision == "fp32" else torch.bfloat16
    with (
        counted.inside(objective),
        torch.autograd.graph.saved_tensors_hooks(counted.keep, lambda x: x),
        _Stand(dtype),
    ):
        objective(batch, batch.rng)
    return Activations(
        whole=counted.total,
        checkpointed=counted.outside + counted.inputs + max(counted.blocks.values(), default=0),
    )


class _Counted:
    """Adds up storages, by the block of the network they were kept in."""

    def __init__(self, apart: set[int]) -> None:
        self._seen = set(apart)
        self._held: list[Tensor] = []  # so that no storage's address is used again
        self._block: int | None = None
        self.blocks: dict[int, int] = {}
        self.total = self.outside = self.inputs = 0

    def keep(self, x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage._cdata not in self._seen:
            self._seen.add(storage._cdata)
            self._held.append(x)
            self.total += storage.nbytes()
            if self._block is None:
                self.outside += storage.nbytes()
            else:
                self.blocks[self._block] = self.blocks.get(self._block, 0) + storage.nbytes()
        return x

    @contextmanager
    def inside(self, objective: Objective) -> Iterator[None]:
        """Tell the blocks that `engine.activation_checkpointing` computes again."""

        def enter(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            if self._block is None:
                self._block = id(module)
                self.inputs += sum(x.nbytes for x in inputs if isinstance(x, Tensor))

        def leave(module: nn.Module, inputs: Any, output: Any) -> None:
            del inputs, output
            if self._block == id(module):
                self._block = None

        blocks = objective.block_modules()
        hooks = [block.register_forward_pre_hook(enter) for block in blocks]
        hooks += [block.register_forward_hook(leave) for block in blocks]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
