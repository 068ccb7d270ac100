"""ONNX files: weights out of a graph that is looked at and not run.

The format is protobuf; `onnx` parses it without touching other files. Looked at are the graph, the
graphs inside of its nodes and its functions, because a file may point outside of itself (external
data), name operators that need a library of their own, or say sizes that it does not hold.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fm.errors import FMError, UsageError

MAX_BYTES = 2 * 2**30
"""protobuf's own limit."""
DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
"""Of operators that onnxruntime has itself; others are loaded from a library."""
_DTYPES = {1: np.float32, 10: np.float16, 11: np.float64, 7: np.int64, 6: np.int32}
"""`TensorProto.DataType` to numpy's, of weights."""
_SPARSE = "sparse tensors, which would fill more than the file"


def weights(path: Path, max_bytes: int) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Return the initialisers of a graph, and the epsilon of each batch norm.

    Args:
        path: the file.
        max_bytes: it may have.

    Returns:
        name to tensor, halves as float32; name of a batch norm's weight to its epsilon.

    Raises:
        UsageError: the package `onnx` is missing.
        FMError: see `parsed`; an initialiser twice, or of a type that is no weight's.
    """
    model = parsed(path, max_bytes)
    state: dict[str, Tensor] = {}
    for item in model.graph.initializer:
        if item.name in state:
            raise FMError(f"{path}: {item.name} is there twice")
        state[item.name] = _tensor(item, path)
    epsilons = {}
    for node in model.graph.node:
        if node.op_type == "BatchNormalization" and len(node.input) > 1:
            told = [a.f for a in node.attribute if a.name == "epsilon"]
            epsilons[node.input[1]] = told[0] if told else 1e-5  # what the format says when none is
    return state, epsilons


def parsed(path: Path, max_bytes: int = MAX_BYTES) -> Any:
    """Parse a file and refuse what reaches outside of it.

    Raises:
        UsageError: the package `onnx` is missing.
        FMError: too large, no ONNX file, a tensor that lies in another file or says another size
            than it holds, or an operator of a library.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    except ImportError:
        raise UsageError(
            f"{path}: onnx is missing; install it with `pip install eofm[onnx]`"
        ) from None
    limit = min(max_bytes, MAX_BYTES)
    if path.stat().st_size > limit:
        raise FMError(f"{path}: {path.stat().st_size:,} bytes, above the limit of {limit:,}")
    try:
        model = onnx.ModelProto.FromString(path.read_bytes())
    except DecodeError:
        raise FMError(f"{path}: not an ONNX file, or damaged") from None
    if not model.graph.node:
        raise FMError(f"{path}: not an ONNX file, or one without a graph")
    domains = {*DOMAINS, *(function.domain for function in model.functions)}
    for graph in (model.graph, *model.functions):
        for node in _nodes(graph):
            if node.domain not in domains:
                raise FMError(
                    f"{path}: refused, nothing of it was run: the operator {node.domain}."
                    f"{node.op_type} needs a library of its own"
                )
            for attribute in node.attribute:
                if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
                    raise FMError(f"{path}: {_SPARSE}")
                for item in (attribute.t, *attribute.tensors):
                    _check(item, path)
        for inner in _graphs(graph):
            for item in inner.initializer:
                _check(item, path)
            if inner.sparse_initializer:
                raise FMError(f"{path}: {_SPARSE}")
    return model


def _nodes(graph: Any) -> Iterator[Any]:
    """Every node, those of inner graphs too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)


def _graphs(graph: Any) -> Iterator[Any]:
    """A graph and those inside of it; a function has nodes alone."""
    if hasattr(graph, "initializer"):
        yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node or inner.initializer or inner.sparse_initializer:
                    yield from _graphs(inner)


def _check(item: Any, path: Path) -> None:
    name = item.name or "a constant"
    if item.external_data or item.data_location:
        raise FMError(
            f"{path}: refused, nothing of it was run: {name} lies in another file; save the "
            f"weights inside"
        )
    if any(side < 0 for side in item.dims):
        raise FMError(f"{path}: {name} has a negative size")
    dtype = _DTYPES.get(item.data_type)
    wanted = math.prod(item.dims)
    held = None
    if item.raw_data:
        held = None if dtype is None else len(item.raw_data) / np.dtype(dtype).itemsize
    elif dtype is not None:
        # halves lie in int32_data, one a number
        lists = (item.float_data, item.double_data, item.int64_data, item.int32_data)
        held = max(len(values) for values in lists)
    if held is not None and held != wanted:
        raise FMError(f"{path}: {name} says {list(item.dims)} but stores {held:g} numbers; damaged")


def _tensor(item: Any, path: Path) -> Tensor:
    from onnx import numpy_helper

    if item.data_type not in _DTYPES:
        raise FMError(f"{path}: {item.name} is of a type that no weight has ({item.data_type})")
    try:
        made = torch.from_numpy(np.array(numpy_helper.to_array(item)))
    except (ValueError, TypeError) as error:
        why = " ".join(str(error).split())[:120]
        raise FMError(f"{path}: {item.name} is damaged ({why})") from None
    return made.float() if made.dtype == torch.float16 else made
