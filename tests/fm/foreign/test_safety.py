"""Files made to run something or to fill the memory: refused, measured in a process of its own."""

import copy
import io
import itertools
import json
import math
import os
import pickle
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from fm.errors import FMError
from fm.foreign import read
from fm.foreign.pickles import MAX_OPERATIONS, MAX_PICKLE

HUGE = 2 << 30
"""What each bomb makes where it is let go off: a multiple of the bound, less than a machine has."""
BOUND = 200 << 20
"""A refused file of some kilobytes may take no more: torch's own first use takes most of it."""


def archive(path: Path, data: bytes, **members: bytes) -> None:
    """Write a torch file with this pickle."""
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("w/data.pkl", data)
        made.writestr("w/version", b"3\n")
        for name, value in members.items():
            made.writestr(f"w/data/{name}", value)


def call(name: str, *arguments: bytes) -> bytes:
    """Operations that call a function."""
    return b"c" + name.replace(" ", "\n").encode() + b"\n(" + b"".join(arguments) + b"tR"


def number(value: int) -> bytes:
    data = value.to_bytes(8, "little")
    return b"\x8a\x08" + data


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def pickled(value: bytes) -> bytes:
    return b"\x80\x02}" + text("a") + value + b"s."


def legacy(path: Path, data: bytes, system: object = None) -> None:
    """Write an older torch file with this pickle, and another note of the system."""
    with open(path, "wb") as stream:
        for value in (0x1950A86A20F9469CFC6C, 1001, system or {"little_endian": True}):
            pickle.dump(value, stream, protocol=2)
        stream.write(data)
        pickle.dump([], stream, protocol=2)


def safetensors(path: Path, header: object, data: bytes = b"", length: int | None = None) -> None:
    told = json.dumps(header).encode()
    size = len(told) if length is None else length
    path.write_bytes(struct.pack("<Q", size) + told + data)


def chain() -> bytes:
    """A codec applied to its own output until there are two gigabytes."""
    value, size = call("_codecs encode", text("x" * 4096), text("latin1")), 4096
    while size < HUGE:
        value, size = call("_codecs encode", value, text("hex")), 2 * size
    return value


def overlapping(path: Path) -> None:
    """A thousand entries that lie on the same megabytes."""
    archive(path, pickled(b"]"), **{"0": bytes(2 << 20)})
    with zipfile.ZipFile(path, "a") as made:
        (item,) = [i for i in made.infolist() if i.filename == "w/data/0"]
        for place in range(1, 1000):
            other = copy.copy(item)
            other.filename = f"w/data/{place}"
            made.filelist.append(other)
        made._didModify = True


def renamed(path: Path, data: bytes, name: str) -> None:
    """Write a torch file whose pickle has another name, which torch finds all the same."""
    with zipfile.ZipFile(path, "w") as made:
        made.writestr(name, data)
        made.writestr("w/version", b"3\n")


