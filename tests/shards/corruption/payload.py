"""Members whose bytes pass their checksum and are meant to break the decoder."""

import ctypes
import mmap

import numpy as np

from shards.codecs.codec import decode_into, encode
from shards.format import CODECS
from tests.shards.corruption.mutate import BYTES, rng


class Guarded:
    """Memory between two pages that may not be touched: an overrun ends the process."""

    def __init__(self, size: int) -> None:
        libc, one = ctypes.CDLL(None), mmap.PAGESIZE
        self._room = -(-size // one) * one
        self._map = mmap.mmap(-1, self._room + 2 * one)
        self._array = np.frombuffer(self._map, np.uint8)
        base = self._array.ctypes.data
        for at in (base, base + one + self._room):
            assert libc.mprotect(ctypes.c_void_p(at), ctypes.c_size_t(one), 0) == 0
        self._end = one + self._room

    def end(self, size: int) -> np.ndarray:
        """Return the last bytes before the guard."""
        return self._array[self._end - size : self._end]


PAYLOADS: list[tuple[str, bytes, np.ndarray]] = []
ROOM: list[Guarded] = []


def prepare() -> None:
    """Make good members of every codec, and room for bad ones."""
    noise = np.random.default_rng(0)
    for codec in ("npy", "blosc-lz4", "blosc-lz4hc", "blosc-zstd"):
        for shape, dtype in (
            ((4, 24, 24), "uint16"),
            ((3, 5, 7), "float32"),
            ((3, 90, 90), "int64"),
        ):
            array = noise.normal(1000, 60, shape).astype(dtype)
            PAYLOADS.append((codec, encode(array, codec), array))
    ROOM.extend((Guarded(1 << 20), Guarded(1 << 20)))


def payload() -> str:
    """Bytes that pass their checksum go to the decoder, whatever they are."""
    codec, good, array = rng.choice(PAYLOADS)
    bad = bytearray(good)
    choice = rng.randrange(7)
    if codec == "npy":
        if choice < 3:
            for _ in range(rng.randrange(1, 6)):
                bad[rng.randrange(128)] = rng.randrange(256)
        elif choice < 5:
            head = repr(
                {
                    "descr": rng.choice(("|O", "<u2", ">u2", "<V9", "(1,2)<u2", "")),
                    "fortran_order": rng.random() < 0.2,
                    "shape": rng.choice(((2**62, 2**62), (-1,), (), array.shape, "x")),
                }
            )
            head = rng.choice((head, head[:-3], "(" * 900, "[" * 3000, head * 9, "9" * 3000))
            bad[8:] = len(head).to_bytes(2, "little") + head.encode() + good[128:]
        else:
            rng.choice(BYTES)(bad)
    else:
        if choice == 0:  # versions, flags, size of an element
            for _ in range(rng.randrange(1, 4)):
                bad[rng.randrange(4)] = rng.randrange(256)
        elif choice == 1:  # block size
            sizes = (0, 1, 15, 16, 17, array.nbytes, 2**31 - 1, 2**31, 2**32 - 1)
            bad[8:12] = rng.choice((*sizes, rng.randrange(2**32))).to_bytes(4, "little")
        elif choice == 2:  # where a block begins
            at = 16 + 4 * rng.randrange(max(1, min(40, (len(bad) - 20) // 4)))
            starts = (0, 1, 2**31 - 1, 2**31, 2**32 - 16, len(bad), len(bad) - 1)
            bad[at : at + 4] = rng.choice((*starts, rng.randrange(2**32))).to_bytes(4, "little")
        elif choice == 3:
            bad[16:] = rng.randbytes(len(bad) - 16)
        elif choice == 4:
            del bad[rng.randrange(16, len(bad)) :]
        else:
            for _ in range(rng.randrange(1, 30)):
                bad[rng.randrange(16, rng.choice((min(len(bad), 80), len(bad))))] = rng.randrange(
                    256
                )
        bad[12:16] = len(bad).to_bytes(4, "little")
    source = ROOM[0].end(len(bad))
    source[:] = np.frombuffer(bytes(bad), np.uint8)
    out = ROOM[1].end(array.nbytes).view(array.dtype).reshape(array.shape)
    decode_into(memoryview(source), CODECS[codec], out)
    return "survived"
