"""Where a result goes: what its name must be, and whether it fits on the disk."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from fm.errors import FMError, UsageError

_SPARE = 64 << 20
"""Bytes left over for journals, headers and rounding."""


def check_ending(out: Path, endings: Sequence[str], what: str, option: str = "--out") -> str:
    """Return the ending of a result's name.

    Args:
        out: the result.
        endings: that are known, with their dot.
        what: is written, for the error.
        option: that names it.

    Raises:
        UsageError: another ending, or a name that is no text.
    """
    try:
        str(out).encode()
    except UnicodeEncodeError:
        raise UsageError(f"{option} {out}: the name is not UTF-8, as GDAL needs it") from None
    found = out.suffix.lower()
    if found not in endings:
        raise UsageError(
            f"{option} {out}: name a file that ends in {' or '.join(endings)} for {what}"
        )
    return found


def check_room(out: Path, needed: int, there: int = 0) -> None:
    """See that a result and what it is made from fit on the disk.

    Args:
        out: the result.
        needed: bytes of both.
        there: bytes of them that are written already.

    Raises:
        FMError: they do not. A quota is not seen here.
    """
    place = out.absolute().parent
    while not place.exists():
        place = place.parent
    wanted, free = needed - there + _SPARE, shutil.disk_usage(place).free
    if free < wanted:
        raise FMError(
            f"--out {out}: about {_words(wanted)} are needed there until it is finished, "
            f"{_words(free)} are free; make room, or choose a coarser result"
        )


def _words(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
