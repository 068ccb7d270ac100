"""Where the members of a tar lie, from its headers alone; nothing is extracted.

Reads ustar, pax and GNU long names in order, one header at a time. A header is a claim by somebody
else: every size is compared with the file's before anything is read, names and counts are
bounded, and what could reach outside (absolute names, `..`, links, devices) or be something else
than plain bytes (sparse files) is refused with the member named.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fm.errors import FMError

BLOCK = 512
MAX_MEMBERS = 5_000_000
MAX_NAME = 1024
MAX_EXTENDED = 64 * 1024
"""Most bytes of a pax header or GNU long name."""
_REFUSED = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"6": "a named pipe",
    b"S": "a sparse file",
    b"K": "a link with a long name",
    b"M": "a part of another volume",
    b"V": "a volume label",
    b"D": "a GNU directory dump",
}
_BAD = re.compile(r"[\x00-\x1f\x7f\\]")

Read = Callable[[int, int], bytes]
"""Gives `size` bytes from `offset` of the tar, or fewer where it ends."""


@dataclass(frozen=True)
class Entry:
    """One regular file of a tar.

    Attributes:
        name: with `/`, without a leading `./`.
        header: where its first header begins, in bytes.
        offset: where its bytes begin.
        size: how many there are.
    """

    name: str
    header: int
    offset: int
    size: int

    @property
    def end(self) -> int:
        """Where the next header begins."""
        return self.offset + self.size + -self.size % BLOCK


def scan(read: Read, size: int, where: str, *, max_members: int = MAX_MEMBERS) -> Iterator[Entry]:
    """Go through the members of a tar.

    Args:
        read: gives bytes of the tar.
        size: of the tar, in bytes.
        where: its name in an error.
        max_members: most headers of any kind.

    Yields:
        the regular files, in order. Folders are passed over.

    Raises:
        FMError: not a tar, damaged, cut off, or holding something that is refused; the text names
            the tar and the member or the byte.
    """
    at = 0
    extended = _Extended()
    for _ in range(max_members + 1):
        block = read(at, BLOCK) if at + BLOCK <= size else b""
        if len(block) < BLOCK:
            raise FMError(
                f"{where}: ends at byte {size} without an end-of-archive mark; it was cut off, "
                "copy it again"
            )
        if not block.strip(b"\0"):
            if extended.start is not None:
                raise FMError(f"{where}: the header at byte {extended.start} has no member")
            return
        if not _sum_holds(block):
            raise FMError(f"{where}: no tar header at byte {at} (wrong checksum); copy it again")
        kind, length = block[156:157], _number(block[124:136])
        if length is None:
            raise FMError(f"{where}: the size in the header at byte {at} is no number")
        data = at + BLOCK
        if kind in (b"x", b"L", b"g"):
            text = read(data, length) if length <= min(MAX_EXTENDED, size - data) else b""
            if len(text) < length:
                raise FMError(
                    f"{where}: extended header of {length} bytes at byte {at}, which is too long "
                    "or cut off; copy the tar again"
                )
            extended.take(kind, text, at, where)
            at = data + length + -length % BLOCK
            continue
        begin = at if extended.start is None else extended.start
        name = _name(block, where) if extended.name is None else extended.name
        length = length if extended.size is None else extended.size
        extended = _Extended()
        if kind in _REFUSED:
            raise FMError(f"{where}: {name!r} is {_REFUSED[kind]}; pack plain files only")
        if kind not in (b"0", b"\0", b"7", b"5"):
            raise FMError(f"{where}: {name!r} has the unknown kind {kind!r}; pack plain files only")
        if kind == b"5" or (kind == b"\0" and name.endswith("/")):  # the latter in old tars
            if length:
                raise FMError(f"{where}: the folder {name!r} claims {length} bytes; it is refused")
            at = data
            continue
        if length > size - data:
            raise FMError(
                f"{where}: {name!r} claims {length} bytes, {size - data} are left; it was cut off, "
                "copy it again"
            )
        entry = Entry(_safe(name, where), begin, data, length)
        yield entry
        at = entry.end
    raise FMError(f"{where}: more than {max_members} members; split it")


class _Extended:
    """What extended headers say of the next member."""

    def __init__(self) -> None:
        self.start: int | None = None
        self.name: str | None = None
        self.size: int | None = None

    def take(self, kind: bytes, text: bytes, at: int, where: str) -> None:
        if kind == b"g":
            if _pax(text, where):
                raise FMError(f"{where}: a global header renames every member; pack the tar again")
            return
        self.start = at if self.start is None else self.start
        if kind == b"L":
            self.name = _text(text.rstrip(b"\0"), where)
            return
        records = _pax(text, where)
        if any(key.startswith("GNU.sparse") for key in records):
            raise FMError(f"{where}: the member at byte {at} is a sparse file; pack it plainly")
        self.name = records.get("path", self.name)
        if (size := records.get("size")) is not None:
            if not re.fullmatch(r"[0-9]{1,19}", size):
                raise FMError(f"{where}: a pax header with the size {size!r}; copy it again")
            self.size = int(size)


def _safe(name: str, where: str) -> str:
    plain = name
    while plain.startswith("./"):
        plain = plain[2:]
    if len(plain.encode()) > MAX_NAME:
        raise FMError(f"{where}: a member's name has more than {MAX_NAME} bytes")
    parts = plain.split("/")
    if plain.startswith("/") or ".." in parts or _BAD.search(plain) or "" in parts:
        raise FMError(f"{where}: member name {name!r} is not a plain relative path; it is refused")
    return plain


def _name(block: bytes, where: str) -> str:
    name = block[:100].split(b"\0", 1)[0]
    prefix = block[345:500].split(b"\0", 1)[0] if block[257:263] == b"ustar\0" else b""
    return _text(prefix + b"/" + name if prefix else name, where)


def _text(data: bytes, where: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise FMError(f"{where}: member name {data[:60]!r} is not UTF-8; it is refused") from None


def _number(field: bytes) -> int | None:
    """Octal text, or GNU base 256 for sizes from 8 GiB on; None for what is neither."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    text = field.split(b"\0", 1)[0].strip(b" ")
    if not text:
        return 0
    return int(text, 8) if re.fullmatch(rb"[0-7]+", text) else None


def _sum_holds(block: bytes) -> bool:
    stated = _number(block[148:156])
    plain = sum(block) - sum(block[148:156]) + 8 * ord(" ")
    if stated == plain:
        return True
    # old tars added the bytes up as signed ones
    return stated == plain - 256 * sum(byte > 127 for byte in block[:148] + block[156:])


def _pax(data: bytes, where: str) -> dict[str, str]:
    """Parse records `LENGTH KEY=VALUE`, each with a newline."""
    records: dict[str, str] = {}
    at = 0
    while at < len(data) and data[at]:
        space = data.find(b" ", at, at + 12)
        length = data[at:space] if space > at else b""
        if not re.fullmatch(rb"[0-9]+", length):
            raise FMError(f"{where}: a damaged pax header; copy it again")
        end = at + int(length)
        key, equals, value = data[space + 1 : end].partition(b"=")
        if end > len(data) or not equals or not value.endswith(b"\n"):
            raise FMError(f"{where}: a damaged pax header; copy it again")
        if key in (b"path", b"size", b"linkpath") or key.startswith(b"GNU.sparse"):
            records[_text(key, where)] = _text(value[:-1], where)
        at = end
    return records
