import contextlib
import io
import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fm.errors import FMError, UsageError
from shards.codecs import codec as codecs
from shards.codecs.codec import (
    CorruptError,
    array_bytes,
    checksum,
    decode,
    encode,
    webdataset_decode,
)
from shards.format import CODECS, DTYPES

LOSSLESS = sorted(set(CODECS) - {"video"})

arrays = hnp.arrays(
    dtype=st.sampled_from(DTYPES),
    shape=hnp.array_shapes(min_dims=1, max_dims=4, max_side=12),
)


@given(array=arrays, codec=st.sampled_from(LOSSLESS))
@settings(max_examples=80, deadline=None)
def test_round_trip_is_bitwise(array: np.ndarray, codec: str) -> None:
    data = encode(array, codec)
    back = decode(data, CODECS[codec], array.shape, array.dtype.name)
    assert back.dtype == array.dtype
    assert back.tobytes() == np.ascontiguousarray(array).tobytes()


@given(array=arrays, codec=st.sampled_from(LOSSLESS), data=st.data())
@settings(max_examples=80, deadline=None)
def test_a_wrong_size_is_an_error_before_decoding(
    array: np.ndarray, codec: str, data: st.DataObject
) -> None:
    encoded = encode(array, codec)
    wrong = (*array.shape[:-1], array.shape[-1] + data.draw(st.sampled_from((-1, 1, 1000))))
    with pytest.raises(CorruptError):
        decode(encoded, CODECS[codec], wrong, array.dtype.name)
    with pytest.raises(CorruptError):
        decode(encoded[: data.draw(st.integers(0, len(encoded) - 1))], CODECS[codec],
               array.shape, array.dtype.name)  # fmt: skip


@given(garbage=st.binary(max_size=200), ending=st.sampled_from(("npy", "blosc", "pickle")))
@settings(max_examples=100, deadline=None)
def test_garbage_is_an_error(garbage: bytes, ending: str) -> None:
    with pytest.raises(CorruptError):
        decode(garbage, ending, (3, 4), "uint16")


HARD = {
    "constant": lambda dtype: np.full((3, 17, 23), 7, dtype),
    "one element": lambda dtype: np.array([[[3]]], dtype),
    "extremes": lambda dtype: np.array([_least(dtype), 0, _most(dtype)], dtype),
    "ramp": lambda dtype: np.arange(2 * 31 * 33).reshape(2, 31, 33).astype(dtype),
}


def _least(dtype: str) -> float:
    return np.finfo(dtype).min if np.dtype(dtype).kind == "f" else np.iinfo(dtype).min


def _most(dtype: str) -> float:
    return np.finfo(dtype).max if np.dtype(dtype).kind == "f" else np.iinfo(dtype).max


