"""The weights of this folder as torchgeo's models take them.

    import torchgeo.models
    from eofm_weights import WEIGHTS, kwargs, model_name

    weights = WEIGHTS.EOFM
    model = getattr(torchgeo.models, model_name)(weights, **kwargs).eval()
    features = model(weights.transforms(pixels))  # [B, C, H, W] float in the units of weights.meta

Needs torch and torchvision; `meta.json` and `weights.pth` lie beside this file.
"""

import json
from pathlib import Path
from typing import Any

import torch
import torchvision.transforms.v2 as transforms
from torch import Tensor, nn
from torchvision.models._api import Weights, WeightsEnum

FOLDER = Path(__file__).parent


class Clip(nn.Module):
    """Clip to 0 to 1."""

    def forward(self, x: Tensor) -> Tensor:
        """Clip values of any shape."""
        return x.clamp(0.0, 1.0)


_meta: dict[str, Any] = (
    json.loads((FOLDER / "meta.json").read_text(encoding="utf-8"))
    if (FOLDER / "meta.json").is_file()
    else {"mean": [0.0], "std": [1.0], "clip": False, "model": "", "kwargs": {}}
)
_parts: list[nn.Module] = [transforms.Normalize(mean=_meta["mean"], std=_meta["std"])]
if _meta["clip"]:
    _parts.append(Clip())

model_name: str = _meta["model"]
kwargs: dict[str, Any] = _meta["kwargs"]


class WEIGHTS(WeightsEnum):
    """An enum of one member, read from the file beside it and not from an address."""

    EOFM = Weights(
        url=(FOLDER / "weights.pth").as_uri() if FOLDER.is_absolute() else "",
        transforms=nn.Sequential(*_parts),
        meta=_meta,
    )

    def get_state_dict(self, *args: Any, **options: Any) -> dict[str, Any]:
        """Read the weights; the arguments of a download have no use."""
        state: dict[str, Any] = torch.load(
            FOLDER / "weights.pth", weights_only=True, map_location="cpu"
        )
        return state
