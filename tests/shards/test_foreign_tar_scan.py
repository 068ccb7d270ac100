import io
import tarfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fm.errors import FMError
from shards.foreign.tar_scan import BLOCK, MAX_EXTENDED, Entry, scan


def entries(data: bytes, **options: int) -> list[Entry]:
    return list(scan(lambda at, size: data[at : at + size], len(data), "x.tar", **options))


def archive(
    files: list[tuple[str, bytes]], form: int = tarfile.USTAR_FORMAT, **fields: object
) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for key, value in fields.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def header(name: bytes, size: bytes, kind: bytes = b"0", magic: bytes = b"ustar\000") -> bytes:
    block = bytearray(BLOCK)
    block[: len(name)] = name
    block[124 : 124 + len(size)] = size
    block[148:156] = b" " * 8
    block[156:157] = kind
    block[257 : 257 + len(magic)] = magic
    block[148:156] = f"{sum(block):06o}\0 ".encode()
    return bytes(block)


names = st.text("abcdefXYZ012_", min_size=1, max_size=40).map(lambda text: f"{text}.npy")


@given(
    files=st.lists(st.tuples(names, st.binary(max_size=1500)), max_size=8),
    form=st.sampled_from((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)),
    depth=st.integers(0, 6),
)
@settings(max_examples=60, deadline=None)
def test_it_finds_what_tarfile_finds(files: list[tuple[str, bytes]], form: int, depth: int) -> None:
    folder = "".join(f"folder_{level}_of_a_long_path/" for level in range(depth))
    if form == tarfile.USTAR_FORMAT:
        folder = folder[:100]
        folder = folder[: folder.rfind("/") + 1]
    data = archive([(folder + name, content) for name, content in files], form)
    found = entries(data)
    assert [(e.name, data[e.offset : e.offset + e.size]) for e in found] == [
        (folder + name, content) for name, content in files
    ]
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert [(m.offset, m.offset_data, m.size) for m in tar] == [
            (e.header, e.offset, e.size) for e in found
        ]


def test_only_headers_are_read() -> None:
    data = archive([("a.npy", bytes(900_000)), ("b.npy", bytes(900_000))])
    asked = []

    def read(at: int, size: int) -> bytes:
        asked.append(size)
        return data[at : at + size]

    assert len(list(scan(read, len(data), "x.tar"))) == 2
    assert sum(asked) == 3 * BLOCK


def test_long_names_unicode_folders_and_leading_dots() -> None:
    name = "d/" * 60 + "münster.tif"
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        assert [e.name for e in entries(archive([(name, b"x")], form))] == [name]
    assert [e.name for e in entries(archive([("./a.npy", b"x")]))] == ["a.npy"]
    assert entries(archive([("folder", b"")], type=tarfile.DIRTYPE)) == []


def test_a_size_from_8_gib_on_is_understood_and_compared_with_the_file() -> None:
    size = (9 << 30).to_bytes(12, "big")
    data = header(b"a.npy", b"\x80" + size[1:]) + bytes(2 * BLOCK)
    with pytest.raises(FMError, match=f"claims {9 << 30} bytes, 1024 are left"):
        entries(data)


END = bytes(2 * BLOCK)
HOSTILE = {
    "absolute": (header(b"/etc/passwd.npy", b"0") + END, "plain relative path"),
    "parent": (header(b"a/../../b.npy", b"0") + END, "plain relative path"),
    "backslash": (header(b"a\\..\\b.npy", b"0") + END, "plain relative path"),
    "control": (header(b"a\nb.npy", b"0") + END, "plain relative path"),
    "empty part": (header(b"a//b.npy", b"0") + END, "plain relative path"),
    "not utf-8": (header(b"\xff\xfe.npy", b"0") + END, "not UTF-8"),
    "hard link": (header(b"a.npy", b"0", b"1") + END, "hard link"),
    "symbolic link": (header(b"a.npy", b"0", b"2") + END, "symbolic link"),
    "device": (header(b"a.npy", b"0", b"3") + END, "device"),
    "pipe": (header(b"a.npy", b"0", b"6") + END, "named pipe"),
    "gnu sparse": (header(b"a.npy", b"0", b"S") + END, "sparse"),
    "unknown kind": (header(b"a.npy", b"0", b"Z") + END, "unknown kind"),
    "size no number": (header(b"a.npy", b"99x") + END, "no number"),
    "negative size": (header(b"a.npy", b"\xff" * 12) + END, "no number"),
    "size past the end": (header(b"a.npy", b"77777777777") + END, "are left"),
    "folder with bytes": (header(b"a", b"777", b"5") + END, "claims 511 bytes"),
    "huge long name": (header(b"l", b"77777777777", b"L") + END, "too long or cut off"),
    "huge pax": (header(b"p", f"{MAX_EXTENDED + 1:o}".encode(), b"x") + END, "too long"),
    "long name of nothing": (header(b"l", b"0", b"L") + END, "has no member"),
    "wrong checksum": (b"\x01" * BLOCK + END, "wrong checksum"),
    "no end": (header(b"a.npy", b"0"), "end-of-archive"),
    "empty": (b"", "end-of-archive"),
    "a zip": (b"PK\x03\x04" + bytes(BLOCK), "wrong checksum"),
}