@pytest.mark.parametrize("codec", LOSSLESS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_hard_arrays_come_back_bitwise(dtype: str, codec: str) -> None:
    for name, make in HARD.items():
        array = make(dtype)
        back = decode(encode(array, codec), CODECS[codec], array.shape, dtype)
        assert back.tobytes() == array.tobytes(), name


@pytest.mark.parametrize("codec", LOSSLESS)
def test_the_bits_of_nan_and_negative_zero_are_kept(codec: str) -> None:
    bits = np.array([0x7FC00000, 0x7F800001, 0xFFC12345, 0x80000000, 0xFF800000], np.uint32)
    array = np.tile(bits, 40).view(np.float32).reshape(2, 10, 10)
    back = decode(encode(array, codec), CODECS[codec], array.shape, "float32")
    assert np.array_equal(back.view(np.uint32), array.view(np.uint32))


def test_auto_is_the_default_of_the_dtype() -> None:
    assert set(codecs.DEFAULTS) == set(DTYPES)
    for dtype, name in codecs.DEFAULTS.items():
        array = np.arange(300).reshape(3, 10, 10).astype(dtype)
        assert codecs.choose("auto", dtype) == name
        assert encode(array, "auto") == encode(array, name)
        assert codecs.settings("auto", dtype)["codec"] == name
    with pytest.raises(UsageError, match="blosc-lz4"):
        codecs.choose("blosc-lz5", "uint16")
    with pytest.raises(UsageError, match="video"):
        encode(np.zeros((1, 8, 8), np.uint16), "video")


def test_the_recorded_settings_are_those_of_the_bytes() -> None:
    array = np.arange(3 * 64 * 64).reshape(3, 64, 64)
    for dtype in DTYPES:
        for name in ("blosc-lz4", "blosc-lz4hc", "blosc-zstd"):
            said = codecs.settings(name, dtype)
            packed = codecs.Blosc(said["compressor"], said["shuffle"], said["level"])
            data = encode(array.astype(dtype), name)
            assert data == codecs.pack(array.astype(dtype), packed)
            flags, size = data[2], data[3]  # of the Blosc 1 header
            assert size == np.dtype(dtype).itemsize
            assert flags >> 5 == {"lz4": 1, "lz4hc": 1, "zstd": 4}[said["compressor"]]
            if size > 1 and not flags & 2:  # the header of a plain copy says nothing
                assert {0: "none", 1: "byte", 4: "bit"}[flags & 5] == said["shuffle"]


def test_bytes_of_older_settings_are_read() -> None:
    # eofm 0.1 wrote level 5 with the bit shuffle under the names blosc-lz4 and blosc-zstd
    array = np.random.default_rng(3).integers(-900, 900, (4, 33, 35)).astype(np.int16)
    for compressor in ("lz4", "zstd"):
        data = codecs.pack(array, codecs.Blosc(compressor, "bit", 5))
        assert np.array_equal(decode(data, "blosc", array.shape, "int16"), array)


def test_hostile_blosc_headers_are_errors() -> None:
    array = np.arange(4 * 24 * 24).reshape(4, 24, 24).astype(np.uint16)
    good = encode(array, "blosc-lz4hc")
    out = np.empty_like(array)
    for at, value in (
        *((4, n) for n in (0, 1, array.nbytes - 1, array.nbytes + 1, 2**31 - 1, 2**32 - 1)),
        *((8, n) for n in (0, array.nbytes * 2, 2**31 - 1, 2**32 - 1)),
        *((12, n) for n in (0, 15, 16, len(good) - 1, len(good) + 1, 2**32 - 1)),
    ):
        bad = bytearray(good)
        struct.pack_into("<I", bad, at, value)
        with pytest.raises(CorruptError, match="Blosc"):
            codecs.decode_into(bytes(bad), "blosc", out)
    for at, value in ((0, 9), (2, 0xE0), (3, 0)):
        bad = bytearray(good)
        bad[at] = value
        with pytest.raises(CorruptError, match="Blosc"):
            codecs.decode_into(bytes(bad), "blosc", out)


def test_damaged_frames_never_write_outside_the_buffer() -> None:
    rng = np.random.default_rng(0)
    array = (np.arange(3 * 20 * 20) // 7).reshape(3, 20, 20).astype(np.uint16)
    room = np.full(array.size + 64, 0xABCD, np.uint16)
    out = room[32:-32].reshape(array.shape)
    for codec in ("blosc-lz4", "blosc-lz4hc", "blosc-zstd"):
        good = np.frombuffer(encode(array, codec), np.uint8)
        for _ in range(150):
            bad = good.copy()
            bad[rng.integers(16, len(bad), 3)] = rng.integers(0, 256, 3)
            with contextlib.suppress(CorruptError):
                codecs.decode_into(bad.tobytes(), "blosc", out)
            assert (room[:32] == 0xABCD).all()
            assert (room[-32:] == 0xABCD).all()


def test_large_arrays_encode_to_the_same_bytes_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    # Blosc with its own threads orders blocks by who finishes first; ours must not.
    noise = np.random.default_rng(0).integers(0, 4000, (13, 264, 264)).astype(np.uint16)
    compress, threads = codecs.blosc.compress, []

    def watched(*words: object) -> bytes:
        threads.append(codecs.blosc.use_threads)
        return compress(*words)

    monkeypatch.setattr(codecs.blosc, "compress", watched)
    assert len({checksum(encode(noise, "blosc-lz4")) for _ in range(12)}) == 1
    assert len({checksum(encode(noise[:4], "blosc-lz4hc")) for _ in range(3)}) == 1
    assert threads == [False] * 15  # on a busy machine they may finish in order all the same


def test_big_endian_arrays_are_stored_little_endian() -> None:
    array = np.arange(6, dtype=">u2").reshape(2, 3)
    back = decode(encode(array, "blosc-lz4"), "blosc", (2, 3), "uint16")
    assert np.array_equal(back, array)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((2**31 - 1, 2**31 - 1), "uint8"), ((-1, 3), "uint8"), ((), "uint8"), ((0, 2), "int16"),
     ((1,) * 6, "uint8"), ((3,), "object"), ((3,), "complex64")],
)  # fmt: skip
def test_sizes_are_bounded_before_allocation(shape: tuple[int, ...], dtype: str) -> None:
    with pytest.raises(CorruptError):
        array_bytes(shape, dtype)


def test_npy_with_another_header_is_read_too() -> None:
    array = np.arange(12, dtype=np.uint16).reshape(3, 4)
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version=(2, 0))
    assert np.array_equal(decode(stream.getvalue(), "npy", (3, 4), "uint16"), array)
    stream = io.BytesIO()
    np.save(stream, np.asfortranarray(array))
    with pytest.raises(CorruptError, match="Fortran"):
        decode(stream.getvalue(), "npy", (3, 4), "uint16")


def test_object_arrays_in_npy_are_refused() -> None:
    stream = io.BytesIO()
    np.save(stream, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(CorruptError, match="object"):
        decode(stream.getvalue(), "npy", (1,), "uint8")


def sample(array: np.ndarray) -> dict[str, object]:
    data = encode(array, "blosc-lz4")
    entry = {"shape": array.shape, "dtype": array.dtype.name, "xxh3": f"{checksum(data):016x}"}
    about = {"key": "a", "members": {"m": entry}}
    return {"__key__": "a", "m.blosc": data, "json": json.dumps(about).encode()}


def test_webdataset_decode_checks_what_it_reads() -> None:
    array = np.arange(12, dtype=np.int16).reshape(3, 4)
    good = sample(array)
    assert np.array_equal(webdataset_decode(good)["m"], array)
    damaged = good | {"m.blosc": good["m.blosc"][:-1] + b"\xff"}
    with pytest.raises(FMError, match=r"sample a: .*checksum"):
        webdataset_decode(damaged)
    about = json.loads(good["json"])
    about["members"]["m"]["shape"] = [2**30, 2**30]
    with pytest.raises(FMError, match="limit"):
        webdataset_decode(good | {"json": json.dumps(about)})
    with pytest.raises(FMError, match="not a readable eofm sample"):
        webdataset_decode({"__key__": "b"})
