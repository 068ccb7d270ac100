"""The tables of sensors and bands. Nothing here imports torch.

A modality, one array on one grid, is named `<family><level>_<grid in metres>`: `s2l1c_10`,
`s2l2a_60`, `s1grd_10`, `aviris_20`, `enmap_30`, `l8l1_15`, `l8l2_30`. The name says nothing about
the processing baseline: Sentinel-2 before and from baseline 04.00 share their modalities and differ
in the sensor's `offset`.
"""

from collections.abc import Iterable

from fm.errors import UsageError, suggest
from fm.sensors import (
    aviris,
    colour,
    eight_bit,
    enmap,
    imaging_spectrometers,
    landsat,
    modis,
    neon,
    sentinel1,
    sentinel2,
    sentinel3,
)
from fm.sensors.base import Band, Sensor, wavelengths

__all__ = [
    "Band",
    "Sensor",
    "list_sensors",
    "modality_bands",
    "sensor",
    "sensor_of_modality",
    "wavelengths",
]


def _register(sensors: Iterable[Sensor]) -> tuple[dict[str, Sensor], dict[str, Sensor]]:
    names: dict[str, Sensor] = {}
    owners: dict[str, Sensor] = {}
    for item in sensors:
        assert item.name not in names, f"two sensors are called {item.name}"
        names[item.name] = item
        for modality, bands in item.modalities.items():
            owner = owners.setdefault(modality, item)
            assert owner.modalities[modality] == bands, f"two band lists for {modality}"
    return names, owners


_SENSORS, _OWNERS = _register(
    (
        *sentinel2.SENSORS,
        *sentinel1.SENSORS,
        *sentinel3.SENSORS,
        *aviris.SENSORS,
        *enmap.SENSORS,
        *imaging_spectrometers.SENSORS,
        *landsat.SENSORS,
        *modis.SENSORS,
        *neon.SENSORS,
        *colour.SENSORS,
        *eight_bit.SENSORS,
    )
)


def sensor(name: str) -> Sensor:
    """Look a sensor up.

    Args:
        name: registry name, see `list_sensors`.

    Returns:
        the sensor with its bands, scale and offset.

    Raises:
        UsageError: there is no such sensor.
    """
    if name not in _SENSORS:
        raise UsageError(f"there is no sensor {name!r}; {suggest(name, _SENSORS)}")
    return _SENSORS[name]


def list_sensors() -> list[str]:
    """Names of all sensors, sorted."""
    return sorted(_SENSORS)


def sensor_of_modality(modality: str) -> Sensor:
    """Find the sensor that a modality belongs to.

    Two Sentinel-2 sensors share each modality; the one returned is the one before baseline 04.00.
    Take scale and offset from the dataset, not from here.

    Args:
        modality: `s2l1c_10`, ...

    Returns:
        the sensor.

    Raises:
        UsageError: no sensor has this modality.
    """
    if modality not in _OWNERS:
        raise UsageError(f"there is no modality {modality!r}; {suggest(modality, _OWNERS)}")
    return _OWNERS[modality]


def modality_bands(modality: str) -> tuple[Band, ...]:
    """All bands of a modality in table order.

    Args:
        modality: `s2l1c_10`, ...

    Returns:
        the bands.

    Raises:
        UsageError: no sensor has this modality.
    """
    return sensor_of_modality(modality).modalities[modality]
