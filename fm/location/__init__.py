"""Places as features: exact spherical harmonics, other encodings, and networks on them.

Read in this order: `encoding` (what every encoding promises), `legendre` and `harmonics`,
`streamed` (the first layer), `heads`, `encoder`, `registry`; `grids` makes maps, `released`
loads the weights of others, `checkpoint` ours, `shared_space` the image encoder beside them,
`retrieval` adds what images knew. Names are loaded when first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fm.location.checkpoint import load, save
    from fm.location.encoder import LocationEncoder, LocationFeatures, Sum
    from fm.location.encoding import Encoding
    from fm.location.grids import on_grid
    from fm.location.harmonics import SphericalHarmonics
    from fm.location.registry import create, create_encoding, list_encodings
    from fm.location.released import geoclip, satclip
    from fm.location.retrieval import Retrieval
    from fm.location.shared_space import ImageHead, Pair, pair
    from fm.location.streamed import EncodedLinear

_NAMES = {
    "EncodedLinear": "streamed",
    "Encoding": "encoding",
    "ImageHead": "shared_space",
    "LocationEncoder": "encoder",
    "LocationFeatures": "encoder",
    "Pair": "shared_space",
    "Retrieval": "retrieval",
    "SphericalHarmonics": "harmonics",
    "Sum": "encoder",
    "create": "registry",
    "create_encoding": "registry",
    "geoclip": "released",
    "list_encodings": "registry",
    "load": "checkpoint",
    "on_grid": "grids",
    "pair": "shared_space",
    "satclip": "released",
    "save": "checkpoint",
}

__all__ = [
    "EncodedLinear",
    "Encoding",
    "ImageHead",
    "LocationEncoder",
    "LocationFeatures",
    "Pair",
    "Retrieval",
    "SphericalHarmonics",
    "Sum",
    "create",
    "create_encoding",
    "geoclip",
    "list_encodings",
    "load",
    "on_grid",
    "pair",
    "satclip",
    "save",
]


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(f"fm.location.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'fm.location' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES})
