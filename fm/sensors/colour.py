"""Cameras of aerial and Google Earth pictures that circulate as 8-bit colour.

Pictures of UC Merced, RESISC45, LoveDA, LandCover.ai and LEVIR-CD come from cameras and satellites
that nobody lists; those of Potsdam, Vaihingen and TreeSatAI from colour-infrared cameras whose
response was not published with them. Numbers are uncalibrated: unit `dn`, scale 1, offset 0. The
centres and widths of red, green and blue are *nominal* for a colour camera, as for `neon-rgb`. The
near infrared of such cameras differs by more than 100 nm, so it has no wavelength here, and a model
that needs one refuses it.

Pixels differ between datasets (0.05 to 30 m). The name's grid is that of pictures below one metre;
the table says 0.5 m, and a benchmark tells its own (`Data.gsd_m`).
"""

from fm.sensors.base import Band, Sensor

GRID_M = 0.5
_NOMINAL = (("R", 640.0, 80.0), ("G", 550.0, 80.0), ("B", 460.0, 80.0))


def _bands(modality: str) -> tuple[Band, ...]:
    return tuple(
        Band(name, centre, width, GRID_M, "dn", None, modality) for name, centre, width in _NOMINAL
    )


SENSORS = (
    Sensor("rgb", "camera not stated", "8-bit colour picture", _bands("rgb_0"), 1.0, 0.0),
    Sensor(
        "nir-rgb",
        "camera not stated",
        "8-bit colour-infrared picture",
        (Band("NIR", None, None, GRID_M, "dn", None, "nirrgb_0"), *_bands("nirrgb_0")),
        1.0,
        0.0,
    ),
)
