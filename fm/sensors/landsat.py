"""Landsat 5 TM, 7 ETM+, 8 OLI/TIRS and 9 OLI-2/TIRS-2, Collection 2.

Level-1 (`-l1`): stored numbers are quantised radiance. The rescaling to reflectance is per band and
per scene (`REFLECTANCE_MULT_BAND_x`, sun elevation in the MTL file), so there is no fixed scale:
unit `dn`, scale 1, offset 0. Level-2 (`-l2`): surface reflectance = DN * 0.0000275 - 0.2, 0 is
fill (USGS LSDS-1619, Landsat 8-9 Collection 2 Level 2 Science Product Guide; LSDS-1618 for 4-7).
Surface temperature has a scale of its own (0.00341802, +149 K) and is not one of these bands.

Wavelengths. OLI: measured band averages of Barsi et al. (2014), "The Spectral Response of the
Landsat-8 Operational Land Imager", Remote Sensing 6, 10232-10251; OLI-2 is a copy and shares them.
TM and ETM+: middle and width of the measured half-power limits in Chander, Markham, Helder (2009),
Remote Sensing of Environment 113, 893-903 (nominal limits are up to 26 nm off: TM band 5 lies at
1676 nm). TIRS: of the limits that USGS publishes.

Names are the product's own. `gsd_m` is the product grid: thermal bands are delivered at 30 m (TM
acquired at 120 m, ETM+ 60 m, TIRS 100 m). Landsat 7 delivers its thermal band at two gains.
"""

from fm.sensors.base import Band, Sensor

L2_SCALE, L2_OFFSET = 2.75e-5, -0.2

_Row = tuple[str, float, float, int]  # name, centre nm, width nm, grid m


def _limits(name: str, low_um: float, high_um: float, grid: int = 30) -> _Row:
    centre, width = (low_um + high_um) * 500, (high_um - low_um) * 1000
    return name, round(centre, 1), round(width, 1), grid


_TM = (
    _limits("B1", 0.452, 0.518),
    _limits("B2", 0.528, 0.609),
    _limits("B3", 0.626, 0.693),
    _limits("B4", 0.776, 0.904),
    _limits("B5", 1.567, 1.784),
    _limits("B6", 10.45, 12.42),
    _limits("B7", 2.097, 2.349),
)
_ETM = (
    _limits("B1", 0.452, 0.514),
    _limits("B2", 0.519, 0.601),
    _limits("B3", 0.631, 0.692),
    _limits("B4", 0.772, 0.898),
    _limits("B5", 1.547, 1.748),
    _limits("B6_VCID_1", 10.31, 12.36),
    _limits("B6_VCID_2", 10.31, 12.36),
    _limits("B7", 2.065, 2.346),
    _limits("B8", 0.515, 0.896, 15),
)
_OLI: tuple[_Row, ...] = (
    ("B1", 442.96, 15.98, 30),
    ("B2", 482.04, 60.04, 30),
    ("B3", 561.41, 57.33, 30),
    ("B4", 654.59, 37.47, 30),
    ("B5", 864.67, 28.25, 30),
    ("B6", 1608.86, 84.72, 30),
    ("B7", 2200.73, 186.66, 30),
    ("B8", 589.50, 172.40, 15),
    ("B9", 1373.43, 20.39, 30),
    _limits("B10", 10.60, 11.19),
    _limits("B11", 11.50, 12.51),
)


def _pair(name: str, platform: str, family: str, table: tuple[_Row, ...], surface: str) -> list:
    """Build the Level-1 and Level-2 sensors; `surface` lists the bands that Level-2 keeps."""
    rows = {row[0]: row for row in table}
    level1 = tuple(
        Band(band, centre, width, float(grid), "dn", None, f"{family}l1_{grid}")
        for band, centre, width, grid in table
    )
    level2 = tuple(
        Band(
            f"SR_{band}", rows[band][1], rows[band][2], 30.0, "reflectance", None, f"{family}l2_30"
        )
        for band in surface.split()
    )
    return [
        Sensor(f"{name}-l1", platform, "Collection 2 Level-1", level1, 1.0, 0.0),
        Sensor(f"{name}-l2", platform, "Collection 2 Level-2", level2, L2_SCALE, L2_OFFSET),
    ]


_GLS = tuple(
    Band(band, centre, width, 28.5, "dn", None, "l7gls_28")
    for band, centre, width, _ in _ETM
    if band in ("B1", "B2", "B3", "B4", "B5", "B7")
)
"""The reflective bands of the older global orthorectified products, whose pixels are 28.5 m."""


def _eight(name: str, platform: str, family: str, table: tuple[_Row, ...], names: str) -> Sensor:
    """Build a sensor of SSL4EO-L, all bands on one grid of 30 m; `names` as in the files."""
    rows = {row[0]: row for row in table}
    level = "SR" if names.startswith("SR_") else "TOA"
    bands = tuple(
        Band(
            band,
            rows[band.removeprefix("SR_")][1],
            rows[band.removeprefix("SR_")][2],
            30.0,
            "dn",
            None,
            f"{family}{level.lower()}8_30",
        )
        for band in names.split()
    )
    return Sensor(name, platform, f"Collection 2 {level} in 8 bits (SSL4EO-L)", bands, 1.0, 0.0)


_EIGHT = (
    _eight("landsat5-tm-toa8", "Landsat 5", "l5", _TM, "B1 B2 B3 B4 B5 B6 B7"),
    _eight(
        "landsat7-etm-toa8", "Landsat 7", "l7", _ETM, "B1 B2 B3 B4 B5 B6_VCID_1 B6_VCID_2 B7 B8"
    ),
    _eight("landsat7-etm-sr8", "Landsat 7", "l7", _ETM, "SR_B1 SR_B2 SR_B3 SR_B4 SR_B5 SR_B7"),
    _eight("landsat8-oli-toa8", "Landsat 8", "l8", _OLI, "B1 B2 B3 B4 B5 B6 B7 B8 B9 B10 B11"),
    _eight(
        "landsat8-oli-sr8", "Landsat 8", "l8", _OLI, "SR_B1 SR_B2 SR_B3 SR_B4 SR_B5 SR_B6 SR_B7"
    ),
)
"""SSL4EO-L (NeurIPS 2023) as published: 0 to 255 for a reflectance of 0 to 0.4 (TOA) or 0 to 0.3
(SR), and for 248.15 to 318.15 K in the thermal bands, clipped at both ends (`compress_*.sh` beside
torchgeo). Several scales in one array and clipped bright ground: numbers, not reflectance."""

SENSORS: tuple[Sensor, ...] = (
    *_pair("landsat5-tm", "Landsat 5", "l5", _TM, "B1 B2 B3 B4 B5 B7"),
    *_pair("landsat7-etm", "Landsat 7", "l7", _ETM, "B1 B2 B3 B4 B5 B7"),
    Sensor("landsat7-etm-gls", "Landsat 7", "GeoCover/GLS orthorectified, 28.5 m", _GLS, 1.0, 0.0),
    *_pair("landsat8-oli", "Landsat 8", "l8", _OLI, "B1 B2 B3 B4 B5 B6 B7"),
    *_pair("landsat9-oli", "Landsat 9", "l9", _OLI, "B1 B2 B3 B4 B5 B6 B7"),
    *_EIGHT,
)
