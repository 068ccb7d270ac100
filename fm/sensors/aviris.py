"""AVIRIS over Indian Pines (12 June 1992), the 200 bands of the "corrected" cube.

Source of the numbering: Baumgardner, Biehl, Landgrebe (2015), "220 Band AVIRIS Hyperspectral Image
Data Set: June 12, 1992 Indian Pine Test Site 3", Purdue University. The cube has 220 bands; the
corrected one leaves out the water absorption bands 104-108, 150-163 and 220 (numbered from 1).

The exact calibration of that flight is not in the files that circulate. The wavelengths here are
*nominal*: 220 bands evenly spaced from 400 to 2500 nm (9.59 nm apart) with a nominal FWHM of 10 nm
(AVIRIS: 224 bands, about 10 nm wide). Measured on the cube: the oxygen A line (761 nm) falls on
B040, nominally 774.0, and the water vapour line at 942 nm on B058, nominally 946.6. So expect up to
13 nm, and do not read the table as a calibration.

Band names are the numbers of the 220-band cube, `B001` to `B219`, so a name keeps its meaning
after bands are dropped. Pixels are scaled radiance with an offset (MultiSpec: about 500 x radiance
+ 1000), not reflectance: unit `dn`, scale 1, offset 0.
"""

from fm.sensors.base import Band, Sensor

FULL_COUNT = 220
DROPPED = (*range(104, 109), *range(150, 164), 220)
"""Water absorption bands left out of the corrected cube, numbered from 1."""
FIRST_NM, LAST_NM, FWHM_NM = 400.0, 2500.0, 10.0

_STEP_NM = (LAST_NM - FIRST_NM) / (FULL_COUNT - 1)

SENSORS = (
    Sensor(
        "aviris-indian-pines",
        "AVIRIS",
        "radiance numbers, 200 of 220 bands",
        tuple(
            Band(
                f"B{number:03d}",
                round(FIRST_NM + (number - 1) * _STEP_NM, 2),
                FWHM_NM,
                20.0,
                "dn",
                None,
                "aviris_20",
            )
            for number in range(1, FULL_COUNT + 1)
            if number not in DROPPED
        ),
        1.0,
        0.0,
    ),
)
