"""Codec names of foreign members: what the bytes are, which array of theirs, in which axis order.

    foreign-npy              a .npy of any byte and axis order
    tif                      a TIFF, always bands first
    zarr.zip:bands           the array `bands` of a zipped Zarr store
    safetensors:s2           the tensor `s2` of a safetensors file
    foreign-npy@HWC          as stored, to be turned into C H W

Such members are only read. Imports nothing heavy: `shards.format` asks here.
"""

import re
from dataclasses import dataclass

from fm.errors import UsageError

FAMILIES = {
    "foreign-npy": "npy",
    "tif": "tif",
    "zarr.zip": "zarr.zip",
    "safetensors": "safetensors",
}
"""What the bytes are, and the ending of such members."""
WITH_PART = ("zarr.zip", "safetensors")
AXES = ("CHW", "HWC", "TCHW", "THWC", "HW", "THW")
"""Stored axis orders; they become C H W, T C H W, H W (a mask) or T C H W with one band."""
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_TURNED = {"HWC": (2, 0, 1), "THWC": (0, 3, 1, 2)}


@dataclass(frozen=True)
class ForeignCodec:
    """A codec name, taken apart.

    Attributes:
        family: a key of `FAMILIES`.
        part: array or tensor inside the member; None where the member is one array.
        turn: axes of the stored array in the order they are given out in; None leaves them.
    """

    family: str
    part: str | None
    turn: tuple[int, ...] | None

    @property
    def ending(self) -> str:
        """Ending of such members."""
        return FAMILIES[self.family]


def is_foreign(codec: str) -> bool:
    """Return whether a codec name begins as a foreign one (it may still be wrong)."""
    return isinstance(codec, str) and re.split("[:@]", codec, maxsplit=1)[0] in FAMILIES


def parse(codec: str) -> ForeignCodec:
    """Take a codec name apart.

    Raises:
        UsageError: not one of the forms of this module.
    """
    head, _, axes = codec.partition("@")
    family, colon, part = head.partition(":")
    good = (
        family in FAMILIES
        and bool(colon) == (family in WITH_PART)
        and (not colon or _PART.fullmatch(part))
        and (not axes or (axes in _TURNED and family != "tif"))
        and ("@" in codec) == bool(axes)
    )
    if not good:
        raise UsageError(
            f"unknown foreign codec {codec!r}; valid: foreign-npy, tif, zarr.zip:ARRAY, "
            "safetensors:TENSOR, all but tif perhaps with @HWC or @THWC"
        )
    return ForeignCodec(family, part if colon else None, _TURNED.get(axes))


def make(family: str, part: str | None, axes: str) -> str:
    """Build a codec name from what a declaration says; axes are one of `AXES`."""
    name = family if part is None else f"{family}:{part}"
    return f"{name}@{axes}" if axes in _TURNED else name
