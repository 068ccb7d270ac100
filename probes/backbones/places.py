"""A location encoder whose weights lie in a pip package."""

from pathlib import Path

import torch

from fm.location import Sum, geoclip
from shards.building.packages import Package, fetch

# Vivanco Cepeda et al. 2023, arXiv 2309.16020: trained on 4.7 million photographs of MP-16. The
# wheel is unpacked, never installed: it asks for much else.
GEOCLIP = Package(
    "geoclip",
    "1.3.0",
    "08a93791166a279d52b95c466a952c75f17f654cc61bdf6ab20355325b564dec",
    ("geoclip/model/weights/location_encoder_weights.pth",),
    "MIT",
)


def load_geoclip(cache: Path, *, dtype: torch.dtype = torch.float32) -> Sum:
    """Load GeoCLIP's location encoder from the package cache, or fetch it there.

    Raises:
        FMError: the package cannot be had, or holds another file.
    """
    return geoclip(fetch(GEOCLIP, cache), dtype=dtype)