def pax(*records: tuple[str, str]) -> bytes:
    text = b""
    for key, value in records:
        body = f" {key}={value}\n".encode()
        size = len(body) + 1
        while len(str(size)) + len(body) != size:
            size += 1
        text += str(size).encode() + body
    return header(b"pax", f"{len(text):o}".encode(), b"x") + text.ljust(BLOCK, b"\0")


HOSTILE |= {
    "pax sparse": (pax(("GNU.sparse.major", "1")) + header(b"a", b"0") + END, "sparse"),
    "pax absolute": (pax(("path", "/x.npy")) + header(b"a", b"0") + END, "plain relative"),
    "pax size": (pax(("size", "-1")) + header(b"a", b"0") + END, "size '-1'"),
    "pax large size": (pax(("size", "9" * 18)) + header(b"a", b"0") + END, "are left"),
    "pax damaged": (
        header(b"p", b"12", b"x") + b"99999 path=x".ljust(BLOCK, b"\0") + END,
        "damaged pax",
    ),
    "pax of nothing": (pax(("path", "b.npy")) + END, "has no member"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_headers_are_refused_in_one_line(name: str) -> None:
    data, reason = HOSTILE[name]
    with pytest.raises(FMError, match=reason) as caught:
        entries(data)
    assert str(caught.value).startswith("x.tar: ")
    assert "\n" not in str(caught.value)


def test_a_global_header_may_not_rename_members() -> None:
    text = b"17 path=other.npy"[:16] + b"\n"
    block = header(b"g", f"{len(text):o}".encode(), b"g") + text.ljust(BLOCK, b"\0")
    with pytest.raises(FMError, match="global header"):
        entries(block + header(b"a.npy", b"0") + END)


@given(cut=st.integers(0, 4 * BLOCK + 700))
@settings(max_examples=60, deadline=None)
def test_a_tar_that_was_cut_off_is_never_read_as_a_shorter_one(cut: int) -> None:
    data = archive([("a.npy", bytes(600)), ("b.npy", bytes(700))])
    if cut >= 2 * (BLOCK + 2 * BLOCK):
        return
    with pytest.raises(FMError, match=r"cut off|end-of-archive"):
        entries(data[:cut])


@given(where=st.integers(0, 2 * BLOCK - 1), value=st.integers(0, 255), data=st.binary(max_size=40))
@settings(max_examples=150, deadline=None)
def test_flipped_bytes_give_the_same_members_or_an_error(
    where: int, value: int, data: bytes
) -> None:
    whole = bytearray(archive([("a.npy", data), ("b.npy", data)]))
    before = entries(bytes(whole))
    whole[where] = value
    try:
        after = entries(bytes(whole))
    except FMError:
        return
    assert [(e.offset, e.size) for e in after] == [(e.offset, e.size) for e in before]


def test_members_are_counted_and_memory_stays_small() -> None:
    many = b"".join(header(b"%d.npy" % number, b"0") for number in range(3000)) + END
    assert len(entries(many)) == 3000
    tracemalloc.start()
    try:
        with pytest.raises(FMError, match="more than 100 members"):
            entries(many, max_members=100)
        claims = header(b"l", f"{1 << 30:o}".encode(), b"L") + END
        with pytest.raises(FMError, match="too long"):
            entries(claims)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_real_file(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(archive([("a.npy", b"123")]))
    with open(path, "rb") as stream:

        def read(at: int, size: int) -> bytes:
            stream.seek(at)
            return stream.read(size)

        (found,) = scan(read, path.stat().st_size, "a.tar")
    assert path.read_bytes()[found.offset : found.offset + found.size] == b"123"
