import collections
import io
import os
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fm.errors import FMError
from shards.codecs.codec import CorruptError
from shards.foreign.pickles import convert
from shards.foreign.torch_zip import arrays_of
from tests.shards.foreign_tars import write_tar

TENSOR = torch.arange(24).reshape(2, 3, 4)


def saved(value: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, **options)
    return stream.getvalue()


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (os.system, (f"touch {self.path}",))


@pytest.mark.parametrize(
    "dtype",
    [torch.uint8, torch.int16, torch.int64, torch.float16, torch.float32, torch.float64],
)
def test_tensors_come_out_bit_by_bit(dtype: torch.dtype) -> None:
    tensor = TENSOR.to(dtype)
    for value in (tensor, tensor.permute(2, 0, 1), tensor[1:, :, ::2], tensor[0, 0].expand(5, 4)):
        assert np.array_equal(arrays_of(saved(value))[""], value.numpy())


def test_bfloat16_is_widened_and_nests_are_named() -> None:
    odd = torch.tensor([1.5, -3.25, 1e30]).to(torch.bfloat16)
    assert np.array_equal(arrays_of(saved(odd))[""], odd.float().numpy())
    nested = collections.OrderedDict(a=TENSOR, b=[TENSOR[0], {"c": TENSOR > 3}])
    found = arrays_of(saved(nested))
    assert {name: array.shape for name, array in found.items()} == {
        "a": (2, 3, 4),
        "b.0": (3, 4),
        "b.1.c": (2, 3, 4),
    }


@pytest.mark.parametrize("protocol", range(6))
def test_numpy_arrays_of_every_protocol(protocol: int) -> None:
    array = np.asfortranarray(np.arange(12, dtype=">f4").reshape(3, 4))
    assert np.array_equal(arrays_of(pickle.dumps({"a": array}, protocol))["a"], array)


def test_the_code_in_a_pickle_is_not_run(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    for data in (
        *(pickle.dumps(Evil(touched), protocol) for protocol in range(6)),
        pickle.dumps({"a": np.zeros(2), "b": Evil(touched)}),
        saved({"a": TENSOR, "b": Evil(touched)}),
        b'cbuiltins\neval\n(S\'__import__("os").mkdir("' + str(touched).encode() + b"\")'\ntR.",
        b"cposix\nsystem\n(S'touch " + str(touched).encode() + b"'\ntR.",
    ):
        with pytest.raises(CorruptError, match="may be code; it is refused"):
            arrays_of(data)
    assert not touched.exists()


def test_a_pickle_cannot_change_what_the_next_one_means() -> None:
    # GLOBAL torch.FloatStorage, then BUILD with a state that would rename it
    data = b"ctorch\nFloatStorage\n(dS'name'\nS'LongStorage'\nsb."
    with pytest.raises(CorruptError):
        arrays_of(data)
    for target in (b"ctorch._utils\n_rebuild_tensor_v2\n", b"cnumpy\ndtype\n"):
        with pytest.raises(CorruptError):
            arrays_of(b"\x80\x02" + target + b"N}X\x04\x00\x00\x00callNs\x86b.")
    assert np.array_equal(arrays_of(saved(TENSOR.float()))[""], TENSOR.float().numpy())


def test_damage_and_what_is_no_array() -> None:
    whole = saved(TENSOR)
    for data in (
        whole[: len(whole) // 2],
        b"",
        b"garbage",
        pickle.dumps("text"),
        pickle.dumps({"a": 3}),
        pickle.dumps(np.array([None])),
        pickle.dumps(np.zeros(2, [("a", "i4")])),
        saved(TENSOR, _use_new_zipfile_serialization=False),
        saved(TENSOR.to(torch.complex64)),
    ):
        with pytest.raises(CorruptError):
            arrays_of(data)
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(CorruptError, match="nested deeper"):
        arrays_of(pickle.dumps(loop))
    many: list[Any] = []
    for _ in range(6):
        many = [many] * 100
    with pytest.raises(CorruptError, match="more than"):
        arrays_of(pickle.dumps(many))


def test_tars_are_copied_with_npy_members(tmp_path: Path) -> None:
    files = {
        "a/0001.s2_toa.pth": saved(TENSOR.to(torch.int16)),
        "a/0001.json": b"{}",
        "a/0002.both.pt": saved({"x": TENSOR, "y": TENSOR.float()}),
        "a/0003.pkl": pickle.dumps(TENSOR.numpy()),
    }
    write_tar(tmp_path / "in" / "x-000.tar", files)
    before = (tmp_path / "in" / "x-000.tar").read_bytes()
    (made,) = convert([str(tmp_path / "in")], tmp_path / "out")
    assert (tmp_path / "in" / "x-000.tar").read_bytes() == before
    with tarfile.open(made) as tar:
        found = {m.name: tar.extractfile(m).read() for m in tar}
    assert list(found) == [
        *("a/0001.s2_toa.npy", "a/0001.json", "a/0002.both.x.npy", "a/0002.both.y.npy"),
        "a/0003.npy",
    ]
    assert found["a/0001.json"] == b"{}"
    load = np.load(io.BytesIO(found["a/0001.s2_toa.npy"]), allow_pickle=False)
    assert load.dtype == np.int16
    assert np.array_equal(load, TENSOR.numpy())
    stamp = made.stat().st_mtime_ns
    assert convert([str(tmp_path / "in")], tmp_path / "out") == [made]  # it is there
    assert made.stat().st_mtime_ns == stamp


def test_a_tar_with_a_refused_pickle_is_not_written(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    good, bad = {"0.a.pth": saved(TENSOR)}, {"0.a.pth": pickle.dumps(Evil(touched))}
    write_tar(tmp_path / "in" / "a.tar", good)
    write_tar(tmp_path / "in" / "b.tar", bad)
    with pytest.raises(FMError, match=r"b\.tar: 0\.a\.pth: it names posix\.system"):
        convert([str(tmp_path / "in")], tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.tar"]
    assert not touched.exists()
    with pytest.raises(FMError, match="name another folder"):
        convert([str(tmp_path / "in")], tmp_path / "in")
