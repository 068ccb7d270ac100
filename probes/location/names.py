"""Names of location encoders, without loading torch."""

from typing import Any

ALIASES: dict[str, tuple[str, dict[str, Any]]] = {
    "lonlat": ("degrees", {}),
    "xyz": ("cartesian", {}),
    "wrap": ("wrap", {}),
    "sh10": ("sh", {"L": 10}),
    "sh20": ("sh", {"L": 20}),
    "sh40": ("sh", {"L": 40}),
    "rff": ("rff", {"sigma": 2.0, "count": 256, "projection": "xyz"}),
    "sphere-m": ("sphere_m", {}),
}
"""Raw encodings by the names of the tables."""
FLOORS = ("lonlat", "xyz", "wrap", "sh10", "sh20", "sh40", "rff")
"""They stand in every table."""
PRETRAINED = ("geoclip", "satclip")
TEN = (*FLOORS, "sphere-m", "geoclip-untrained", "geoclip")
"""The encoders of the suite's own table."""
