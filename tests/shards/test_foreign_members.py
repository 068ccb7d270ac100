import contextlib
import io
import json
import math
import pickle
import tracemalloc
import zipfile
from pathlib import Path

import numcodecs
import numpy as np
import pytest
import rasterio
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fm.errors import UsageError
from shards.codecs.codec import CorruptError
from shards.foreign.members import decode_foreign, describe
from shards.foreign.names import is_foreign, parse
from shards.foreign.zarr_zip import ZipStore
from shards.format import DTYPES
from tests.shards.foreign_tars import npy, zarr_zip

RNG = np.random.default_rng(0)
CUBE = RNG.integers(-50, 4000, (4, 3, 10, 12)).astype("<i2")


def decoded(data: bytes, codec: str) -> np.ndarray:
    shape, dtype = describe(data, codec)
    out = np.full(shape, 77, dtype)
    decode_foreign(data, codec, out)
    return out


def tiff(array: np.ndarray, **options: object) -> bytes:
    count, height, width = array.shape
    with rasterio.MemoryFile() as memory:
        about = {"width": width, "height": height, "count": count, "dtype": array.dtype.name}
        with memory.open(driver="GTiff", **about, **options) as target:
            target.write(array)
        return memory.read()


@given(
    array=hnp.arrays(
        dtype=st.sampled_from(DTYPES), shape=hnp.array_shapes(min_dims=1, max_dims=4, max_side=9)
    ),
    big=st.booleans(),
    fortran=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_npy_of_any_order_comes_out_bit_by_bit(array: np.ndarray, big: bool, fortran: bool) -> None:
    stored = array.astype(array.dtype.newbyteorder(">" if big else "<"))
    stored = np.asfortranarray(stored) if fortran else stored
    assert decoded(npy(stored), "foreign-npy").tobytes() == array.tobytes()


def test_axes_are_turned_and_booleans_are_bytes() -> None:
    last = np.ascontiguousarray(CUBE.transpose(0, 2, 3, 1))
    assert np.array_equal(decoded(npy(last), "foreign-npy@THWC"), CUBE)
    assert np.array_equal(decoded(npy(last[1]), "foreign-npy@HWC"), CUBE[1])
    assert np.array_equal(
        decoded(zarr_zip({"s2": last[1]}, chunks={"s2": (4, 4, 2)}), "zarr.zip:s2@HWC"), CUBE[1]
    )
    assert decoded(npy(CUBE > 0), "foreign-npy").dtype == np.uint8
    with pytest.raises(CorruptError, match="it has 4 axes, 3 are declared"):
        describe(npy(last), "foreign-npy@HWC")


def test_axes_of_length_one_may_be_left_out() -> None:
    out = np.empty(CUBE[:1].shape[1:], "i2")
    decode_foreign(npy(CUBE[:1]), "foreign-npy", out)
    assert np.array_equal(out, CUBE[0])
    with pytest.raises(CorruptError, match="the index says"):
        decode_foreign(npy(CUBE[:2]), "foreign-npy", out)


def test_tiff_and_safetensors() -> None:
    for options in ({}, {"compress": "deflate", "tiled": True, "blockxsize": 16, "blockysize": 16}):
        assert np.array_equal(decoded(tiff(CUBE[0], **options), "tif"), CUBE[0])
    data = safetensors.numpy.save({"a": CUBE, "b": CUBE[0].astype("f4")})
    assert np.array_equal(decoded(data, "safetensors:a"), CUBE)
    assert np.array_equal(decoded(data, "safetensors:b"), CUBE[0].astype("f4"))
    with pytest.raises(CorruptError, match="without a readable 'c'"):
        describe(data, "safetensors:c")


COMPRESSORS = {
    "blosc-zstd": numcodecs.Blosc("zstd", 3, 2),
    "blosc-lz4": numcodecs.Blosc("lz4", 5, 1),
    "zstd": numcodecs.Zstd(3),
    "lz4": numcodecs.LZ4(),
    "zlib": numcodecs.Zlib(1),
    "gzip": numcodecs.GZip(1),
    "none": None,
}


@pytest.mark.parametrize("name", COMPRESSORS)
def test_zarr_of_every_compressor_chunking_and_zip_method(name: str) -> None:
    for chunks in ((4, 3, 10, 12), (1, 3, 10, 12), (3, 2, 4, 5)):
        for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            data = zarr_zip(
                {"bands": CUBE, "other": np.int64(1)},
                chunks={"bands": chunks},
                compressor=COMPRESSORS[name],
                method=method,
            )
            assert np.array_equal(decoded(data, "zarr.zip:bands"), CUBE)


def test_zarr_version_3_scalars_text_and_missing_chunks() -> None:
    blosc = numcodecs.Blosc("zstd", 5, 1)
    about = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [4, 3, 10, 12],
        "data_type": "int16",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2, 3, 10, 12]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "codecs": [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "blosc", "configuration": {"cname": "zstd"}},
        ],
        "fill_value": 5,
    }
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("bands/zarr.json", json.dumps(about))
        archive.writestr("bands/c/0/0/0/0", blosc.encode(np.ascontiguousarray(CUBE[:2])))
    found = decoded(stream.getvalue(), "zarr.zip:bands")
    assert np.array_equal(found[:2], CUBE[:2])
    assert (found[2:] == 5).all()
    store = ZipStore(zarr_zip({"n": np.int64(7), "names": np.array(["vv", "vh"])}))
    assert store.small("n") == 7
    assert store.small("names").tolist() == ["vv", "vh"]


