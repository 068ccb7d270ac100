"""`checkpoint`."""

from fm.config import Config
from pretrain.settings.kinds import Positive


class CheckpointConfig(Config):
    """Checkpoints to resume from.

    Attributes:
        every: steps between checkpoints; the last step always writes one.
        keep: how many of the newest stay.
    """

    every: Positive = 50
    keep: Positive = 2
