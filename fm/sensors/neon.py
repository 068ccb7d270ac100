"""The colour camera of the NEON airborne platform, averaged to pixels of 0.4 m.

The published mosaics have pixels of 0.1 m and three 8-bit channels without calibration: unit `dn`,
scale 1, offset 0. No response curve comes with the pictures; centres and widths here are *nominal*
for a colour camera. A name's grid is in whole metres, so the modality of 0.4 m is `neonrgb_0`.
"""

from fm.sensors.base import Band, Sensor

GRID_M = 0.4
"""Four by four pixels of the mosaic."""

_NOMINAL = (("R", 640.0, 80.0), ("G", 550.0, 80.0), ("B", 460.0, 80.0))

SENSORS = (
    Sensor(
        "neon-rgb",
        "NEON airborne observation platform",
        "colour mosaic, means of 4x4 pixels",
        tuple(
            Band(name, centre, width, GRID_M, "dn", None, "neonrgb_0")
            for name, centre, width in _NOMINAL
        ),
        1.0,
        0.0,
    ),
)
