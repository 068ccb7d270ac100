"""Imaging spectrometers beside EnMAP: DESIS, EO-1 Hyperion and the airborne one of Hyperview.

They are here for the downstream sets of SpectralEarth (arXiv 2408.08447), whose files state neither
wavelengths nor units, so every unit is `dn`, scale 1, offset 0.

DESIS: 235 bands without binning (DLR's product table). Centres are *nominal*, 402.00 to 998.70 nm
in steps of 2.55 nm, and so is the width, 2.55 nm on average; each scene's metadata has its own.
Means of the bands over the published files are 650 to 3,600, as reflectance times 10,000 has them.

Hyperion: the 198 calibrated bands, numbered as by USGS: `B008` to `B057` (426.82 to 925.41 nm) from
one detector, `B077` to `B224` (912.45 to 2395.50 nm) from the other, in the files' order, so the
wavelengths fall once. Centres are those that circulate with the product; the width of 10 nm is
*nominal*. Published means have the solar spectrum's shape and a step between the detectors (their
radiance is stored with two factors): radiance, not reflectance.

Hyperview: 150 bands of 462 to 942 nm, 3.2 nm apart and wide, pixels of 2 m (the challenge's data
page). The centres are *nominal*: 462 nm and every 3.2 nm after it.
"""

from fm.sensors.base import Band, Sensor

DESIS_FIRST_NM, DESIS_STEP_NM, DESIS_COUNT = 402.0, 2.55, 235
HYPERVIEW_FIRST_NM, HYPERVIEW_STEP_NM, HYPERVIEW_COUNT = 462.0, 3.2, 150
HYPERION_FWHM_NM = 10.0

# fmt: off
_HYPERION = (
    426.82, 436.99, 447.17, 457.34, 467.52, 477.69, 487.87, 498.04, 508.22, 518.39, 528.57, 538.74,
    548.92, 559.09, 569.27, 579.45, 589.62, 599.8, 609.97, 620.15, 630.32, 640.5, 650.67, 660.85,
    671.02, 681.2, 691.37, 701.55, 711.72, 721.9, 732.07, 742.25, 752.43, 762.6, 772.78, 782.95,
    793.13, 803.3, 813.48, 823.65, 833.83, 844.0, 854.18, 864.35, 874.53, 884.7, 894.88, 905.05,
    915.23, 925.41, 912.45, 922.54, 932.64, 942.73, 952.82, 962.91, 972.99, 983.08, 993.17, 1003.3,
    1013.3, 1023.4, 1033.49, 1043.59, 1053.69, 1063.79, 1073.89, 1083.99, 1094.09, 1104.19, 1114.19,
    1124.28, 1134.38, 1144.48, 1154.58, 1164.68, 1174.77, 1184.87, 1194.97, 1205.07, 1215.17,
    1225.17, 1235.27, 1245.36, 1255.46, 1265.56, 1275.66, 1285.76, 1295.86, 1305.96, 1316.05,
    1326.05, 1336.15, 1346.25, 1356.35, 1366.45, 1376.55, 1386.65, 1396.74, 1406.84, 1416.94,
    1426.94, 1437.04, 1447.14, 1457.23, 1467.33, 1477.43, 1487.53, 1497.63, 1507.73, 1517.83,
    1527.92, 1537.92, 1548.02, 1558.12, 1568.22, 1578.32, 1588.42, 1598.51, 1608.61, 1618.71,
    1628.81, 1638.81, 1648.9, 1659.0, 1669.1, 1679.2, 1689.3, 1699.4, 1709.5, 1719.6, 1729.7,
    1739.7, 1749.79, 1759.89, 1769.99, 1780.09, 1790.19, 1800.29, 1810.38, 1820.48, 1830.58,
    1840.58, 1850.68, 1860.78, 1870.87, 1880.98, 1891.07, 1901.17, 1911.27, 1921.37, 1931.47,
    1941.57, 1951.57, 1961.66, 1971.76, 1981.86, 1991.96, 2002.06, 2012.15, 2022.25, 2032.35,
    2042.45, 2052.45, 2062.55, 2072.65, 2082.75, 2092.84, 2102.94, 2113.04, 2123.14, 2133.24,
    2143.34, 2153.34, 2163.43, 2173.53, 2183.63, 2193.73, 2203.83, 2213.93, 2224.03, 2234.12,
    2244.22, 2254.22, 2264.32, 2274.42, 2284.52, 2294.61, 2304.71, 2314.81, 2324.91, 2335.01,
    2345.11, 2355.21, 2365.2, 2375.3, 2385.4, 2395.5,
)
# fmt: on
_HYPERION_NUMBERS = (*range(8, 58), *range(77, 225))


def _even(first: float, step: float, count: int, grid: float, modality: str) -> tuple[Band, ...]:
    return tuple(
        Band(f"B{n:03d}", round(first + step * (n - 1), 2), step, grid, "dn", None, modality)
        for n in range(1, count + 1)
    )


SENSORS = (
    Sensor(
        "desis-l2a",
        "DESIS on the ISS",
        "L2A as in SpectralEarth's files",
        _even(DESIS_FIRST_NM, DESIS_STEP_NM, DESIS_COUNT, 30.0, "desis_30"),
        1.0,
        0.0,
    ),
    Sensor(
        "eo1-hyperion",
        "EO-1",
        "radiance as in SpectralEarth's files",
        tuple(
            Band(f"B{number:03d}", centre, HYPERION_FWHM_NM, 30.0, "dn", None, "hyperion_30")
            for number, centre in zip(_HYPERION_NUMBERS, _HYPERION, strict=True)
        ),
        1.0,
        0.0,
    ),
    Sensor(
        "hyperview",
        "aircraft",
        "as in the challenge's files",
        _even(HYPERVIEW_FIRST_NM, HYPERVIEW_STEP_NM, HYPERVIEW_COUNT, 2.0, "hyperview_2"),
        1.0,
        0.0,
    ),
)
