"""What a foundation model is here: sensors, normalisation, geometry, backbones, checkpoints.

Names are loaded when first used (PEP 562), so `import fm.sensors` does not load torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

from fm.version import __version__

if TYPE_CHECKING:
    from fm.checkpoint import load
    from fm.models import create_model, list_models
    from fm.sensors import list_sensors, sensor

_NAMES = {
    "create_model": "fm.models",
    "list_models": "fm.models",
    "list_sensors": "fm.sensors",
    "load": "fm.checkpoint",
    "sensor": "fm.sensors",
}
_SUBMODULES = (
    "adapt",
    "card",
    "checkpoint",
    "errors",
    "geo",
    "location",
    "models",
    "normalize",
    "sensors",
)

__all__ = ["__version__", "create_model", "list_models", "list_sensors", "load", "sensor"]


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    if name in _SUBMODULES:
        return importlib.import_module(f"fm.{name}")
    raise AttributeError(f"module 'fm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES, *_SUBMODULES})
