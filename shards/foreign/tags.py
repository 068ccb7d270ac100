"""What an array member states of its own numbers, against what was declared of it.

Zarr arrays state CF attributes (`scale_factor`, `add_offset`, `_FillValue`, `missing_value`), TIFFs
GDAL's scale, offset, no-data number and unit. Silence agrees with everything. The fill value in the
metadata of a Zarr 2 array is silence too, since every writer puts one there.
"""

import math
from typing import Any

from shards.codecs.codec import CorruptError
from shards.foreign.declare import ArrayMember
from shards.foreign.members import tiff_tags
from shards.foreign.names import parse
from shards.foreign.zarr_zip import ZipStore
from shards.sources.raster_checks import SPELLINGS


def check(view: memoryview, member: ArrayMember, dtype: str) -> None:
    """Compare a member's own tags with its declaration; nothing is compared for a mask.

    Args:
        view: the member's bytes.
        member: what was declared.
        dtype: of its pixels. Floats are physical, with NaN for no data, whatever the declaration.

    Raises:
        CorruptError: they say different things.
    """
    if member.label is not None:
        return
    parsed, floating = parse(member.codec), dtype.startswith("float")
    if parsed.family == "zarr.zip":
        own = ZipStore(view).attributes(str(parsed.part))
        if "scale_factor" in own:
            own = {"add_offset": 0.0} | own  # CF conventions 8.1
        _numbers(own, member, floating)
    elif parsed.family == "tif":
        for band, (scale, offset, number, unit) in zip(member.table, tiff_tags(view), strict=True):
            said = (scale, offset) != (1.0, 0.0)  # GDAL's way of saying nothing
            own = {"scale_factor": scale, "add_offset": offset} if said else {}
            _numbers(own | {"_FillValue": number}, member, floating)
            if unit and unit.lower() not in SPELLINGS.get(band.unit.lower(), (band.unit.lower(),)):
                raise CorruptError(
                    f"{band.name} states the unit {unit[:30]!r}, declared is {band.unit!r}"
                )


def _numbers(own: dict[str, Any], member: ArrayMember, floating: bool) -> None:
    declared = (1.0, 0.0) if floating else (member.scale, member.offset)
    for key, said in zip(("scale_factor", "add_offset"), declared, strict=True):
        if own.get(key) is not None and said is not None and not _close(own[key], said):
            meant = "floats are physical" if floating else f"declared is {said}"
            raise CorruptError(f"the array states {key} {str(own[key])[:30]}, {meant}")
    for key in ("_FillValue", "missing_value"):
        number = own.get(key)
        if number is None or (isinstance(number, float) and math.isnan(number)):
            continue
        # a file has one number for all bands; in some of them it may be a measurement
        numbers = () if floating else member.nodata or ()
        if not any(said is not None and _close(number, said) for said in numbers):
            meant = "missing floats are NaN" if floating else f"declared is {member.nodata}"
            raise CorruptError(f"the array states no-data ({key}) {str(number)[:30]}, {meant}")


def _close(own: Any, said: float) -> bool:
    return isinstance(own, (int, float)) and math.isclose(own, said, rel_tol=1e-6, abs_tol=1e-12)
