"""Sentinel-2 MSI, Level-1C and Level-2A.

Centre wavelengths and bandwidths are those of Sentinel-2A in ESA's "Sentinel-2 Spectral Response
Functions (S2-SRF)" document, COPE-GSEG-EOPG-TN-15-0007, also the table of the MSI user guide.
Sentinel-2B differs by less than 4 nm (B12: 17 nm). All units share this table, because arrays
mostly do not say which unit took them.

Band order is that of the product metadata: B01 ... B08, B8A, B09, B10, B11, B12. Files that keep
another order (EuroSAT puts B8A last) are mended where they are read.

Level-1C holds top-of-atmosphere reflectance, Level-2A bottom-of-atmosphere reflectance without the
cirrus band B10. From processing baseline 04.00 (25 January 2022) stored numbers carry
`RADIO_ADD_OFFSET` / `BOA_ADD_OFFSET` = -1000: reflectance = (DN - 1000) / 10000. The sensors named
`-n0400` are those. Both baselines share their modality names, so a dataset has to say which scale
and offset its numbers have.
"""

from fm.sensors.base import Band, Sensor

_TABLE = (
    # name, centre nm, bandwidth nm, grid m
    ("B01", 442.7, 21.0, 60),
    ("B02", 492.4, 66.0, 10),
    ("B03", 559.8, 36.0, 10),
    ("B04", 664.6, 31.0, 10),
    ("B05", 704.1, 15.0, 20),
    ("B06", 740.5, 15.0, 20),
    ("B07", 782.8, 20.0, 20),
    ("B08", 832.8, 106.0, 10),
    ("B8A", 864.7, 21.0, 20),
    ("B09", 945.1, 20.0, 60),
    ("B10", 1373.5, 31.0, 60),
    ("B11", 1613.7, 91.0, 20),
    ("B12", 2202.4, 175.0, 20),
)
SCALE = 1e-4
OFFSET_N0400 = -1000 * SCALE


def _bands(family: str, without: tuple[str, ...] = ()) -> tuple[Band, ...]:
    return tuple(
        Band(name, centre, width, float(gsd), "reflectance", None, f"{family}_{gsd}")
        for name, centre, width, gsd in _TABLE
        if name not in without
    )


_L1C = _bands("s2l1c")
_L2A = _bands("s2l2a", without=("B10",))

SENSORS = (
    Sensor("sentinel2-l1c", "Sentinel-2", "L1C, baseline before 04.00", _L1C, SCALE, 0.0),
    Sensor(
        "sentinel2-l1c-n0400",
        "Sentinel-2",
        "L1C, baseline 04.00 or later",
        _L1C,
        SCALE,
        OFFSET_N0400,
    ),
    Sensor("sentinel2-l2a", "Sentinel-2", "L2A, baseline before 04.00", _L2A, SCALE, 0.0),
    Sensor(
        "sentinel2-l2a-n0400",
        "Sentinel-2",
        "L2A, baseline 04.00 or later",
        _L2A,
        SCALE,
        OFFSET_N0400,
    ),
)
