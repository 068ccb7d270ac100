"""Sentinel-3 OLCI, Level-1B radiance, full resolution of about 300 m.

Centres and widths are those that Copernicus-FM and Copernicus-Bench list (arXiv 2503.11849). Stored
numbers become radiance by one factor a band, which a table with one scale for all bands cannot say:
unit `dn`, scale 1, offset 0, as stored.
"""

from fm.sensors.base import Band, Sensor

_CENTRES = (
    *(400.0, 412.5, 442.5, 490.0, 510.0, 560.0, 620.0, 665.0, 673.75, 681.25, 708.75, 753.75),
    *(761.25, 764.375, 767.5, 778.75, 865.0, 885.0, 900.0, 940.0, 1020.0),
)
_WIDTHS = (
    *(15.0, 10.0, 10.0, 10.0, 10.0, 10.0, 10.0, 10.0, 7.5, 7.5, 10.0, 7.5),
    *(7.5, 3.75, 2.5, 15.0, 20.0, 10.0, 10.0, 20.0, 40.0),
)

SENSORS = (
    Sensor(
        "sentinel3-olci",
        "Sentinel-3",
        "Level-1B radiance, numbers before the factor of each band",
        tuple(
            Band(f"Oa{n:02d}", centre, width, 300.0, "dn", None, "s3olci_300")
            for n, (centre, width) in enumerate(zip(_CENTRES, _WIDTHS, strict=True), 1)
        ),
        1.0,
        0.0,
    ),
)
