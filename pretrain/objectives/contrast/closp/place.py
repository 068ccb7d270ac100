"""The location tower of GeoCLOSP: an encoder of `fm.location`, fresh or trained before.

GeoCLOSP takes SatCLIP's encoder as it was released, frozen, and learns a linear layer behind it.
"""

from typing import Any

import torch
from pydantic import model_validator
from torch import Tensor, nn

from fm import location
from fm.errors import FMError, UsageError
from fm.location.encoder import LocationEncoder, Sum
from pretrain.objectives.place.encoder import EncoderConfig

WHERE = "objective.place"


class PlaceConfig(EncoderConfig):
    """The location tower: a fresh encoder, or a trained one and a linear layer behind it.

    Attributes:
        folder: of a trained location encoder: the `location` of a `satclip` run, or what
            `fm models pull` makes of SatCLIP's and GeoCLIP's; its own settings hold.
        frozen: the trained encoder stays as it is (published).
    """

    folder: str | None = None
    frozen: bool = False

    @model_validator(mode="before")
    @classmethod
    def _of_the_first_version(cls, values: Any) -> Any:
        old = sorted({"degrees", "hidden"} & values.keys()) if isinstance(values, dict) else []
        if old:
            raise ValueError(
                f"{old[0]} was of an encoder that is no more: write options: {{L: DEGREES}} and "
                f"width (docs/closp.md)"
            )
        return values

    @model_validator(mode="after")
    def _of_one_encoder(self) -> "PlaceConfig":
        if self.folder is None and self.frozen:
            raise ValueError("frozen is of a trained encoder; name its folder")
        # by value: the config of a run has all fields, and is read again
        fields = EncoderConfig.model_fields.items()
        fresh = [name for name, field in fields if getattr(self, name) != field.default]
        if self.folder is not None and fresh:
            raise ValueError(f"folder has an encoder with its own {fresh[0]}; leave {fresh[0]} out")
        return self


class PlaceTower(nn.Module):
    """Places to rows.

    Args:
        config: see `PlaceConfig`.
        width: D of a row.

    Raises:
        FMError: no such encoder, or one that wants more than a place.
    """

    def __init__(self, config: PlaceConfig, width: int) -> None:
        super().__init__()
        self.encoder: LocationEncoder | Sum
        self.last: nn.Module = nn.Identity()
        if config.folder is None:
            self.encoder = config.encoder(width, WHERE, "objective.text's width")
        else:
            self.encoder = _trained(config.folder).requires_grad_(not config.frozen)
            self.last = nn.Linear(self.encoder.dim, width)
        self.fresh = config.folder is None

    def train(self, mode: bool = True) -> "PlaceTower":
        """Train; the dropout that a trained encoder had stays off, torch would draw it."""
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, lonlat: Tensor) -> Tensor:
        """Encode places `[n, 2]` in degrees, NaN where unknown: `[n, D]`, those as any other."""
        made: Tensor = self.last(self.encoder(torch.nan_to_num(lonlat)))
        return made.float()


def _trained(folder: str) -> LocationEncoder | Sum:
    try:
        with torch.device("cpu"):  # also where a plan measures without memory
            found = location.load(folder)
    except FMError as error:
        raise FMError(f"{WHERE}.folder={error}") from None
    if isinstance(found, LocationEncoder) and found.month is not None:
        raise UsageError(f"{WHERE}.folder={folder}: it wants the month too; take one of places")
    return found.to(torch.get_default_device())
