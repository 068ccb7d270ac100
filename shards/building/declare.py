"""What a writer is told of a modality before it has seen a pixel."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fm.errors import FMError, UsageError
from fm.sensors import Band, Sensor, list_sensors, sensor
from shards.format import check_member


@dataclass(frozen=True)
class Declared:
    """One modality; dtype and statistics come from the samples.

    Attributes:
        sensor: a name of `fm.sensors`, or any other name together with `table`.
        bands: band names in the order of the array's C axis.
        scale: physical = stored * scale + offset; the sensor's when None.
        offset: the sensor's when None.
        gsd_m: ground sampling distance in metres; the bands' when None.
        nodata: the stored number that means "no data": one for all bands, or one (or None) a band.
            None: every number is data. Floating pixels mark missing data by NaN instead.
        table: the bands of a sensor that `fm.sensors` does not know, `scale` and `offset` given.
    """

    sensor: str
    bands: tuple[str, ...]
    scale: float | None = None
    offset: float | None = None
    gsd_m: float | None = None
    nodata: int | Sequence[int | None] | None = None
    table: tuple[Band, ...] | None = None


@dataclass(frozen=True)
class Known:
    """A `Declared` with nothing left open.

    Attributes:
        sensor: its name.
        table: the bands in the order of the array's C axis.
        scale: physical = stored * scale + offset, for integer types.
        offset: see `scale`.
        gsd_m: of the grid, in metres.
        nodata: one a band, or None when every number is data.
    """

    sensor: str
    table: tuple[Band, ...]
    scale: float
    offset: float
    gsd_m: float
    nodata: tuple[int | None, ...] | None

    @property
    def bands(self) -> tuple[str, ...]:
        """Band names in the order of the array's C axis."""
        return tuple(band.name for band in self.table)


def resolve(modalities: Mapping[str, Declared]) -> dict[str, Known]:
    """Fill in what the sensors say.

    Raises:
        UsageError: no modality, an unknown sensor or band, bands of several grids, or as many
            no-data numbers as there are not bands.
        FMError: a modality's name cannot be a member's.
    """
    if not modalities:
        raise UsageError("no modalities declared; a dataset needs at least one")
    return {check_member(name): _resolve(name, one) for name, one in modalities.items()}


def _resolve(name: str, declared: Declared) -> Known:
    if declared.table is not None and declared.sensor not in list_sensors():
        if declared.scale is None or declared.offset is None:
            raise UsageError(
                f"modality {name!r}: scale and offset of sensor {declared.sensor!r} are not known; "
                "declare both"
            )
        found = Sensor(declared.sensor, "", "", declared.table, declared.scale, declared.offset)
    else:
        found = sensor(declared.sensor)
        if declared.table is not None:
            found = replace(found, bands=declared.table)
    table = found.select(declared.bands)
    if not table:
        raise UsageError(f"modality {name!r} has no bands; name them in array order")
    gsds = {band.gsd_m for band in table}
    if len(gsds) > 1 and declared.gsd_m is None:
        raise UsageError(
            f"modality {name!r} mixes bands of {sorted(gsds)} m; a modality is one grid: split "
            "it, or pass gsd_m when the bands were resampled"
        )
    return Known(
        sensor=found.name,
        table=table,
        scale=float(found.scale if declared.scale is None else declared.scale),
        offset=float(found.offset if declared.offset is None else declared.offset),
        gsd_m=float(gsds.pop() if declared.gsd_m is None else declared.gsd_m),
        nodata=_nodata(name, declared.nodata, len(table)),
    )


def _nodata(
    name: str, nodata: int | Sequence[int | None] | None, count: int
) -> tuple[int | None, ...] | None:
    if nodata is None:
        return None
    numbers = list(nodata) if isinstance(nodata, Sequence) else [nodata] * count
    if len(numbers) != count:
        raise UsageError(f"modality {name!r}: {len(numbers)} no-data numbers for {count} bands")
    if bad := [n for n in numbers if n is not None and (isinstance(n, bool) or int(n) != n)]:
        raise FMError(
            f"modality {name!r}: no-data {bad[0]!r} is no whole number; floating pixels mark "
            "missing data by NaN"
        )
    whole = tuple(None if n is None else int(n) for n in numbers)
    return None if all(n is None for n in whole) else whole
