"""`init`: what `init_from` is and what its first layer becomes where the data has other bands.

What no weight file of others can say of itself is the same for every use of one.
"""

from typing import Literal

from fm.config import Config
from fm.first_layer import Policy


class ForeignConfig(Config):
    """What a weight file of others cannot say; see docs/foreign.md.

    Attributes:
        tolerance_nm: of the first layer's policy `nearest`, how far apart centres may lie.
        bands: which bands the channels of a foreign file stand for, in its order, as
            `SENSOR:BAND,BAND@METRES`.
        known: name of released weights (`fm models list`), which says bands, heads and
            network where they are not given here.
        heads: attention heads of a foreign ViT, which no shape tells.
        part: entry or network of a foreign file that holds the weights, such as `teacher`.
        family: of a foreign file, where families look alike.
        position_resize: how a foreign position table is brought to the model's grid.
    """

    bands: str | None = None
    known: str | None = None
    heads: int | None = None
    part: str | None = None
    family: str | None = None
    position_resize: Literal["timm", "dinov2"] | None = None

    @property
    def of_files(self) -> list[str]:
        """Name the keys that are set, which a checkpoint folder of ours has no use for."""
        return [key for key in ForeignConfig.model_fields if getattr(self, key) is not None]


class InitConfig(ForeignConfig):
    """How weights of others begin a run; see docs/foreign.md.

    Attributes:
        first_layer: what becomes of the first layer (`fm.first_layer.Policy`); null takes only
            bands that the weights know by name, and `random` makes no use of `bands`.
    """

    first_layer: Policy | None = None
    tolerance_nm: float | None = None
