"""MODIS as CloudTracks ships it: bands 1, 20 and 32 of 1 km in one 8-bit picture.

Limits of the bands are those of MODIS' specification: 620-670 nm, 3660-3840 nm, 11,770-12,270 nm.
Pixels are the swath's, 1 km under the satellite and several times that at its edges. The stretch to
8 bits is not stated: unit `dn`, scale 1, offset 0.
"""

from fm.sensors.base import Band, Sensor

_ROWS = (("B01", 645.0, 50.0), ("B20", 3750.0, 180.0), ("B32", 12020.0, 500.0))

SENSORS = (
    Sensor(
        "modis-shiptracks",
        "Terra and Aqua",
        "8-bit picture of bands 1, 20 and 32 (CloudTracks)",
        tuple(
            Band(name, centre, width, 1000.0, "dn", None, "modisbyte_1000")
            for name, centre, width in _ROWS
        ),
        1.0,
        0.0,
    ),
)
