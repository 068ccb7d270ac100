"""`monitor`."""

from pydantic import Field

from fm.config import Config
from pretrain.settings.kinds import Positive


class MonitorConfig(Config):
    """What a run shows.

    Attributes:
        every: steps between lines in `metrics.jsonl` and TensorBoard.
        pictures: number of reconstruction panels made at the end.
        tensorboard: write event files.
    """

    every: Positive = 1
    pictures: int = Field(4, ge=0, le=16)
    tensorboard: bool = True
