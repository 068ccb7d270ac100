import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fm.errors import FMError
from shards.codec import CorruptError, array_bytes, checksum, decode, encode, webdataset_decode
from shards.format import CODECS, DTYPES

arrays = hnp.arrays(
    dtype=st.sampled_from(DTYPES),
    shape=hnp.array_shapes(min_dims=1, max_dims=4, max_side=12),
)


@given(array=arrays, codec=st.sampled_from(sorted(CODECS)))
@settings(max_examples=80, deadline=None)
def test_round_trip_is_bitwise(array: np.ndarray, codec: str) -> None:
    data = encode(array, codec)
    back = decode(data, CODECS[codec], array.shape, array.dtype.name)
    assert back.dtype == array.dtype
    assert back.tobytes() == np.ascontiguousarray(array).tobytes()


@given(array=arrays, codec=st.sampled_from(sorted(CODECS)), data=st.data())
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


def test_large_arrays_encode_to_the_same_bytes_each_time() -> None:
    # Blosc with its own threads orders blocks by who finishes first; ours must not.
    noise = np.random.default_rng(0).integers(0, 4000, (13, 264, 264)).astype(np.uint16)
    assert len({checksum(encode(noise, "blosc-lz4")) for _ in range(12)}) == 1


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
