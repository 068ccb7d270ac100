"""Multispectral images that only circulate stretched to 8 bits.

The bands are known, the stretch is not: ForestNet's Landsat 8 (sharpened to 15 m by its authors)
and the Sentinel-2 of the South African crop type competition are published as numbers from 0 to 255
without a scale. Unit `dn`, scale 1, offset 0; wavelengths are those of the instruments. They have
modalities of their own, so a model that was trained on reflectance or on the products' 16-bit
numbers does not take them for those.
"""

from dataclasses import replace

from fm.sensors.base import Sensor
from fm.sensors.landsat import SENSORS as LANDSAT
from fm.sensors.sentinel2 import SENSORS as SENTINEL2


def _stretched(name: str, of: Sensor, bands: str, modality: str, gsd_m: float) -> Sensor:
    chosen = tuple(
        replace(band, gsd_m=gsd_m, unit="dn", modality=modality)
        for band in of.select(bands.split())
    )
    return Sensor(name, of.platform, "8 bits, stretch not stated", chosen, 1.0, 0.0)


_OLI = next(sensor for sensor in LANDSAT if sensor.name == "landsat8-oli-l1")
_MSI = next(sensor for sensor in SENTINEL2 if sensor.name == "sentinel2-l2a")

SENSORS = (
    _stretched("landsat8-oli-8bit", _OLI, "B2 B3 B4 B5 B6 B7", "l8byte_15", 15.0),
    _stretched(
        "sentinel2-8bit",
        _MSI,
        "B01 B02 B03 B04 B05 B06 B07 B08 B8A B09 B11 B12",
        "s2byte_10",
        10.0,
    ),
)