def nested(path: Path) -> None:
    """An archive in which the pickle is an archive with a pickle that runs something."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as made:
        made.writestr("w/data.pkl", pickled(call("os mkdir", text(str(path.parent / "ran")))))
    archive(path, inner.getvalue())


def tensor(*, size: int, zipped: bool) -> bytes:
    """Save a tensor whose storage claims to be huge."""
    saved = io.BytesIO()
    torch.save({"a": torch.arange(1000.0)}, saved, _use_new_zipfile_serialization=zipped)
    claim = b"J" + struct.pack("<i", size)
    if not zipped:
        return saved.getvalue().replace(b"M\xe8\x03", claim)
    with zipfile.ZipFile(saved) as old:
        return old.read("archive/data.pkl").replace(b"M\xe8\x03", claim)


def named_again(value: bytes, call_of: bytes, times: int) -> bytes:
    """Operations that keep a value and a function, and call it with the value again and again."""
    kept = text("value") + value + b"q\x00" + text("function") + call_of + b"q\x01"
    calls = (b"J" + struct.pack("<i", n) + b"h\x01h\x00\x85R" for n in range(times))
    return b"\x80\x02}(" + kept + b"".join(calls) + b"u."


def encoded_again(length: int, times: int) -> bytes:
    kept = text("value") + text("x" * length) + b"q\x00" + text("how") + text("latin1") + b"q\x01"
    function = text("function") + b"c_codecs\nencode\nq\x02"
    calls = (b"J" + struct.pack("<i", n) + b"h\x02h\x00h\x01\x86R" for n in range(times))
    return b"\x80\x02}(" + kept + function + b"".join(calls) + b"u."


def stored_once(path: Path, record: str, keys: list[bytes], size: int) -> None:
    """Write a torch file with one storage, which tensors name by keys of their own."""
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n"
    count = b"J" + struct.pack("<i", size // 4)
    tail = b"K\x00" + count + b"\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtR"
    made = b""
    for number_, key in enumerate(keys):
        place = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + key + text("cpu") + count
        made += text(f"t{number_}") + rebuild + b"(" + place + b"tQ" + tail
    archive(path, b"\x80\x02}(" + made + b"u.", **{record: bytes(size)})


def same_for_torch(record: str, count: int) -> dict[str, list[bytes]]:
    """Keys that are told apart and lead to one record."""
    cases = itertools.product(*((c, c.upper()) for c in record))
    return {
        "in-any-case": [text("".join(word)) for word in itertools.islice(cases, count)],
        "to-a-zero-byte": [text(f"{record}\0{n}") for n in range(count)],
        "not-itself": [b"G" + struct.pack(">d", math.nan)] * count,
    }


def unfilled(size: int) -> bytes:
    """A tensor whose storage an older file names and does not hold."""
    place = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu")
    tail = b"K\x00" + number(size) + b"\x85K\x01\x85\x89ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + place + number(size) + b"NtQ" + tail + b"tR"


def listed_in_any_case(path: Path, record: str, sizes: list[int]) -> None:
    """Write a torch file with a storage a case of a name; torch takes all of them for one."""
    cases = ["".join(word) for word in itertools.product(*((c, c.upper()) for c in record))]
    names = cases[: len(sizes)]
    stored_once(path, record, [text(name) for name in names], max(sizes))
    with zipfile.ZipFile(path) as old:
        data = old.read("w/data.pkl")
    values = [bytes([n]) * size for n, size in enumerate(sizes)]
    archive(path, data, **dict(zip(names, values, strict=True)))


def doubled(first: bytes, times: int) -> bytes:
    """Operations that make values, each of twice the one before, under texts; and keep them."""
    made = text("0") + first + b"q\x00"
    for n in range(times):
        twice = b"h" + bytes([n]) + b"h" + bytes([n])
        made += text(str(n + 1)) + (twice + b"\x86" if first == b")" else b"](" + twice + b"e")
        made += b"q" + bytes([n + 1])
    return made


def of_one_key(times: int) -> bytes:
    return b"\x80\x02}(" + doubled(b")", times) + b"h" + bytes([times]) + b"K\x00u."


def of_nested_lists(times: int) -> bytes:
    called = text("a") + b"ctorch\nTensor\nh" + bytes([times]) + b"\x85R"
    return b"\x80\x02}(" + doubled(b"](K\x00K\x00e", times) + called + b"u."


def of_another_version(path: Path, times: int) -> None:
    """Write an older torch file whose version, which torch tells when it is none, is a list."""
    start = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
    path.write_bytes(start + b"\x80\x02}(" + doubled(b"]", times) + b"u.")
    with open(path, "ab") as stream:
        for _ in range(3):
            pickle.dump({}, stream, protocol=2)


def two_directories(path: Path, shown: bytes, hidden: bytes) -> None:
    """An archive whose end leads Python to one list of entries, and torch to another."""
    made, lists = io.BytesIO(), []
    for data in (shown, hidden):
        entries = b""
        for name, value in ((b"w/data.pkl", data), (b"w/version", b"3\n")):
            fields = (zlib.crc32(value), len(value), len(value), len(name))
            place = made.tell()
            made.write(
                b"PK\3\4" + struct.pack("<5H3I2H", 20, 0, 0, 0, 0, *fields, 0) + name + value
            )
            entries += b"PK\1\2" + struct.pack("<6H3I", 20, 20, 0, 0, 0, 0, *fields[:3])
            entries += struct.pack("<5H2I", len(name), 0, 0, 0, 0, 0, place) + name
        lists.append(entries)
    for entries in reversed(lists):
        start = made.tell()
        made.write(entries)
        end = made.tell()
        told = (44, 45, 45, 0, 0, 2, 2, len(entries), start)
        made.write(b"PK\6\6" + struct.pack("<QHHIIQQQQ", *told))
        if entries is lists[1]:
            pointed = end
    made.write(b"PK\6\7" + struct.pack("<IQI", 0, pointed, 1))
    made.write(b"PK\5\6" + struct.pack("<4H2IH", 0, 0, 0xFFFF, 0xFFFF, 2**32 - 1, 2**32 - 1, 0))
    path.write_bytes(made.getvalue())


def kind(word: str) -> bytes:
    return call("numpy dtype", text(word), b"\x89", b"\x88")


def one(dtype: str, start: int, end: int, shape: tuple[int, ...]) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def bombs(folder: Path) -> dict[str, str]:
    """Write every file; name to a word of the line that refuses it."""
    folder.mkdir()
    made = {
        "bytearray": call("builtins bytearray", number(HUGE)),
        "bytearray-2": call("__builtin__ bytearray", number(HUGE)),
        "tensor-class": call("torch FloatTensor", number(HUGE // 4)),
        "untyped": call("torch.storage UntypedStorage", number(HUGE)),
        "meta": call("torch._utils _rebuild_meta_tensor_no_storage", number(HUGE)),
        "codec": chain(),
        "reduce": call("os mkdir", text(str(folder / "ran"))),
        "stacked": text("os") + text("mkdir") + b"\x93(" + text(str(folder / "ran")) + b"tR",
        "instance": b"(" + text(str(folder / "ran")) + b"ios\nmkdir\n",
        "numpy-kind": call("numpy.core.multiarray scalar", kind(f"V{HUGE}")),
        "numpy-number": call("numpy.core.multiarray scalar", kind("f8")),
        "operations": b"(" + b"}" * (MAX_OPERATIONS + 1) + b"l",
    }
    said = {}
    for name, value in made.items():
        archive(folder / f"{name}.pth", pickled(value))
        legacy(folder / f"{name}-old.pth", pickled(value))
        said |= {f"{name}.pth": "refused", f"{name}-old.pth": "refused"}
    bomb = pickled(made["bytearray"])
    legacy(folder / "behind.pth", bomb, "x" * MAX_PICKLE)
    renamed(folder / "capitals.pth", bomb, "w/DATA.PKL")
    said |= {"behind.pth": "not a weight file", "capitals.pth": "refused"}
    overlapping(folder / "overlapping.pth")
    nested(folder / "nested.pth")
    archive(folder / "claim.pth", tensor(size=HUGE // 4 - 1, zipped=True), **{"0": bytes(4000)})
    (folder / "claim-old.pth").write_bytes(tensor(size=HUGE // 4 - 1, zipped=False))
    said |= {"overlapping.pth": "says it unpacks to", "nested.pth": "not a weight file"}
    said |= {"claim.pth": "not a weight file", "claim-old.pth": "not a weight file"}
    for record, name in (
        ("abcdefgh", "in-any-case"),
        ("0", "to-a-zero-byte"),
        ("nan", "not-itself"),
    ):
        stored_once(folder / f"{name}.pth", record, same_for_torch(record, 200)[name], 4 << 20)
        said[f"{name}.pth"] = "loads a storage that is not in the file"
    several = b"](" + b"".join(b"J" + struct.pack("<i", n) for n in range(20_000)) + b"e"
    archive(folder / "copies.pth", named_again(several, b"cbuiltins\nset\n", 1000))
    archive(folder / "texts.pth", encoded_again(2 << 20, 300))
    said |= dict.fromkeys(("copies.pth", "texts.pth"), "copies the same values again and again")
    two_directories(folder / "directories.pth", pickled(b"]"), bomb)
    said["directories.pth"] = "a damaged archive"
    legacy(folder / "unfilled.pth", pickled(unfilled(HUGE // 4)))
    said["unfilled.pth"] = "tensors of "
    listed_in_any_case(folder / "listed.pth", "abcdefgh", [0] * 31 + [4 << 20] + [0] * 31)
    said["listed.pth"] = "entries of one name"
    archive(folder / "key.pth", of_one_key(25))
    said["key.pth"] = "copies the same values again and again"
    archive(folder / "filled.pth", of_nested_lists(22))
    said["filled.pth"] = "makes a tensor of no storage"
    of_another_version(folder / "version.pth", 22)
    said["version.pth"] = "begins with none of torch's numbers"
    archive(folder / "no-tensor.pth", pickled(call("torch.nn.parameter Parameter", number(5))))
    said["no-tensor.pth"] = "not a weight file"
    headers = {
        "long": ({}, b"", 1 << 60),
        "short": ({"a": one("F32", 0, 4, (1,))}, bytes(4), 3),
        "beyond": ({"a": one("F32", 0, HUGE, (HUGE // 4,))}, bytes(64), None),
        "backwards": ({"a": one("F32", 8, 4, (1,))}, bytes(8), None),
        "overlap": ({"a": one("F32", 0, 8, (2,)), "b": one("F32", 4, 12, (2,))}, bytes(12), None),
        "hole": ({"a": one("F32", 0, 4, (1,)), "b": one("F32", 8, 12, (1,))}, bytes(12), None),
        "shape": ({"a": one("F32", 0, 4, (1 << 40, 1 << 40))}, bytes(4), None),
        "kind": ({"a": one("F99", 0, 4, (1,))}, bytes(4), None),
    }
    for name, (header, data, length) in headers.items():
        safetensors(folder / f"{name}.safetensors", header, data, length)
        said[f"{name}.safetensors"] = "not a safetensors file"
    return said


MEASURE = """
import json, sys
from pathlib import Path
from fm.errors import FMError
from fm.foreign import read
import torch
torch.save({"a": torch.ones(3)}, sys.argv[2]); read(sys.argv[2])
# getrusage's peak is inherited: beside a parent of 2 GiB nothing would ever grow
lines = lambda: Path("/proc/self/status").read_text().splitlines()
peak = lambda: next(int(line.split()[1]) << 10 for line in lines() if line.startswith("VmHWM"))
told = {}
for name in json.loads(sys.argv[3]):
    before = peak()
    try:
        read(Path(sys.argv[1]) / name); line = "READ"
    except FMError as error:
        line = str(error)
    except MemoryError:
        line = "MEMORY"
    told[name] = [line, peak() - before]
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> tuple[Path, dict[str, str], dict[str, list]]:
    folder = tmp_path_factory.mktemp("safety") / "files"
    said = bombs(folder)
    words = [sys.executable, "-c", MEASURE, str(folder), str(folder.parent / "good.pth")]
    done = subprocess.run(
        [*words, json.dumps(list(said))],
        cwd=Path(__file__).parents[3],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder, said, json.loads(done.stdout)


def test_every_crafted_file_is_refused_within_the_bound(told) -> None:
    folder, said, found = told
    assert len(said) > 30
    for name, word in said.items():
        line, grown = found[name]
        assert word in line, (name, line)
        assert "\n" not in line
        assert grown < BOUND, (name, grown)
    assert not (folder / "ran").exists()


def test_the_crafted_files_are_such_that_would_have_gone_off(tmp_path: Path) -> None:
    # torch's own weights_only builds it; here a small one
    archive(tmp_path / "w.pth", pickled(call("builtins bytearray", number(1000))))
    assert len(torch.load(tmp_path / "w.pth", weights_only=True)["a"]) == 1000
    small = pickled(call("builtins bytearray", number(1000)))
    renamed(tmp_path / "n.pth", small, "w/DATA.PKL")
    legacy(tmp_path / "o.pth", small, "x" * 1000)
    for name in ("n.pth", "o.pth"):
        assert len(torch.load(tmp_path / name, weights_only=True)["a"]) == 1000
    for record in ("ab", "nan"):
        for name, keys in same_for_torch(record, 3).items():
            if (record == "nan") == (name == "not-itself"):
                stored_once(tmp_path / f"{name}.pth", record, keys, 400)
                found = torch.load(tmp_path / f"{name}.pth", weights_only=True)
                assert len({x.data_ptr() for x in found.values()}) == 3  # loaded three times
    two_directories(tmp_path / "d.pth", pickled(b"]"), small)
    with zipfile.ZipFile(tmp_path / "d.pth") as shown:
        assert shown.read("w/data.pkl") == pickled(b"]")
    assert len(torch.load(tmp_path / "d.pth", weights_only=True)["a"]) == 1000
    archive(tmp_path / "c.pth", named_again(b"](K\x01K\x02e", b"cbuiltins\nset\n", 2))
    made = torch.load(tmp_path / "c.pth", weights_only=True)
    assert made[0] == {1, 2}
    assert made[0] is not made[1]
    archive(tmp_path / "t.pth", encoded_again(3, 2))
    assert torch.load(tmp_path / "t.pth", weights_only=True)[1] == b"xxx"
    legacy(tmp_path / "u.pth", pickled(unfilled(1000)))
    assert len(torch.load(tmp_path / "u.pth", weights_only=True)["a"]) == 1000
    listed_in_any_case(tmp_path / "l.pth", "ab", [400] * 4)
    found = torch.load(tmp_path / "l.pth", weights_only=True)
    assert len({x.data_ptr() for x in found.values()}) == 4
    assert len({float(x[0]) for x in found.values()}) == 1  # of one entry, four times
    archive(tmp_path / "k.pth", of_one_key(10))
    assert max(len(str(key)) for key in torch.load(tmp_path / "k.pth", weights_only=True)) > 2**11
    archive(tmp_path / "f.pth", of_nested_lists(10))
    assert torch.load(tmp_path / "f.pth", weights_only=True)["a"].numel() == 2**11
    of_another_version(tmp_path / "v.pth", 10)
    with pytest.raises(RuntimeError, match="Invalid protocol version") as error:
        torch.load(tmp_path / "v.pth", weights_only=True)
    assert len(str(error.value)) > 2**11
    pickle.loads(pickled(call("os mkdir", text(str(tmp_path / "ran")))))
    assert (tmp_path / "ran").exists()
    small = call("_codecs encode", call("_codecs encode", text("x"), text("latin1")), text("hex"))
    assert pickle.loads(pickled(small))["a"] == b"78"


def test_an_entry_with_two_names_is_refused(tmp_path: Path, monkeypatch) -> None:
    archive(tmp_path / "w.pth", pickled(b"]"))

    def named(self: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
        self.filelist[0].filename = "w/notes"  # as Python reads a Unicode path extra field
        return self.filelist

    monkeypatch.setattr(zipfile.ZipFile, "infolist", named)
    with pytest.raises(FMError, match="w/notes has a second name"):
        read(tmp_path / "w.pth")


def test_what_real_files_hold_is_still_read(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    content = {
        "state_dict": {"a": torch.nn.Parameter(torch.ones(3)), "b": torch.arange(3)},
        "hyper_parameters": {"best": np.float64(0.25), "bytes": b"\x00\xff", "n": np.int64(7)},
        "seen": {1, 2},
        "z": 1 + 2j,
        "size": torch.Size([3, 4]),
        "kind": torch.bfloat16,
    }
    allowed = set(torch.serialization.get_safe_globals())
    for zipped in (True, False):
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        found = read(path)
        assert list(found.state) == ["a", "b"]
        assert found.settings["best"] == 0.25
        assert type(found.settings["best"]) is float
        assert found.settings["n"] == 7
        assert "bytes" not in found.settings  # numbers and texts alone
    # the names were allowed while the file was read, and no longer
    assert set(torch.serialization.get_safe_globals()) == allowed
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)


def test_arrays_of_numpy_are_not(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1), "b": np.ones(3)}, tmp_path / "w.pth")
    with pytest.raises(FMError, match=r"names numpy\._?core\.multiarray\._reconstruct"):
        read(tmp_path / "w.pth")