def edited(data: bytes, name: str, **changes: object) -> bytes:
    """The same zip with other keys in one JSON file."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(stream, "w") as new:
        for entry in old.namelist():
            content = old.read(entry)
            if entry == name:
                content = json.dumps(json.loads(content) | changes).encode()
            new.writestr(entry, content)
    return stream.getvalue()


PLAIN = zarr_zip({"bands": CUBE})
ZARR_REFUSED = {
    "objects": ({"dtype": "|O", "filters": [{"id": "pickle"}]}, "filters are not read"),
    "object dtype": ({"dtype": "|O"}, "objects need pickles"),
    "record dtype": ({"dtype": [["a", "<i2"]]}, "is not read"),
    "filter": ({"filters": [{"id": "delta"}]}, "filters are not read"),
    "codec": ({"compressor": {"id": "pickle"}}, "compressor 'pickle' is not read"),
    "other codec": ({"compressor": {"id": "lzma"}}, "is not read"),
    "huge shape": ({"shape": [2**30, 2**30], "chunks": [1, 1]}, "larger than"),
    "huge chunk": ({"chunks": [2**15, 2**10, 2**5, 12]}, "chunks of"),
    "many chunks": ({"shape": [2**20, 1, 1, 1], "chunks": [1, 1, 1, 1]}, "1048576 chunks"),
    "negative": ({"shape": [-4, 3, 10, 12]}, "not possible"),
    "text": ({"shape": "4"}, "not possible"),
    "axes": ({"chunks": [4, 3, 10]}, "do not fit"),
    "wrong dtype": ({"dtype": "<i4"}, "expected 5760"),
    "larger shape": ({"shape": [4, 3, 10, 13], "chunks": [4, 3, 10, 13]}, "expected 3120"),
    "fill": ({"fill_value": {"a": 1}}, "fill value"),
    "order": ({"order": "Q"}, "order 'Q'"),
}


@pytest.mark.parametrize("name", ZARR_REFUSED)
def test_zarr_metadata_that_are_not_read(name: str) -> None:
    changes, reason = ZARR_REFUSED[name]
    tracemalloc.start()
    try:
        with pytest.raises(CorruptError, match=reason):
            decoded_like(edited(PLAIN, "bands/.zarray", **changes), changes)
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


def decoded_like(data: bytes, changes: dict[str, object]) -> None:
    shape, dtype = describe(data, "zarr.zip:bands")
    if math.prod(shape) * np.dtype(dtype).itemsize < 2**22:
        decode_foreign(data, "zarr.zip:bands", np.empty(shape, dtype))


def test_a_chunk_that_says_another_size_is_not_unpacked() -> None:
    for compressor in COMPRESSORS.values():
        small = zarr_zip({"bands": CUBE[:1]}, compressor=compressor)
        wrong = edited(small, "bands/.zarray", shape=[4, 3, 10, 12], chunks=[4, 3, 10, 12])
        with pytest.raises(CorruptError, match=r"expected 2880|does not hold 2880"):
            decoded(wrong, "zarr.zip:bands")


def test_npy_that_needs_a_pickle_or_does_not_fit() -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return (Path("touched").touch, ())

    objects = np.array([Evil()], dtype=object)
    data = npy(objects, allow_pickle=True)
    with pytest.raises(CorruptError, match="unpickling, which is refused"):
        describe(data, "foreign-npy")
    with pytest.raises(CorruptError, match=r"is not read|readable"):
        describe(npy(np.zeros(3, [("a", "i2")])), "foreign-npy")
    with pytest.raises(CorruptError, match="needs 2880 bytes"):
        describe(npy(CUBE)[:-1], "foreign-npy")
    for shape in ("(10000000000,)", "(" * 90, "(-2, -720, 1)", "[2]", "2"):
        head = f"{{'descr': '<i2', 'fortran_order': False, 'shape': {shape}}}"
        text = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode()
        with pytest.raises(CorruptError):
            decoded(text + bytes(2880), "foreign-npy")


@given(
    kind=st.sampled_from(("foreign-npy", "tif", "zarr.zip:bands", "safetensors:s2")),
    data=st.data(),
)
@settings(max_examples=250, deadline=None)
def test_damaged_members_are_an_error_or_harmless(kind: str, data: st.DataObject) -> None:
    whole = bytearray(MEMBERS[kind])
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    for damaged in (bytes(whole), cut):
        with contextlib.suppress(CorruptError):
            describe(damaged, kind)
            decode_foreign(damaged, kind, np.empty((3, 10, 12), "i2"))


MEMBERS = {
    "foreign-npy": npy(CUBE[0]),
    "tif": tiff(CUBE[0], compress="deflate"),
    "zarr.zip:bands": zarr_zip({"bands": CUBE[0]}, chunks={"bands": (3, 5, 12)}),
    "safetensors:s2": safetensors.numpy.save({"s2": CUBE[0]}),
}


@given(garbage=st.binary(max_size=300), kind=st.sampled_from(sorted(MEMBERS)))
@settings(max_examples=150, deadline=None)
def test_garbage_is_an_error(garbage: bytes, kind: str) -> None:
    with pytest.raises(CorruptError):
        describe(garbage, kind)


def test_other_formats_do_not_pass_as_tiff() -> None:
    text = b'<VRTDataset rasterXSize="2" rasterYSize="2"><VRTRasterBand/></VRTDataset>'
    for data in (text, b"\x89PNG\r\n\x1a\n", pickle.dumps(1)):
        with pytest.raises(CorruptError, match="not a TIFF"):
            describe(data, "tif")


def test_codec_names() -> None:
    assert parse("zarr.zip:bands@THWC").part == "bands"
    assert parse("safetensors:a.b").ending == "safetensors"
    assert is_foreign("tif")
    assert not is_foreign("blosc-lz4")
    for wrong in ("zarr.zip", "tif:a", "tif@HWC", "foreign-npy@CHW", "safetensors:../x", "npy@HWC"):
        with pytest.raises(UsageError, match="unknown foreign codec"):
            parse(wrong)
