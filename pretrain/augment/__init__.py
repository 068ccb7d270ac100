"""Augmentation on the device, the same for a sample whatever batch or rank it is in."""

from pretrain.augment.recipe import draw_view
from pretrain.augment.season import repeated, seasons
from pretrain.augment.symmetries import dihedral
from pretrain.augment.view import View
from pretrain.settings.view import ViewConfig

__all__ = ["View", "ViewConfig", "dihedral", "draw_view", "repeated", "seasons"]
