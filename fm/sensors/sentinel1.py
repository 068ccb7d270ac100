"""Sentinel-1 C-SAR, ground range detected (GRD), calibrated backscatter in decibels.

The carrier is 5.405 GHz (Sentinel-1 product specification), 5.547 cm. That number is not put into
`wavelength_nm`: 5.5e7 lies four decades beyond the optical axis that wavelength-conditioned models
are trained on, both bands have the same one, and what tells them apart is the polarisation. So the
field is None, and a model that needs an optical wavelength refuses these bands instead of
extrapolating (`fm.sensors.wavelengths`). `FREQUENCY_HZ` and `WAVELENGTH_NM` are here for a model
that treats radar on its own terms.

Band order is VV, VH. Arrays are float dB (10 log10 of sigma nought, or of gamma nought after
terrain flattening: the dataset's provenance says which), so scale is 1 and offset 0.
`sentinel1-so2sat` is So2Sat LCZ42's own product (Zhu et al., doi 10.1109/MGRS.2020.2964708): real
and imaginary parts of the complex VH and VV signals, their intensities after a refined Lee filter,
and the filtered covariance of the two, all linear.
"""

from fm.sensors.base import Band, Sensor

FREQUENCY_HZ = 5.405e9
SPEED_OF_LIGHT_M_S = 299_792_458.0
WAVELENGTH_NM = SPEED_OF_LIGHT_M_S / FREQUENCY_HZ * 1e9

SENSORS = (
    Sensor(
        "sentinel1-grd",
        "Sentinel-1",
        "GRD",
        tuple(Band(name, None, None, 10.0, "dB", name, "s1grd_10") for name in ("VV", "VH")),
        1.0,
        0.0,
    ),
    Sensor(
        "sentinel1-so2sat",
        "Sentinel-1",
        "SLC geocoded by So2Sat LCZ42",
        tuple(
            Band(name, None, None, 10.0, "linear", polarisation, "s1so2sat_10")
            for name, polarisation in (
                ("VH_re", "VH"),
                ("VH_im", "VH"),
                ("VV_re", "VV"),
                ("VV_im", "VV"),
                ("VH_lee", "VH"),
                ("VV_lee", "VV"),
                ("C_re", None),
                ("C_im", None),
            )
        ),
        1.0,
        0.0,
    ),
)
