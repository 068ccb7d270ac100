"""MODIS in 8-bit pictures: as CloudTracks ships it, and the Blue Marble.

Limits of the bands are those of MODIS' specification: 620-670 nm (1), 459-479 (3), 545-565 (4),
3660-3840 (20), 11,770-12,270 (32). CloudTracks' pixels are the swath's, 1 km under the satellite
and several times that at its edges. The Blue Marble Next Generation is a composite of bands 1, 4
and 3 for the eye; its pixels here are those of a picture of 5400 x 2700. Neither states its stretch
to 8 bits: unit `dn`, scale 1, offset 0.
"""

from fm.sensors.base import Band, Sensor

_COLOURS = (("B01", 645.0, 50.0), ("B04", 555.0, 20.0), ("B03", 469.0, 20.0))
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
    Sensor(
        "modis-blue-marble",
        "Terra",
        "8-bit picture of bands 1, 4 and 3 (Blue Marble Next Generation)",
        tuple(
            Band(name, centre, width, 7413.0, "dn", None, "bluemarble_7413")
            for name, centre, width in _COLOURS
        ),
        1.0,
        0.0,
    ),
)
