"""A small ONNX file written by hand: a 1x1 convolution and its global mean.

The format is protobuf (onnx.proto of ONNX IR version 8): fields are (number << 3 | type), then a
varint or a length and bytes.
"""

import numpy as np


def _varint(value: int) -> bytes:
    out = b""
    while True:
        value, low = value >> 7, value & 0x7F
        out += bytes([low | (0x80 if value else 0)])
        if not value:
            return out


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _text(field: int, value: bytes | str) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(raw)) + raw


def _node(kind: str, inputs: list[str], outputs: list[str]) -> bytes:
    parts = [_text(1, name) for name in inputs] + [_text(2, name) for name in outputs]
    return b"".join(parts) + _text(4, kind)


def _value(name: str, shape: list) -> bytes:
    dims = [
        _text(1, _number(1, side) if isinstance(side, int) else _text(2, side)) for side in shape
    ]
    tensor = _number(1, 1) + _text(2, b"".join(dims))
    return _text(1, name) + _text(2, _text(1, tensor))


def model(weight: np.ndarray, batch="B", height="H", width="W") -> bytes:
    """Return the bytes of a model that gives `y` [B, D] and `map` [B, D, H, W].

    Args:
        weight: [D, C, 1, 1] float32 of the convolution.
        batch: a number, or a name for any size.
        height: likewise.
        width: likewise.
    """
    d, c = weight.shape[:2]
    dims = b"".join(_number(1, side) for side in weight.shape)
    initializer = dims + _number(2, 1) + _text(8, "w") + _text(9, weight.astype("<f4").tobytes())
    nodes = [
        _node("Conv", ["x", "w"], ["map"]),
        _node("GlobalAveragePool", ["map"], ["mean"]),
        _node("Flatten", ["mean"], ["y"]),
    ]
    graph = b"".join(_text(1, node) for node in nodes) + _text(2, "g") + _text(5, initializer)
    graph += _text(11, _value("x", [batch, c, height, width]))
    graph += _text(12, _value("y", [batch, d])) + _text(12, _value("map", [batch, d, "h", "w"]))
    return _number(1, 8) + _text(7, graph) + _text(8, _text(1, "") + _number(2, 13))
