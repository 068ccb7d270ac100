"""Random changes to bytes and to parsed JSON."""

import copy
import hashlib
import json
import random
from typing import Any

rng = random.Random()


def flip(data: bytearray) -> None:
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def overwrite(data: bytearray) -> None:
    at, size = rng.randrange(len(data)), rng.choice((1, 4, 8, 64))
    filler = rng.choice((b"\0", b"\xff", None))
    piece = rng.randbytes(size) if filler is None else filler * size
    data[at : at + size] = piece[: len(data) - at]


def page(data: bytearray) -> None:
    size = rng.choice((512, 4096))
    at = rng.randrange(0, len(data), size)
    end = min(at + size, len(data))
    data[at:end] = bytes(end - at)


def truncate(data: bytearray) -> None:
    del data[rng.randrange(len(data)) :]


def shift(data: bytearray) -> None:
    at = rng.randrange(len(data))
    if rng.random() < 0.5:
        data[at:at] = rng.randbytes(rng.choice((1, 2, 512)))
    else:
        del data[at : at + rng.choice((1, 2, 512))]


def exchange(data: bytearray) -> None:
    size = min(rng.choice((1, 16, 512, 2048)), len(data) // 2)
    a, b = sorted((rng.randrange(len(data) - size + 1), rng.randrange(len(data) - size + 1)))
    if b - a >= size:
        data[a : a + size], data[b : b + size] = data[b : b + size], data[a : a + size]


def append(data: bytearray) -> None:
    data += rng.choice((b"\0" * 512, rng.randbytes(rng.randrange(1, 2000))))


BYTES = (flip, flip, flip, overwrite, overwrite, page, truncate, shift, exchange, append)


def damaged(data: bytes) -> bytes:
    while True:
        result = bytearray(data)
        rng.choice(BYTES)(result)
        if result != data:
            return bytes(result)


LIES: tuple[Any, ...] = (
    *(0, 1, -1, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, -(2**63), 2**64, 10**30, 10**400),
    *(0.5, float("nan"), float("inf"), 1e308, None, True, "", "x", "../../etc/passwd", "/etc"),
    *("x" * 5000, "\ud800", "\0", [], {}, [[]], [None], {"a": 1}, [1] * 3000, "a.tar", "npy"),
    *("float64", "sentinel1-grd", "mask", "text", "video"),
)


def mutated(value: Any) -> Any:
    """Return parsed JSON with one to three places replaced, removed or doubled."""
    value = json.loads(json.dumps(value))
    for _ in range(rng.randrange(1, 4)):
        places: list[tuple[Any, Any]] = []

        def walk(node: Any, places: list[tuple[Any, Any]] = places) -> None:
            for key in node if isinstance(node, dict) else range(len(node)):
                places.append((node, key))
                if isinstance(node[key], (dict, list)):
                    walk(node[key])

        walk(value)
        if not places:
            return value
        node, key = rng.choice(places)
        choice = rng.randrange(6)
        if choice == 0:
            del node[key]
        elif choice == 1 and isinstance(node, list):
            node.append(copy.deepcopy(node[key]))
        elif choice == 2:
            other = rng.choice(places)
            node[key] = json.loads(json.dumps(other[0][other[1]] if other[0] is not node else 7))
        else:
            node[key] = copy.deepcopy(rng.choice(LIES))
    return value


def digest(value: Any) -> str:
    return hashlib.sha256(
        json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    ).hexdigest()
