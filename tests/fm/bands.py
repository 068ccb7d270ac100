"""Made-up spectrometers for tests: any number of bands between 420 and 2450 nm."""

from fm.models.layout import Member
from fm.sensors import Band

COUNTS = (1, 2, 3, 10, 13, 60, 74, 75, 120, 202, 235)


def spectrometer(count: int, modality: str = "enmap_30") -> tuple[Band, ...]:
    centres = [420 + 2030 * i / (count - 1) for i in range(count)] if count > 1 else [842.0]
    return tuple(
        Band(f"X{i:03}", round(nm, 3), 10.0 + i / 100, 30.0, "reflectance", modality=modality)
        for i, nm in enumerate(centres)
    )


def member(count: int, patch: int) -> Member:
    return Member("enmap_30", spectrometer(count), patch)
