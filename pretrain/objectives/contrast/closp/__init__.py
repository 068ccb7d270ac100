"""CLOSP and GeoCLOSP: sensors that never meet, bridged by text (arXiv 2507.10403)."""

from pretrain.objectives.contrast.closp.closp import CLOSP, CLOSPConfig
from pretrain.objectives.contrast.closp.place import PlaceConfig
from pretrain.objectives.contrast.closp.tower import TextConfig, TextTower, text_tower

__all__ = ["CLOSP", "CLOSPConfig", "PlaceConfig", "TextConfig", "TextTower", "text_tower"]
