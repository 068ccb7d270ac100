"""Tiny state dicts made from the inventories, with the arguments that convert them."""

import math
from typing import Any

import torch
from torch import Tensor

from fm import foreign
from fm.foreign.inventory import inventory
from fm.models.galileo import CROPS, WORLD
from fm.models.positions import sincos_1d, sincos_2d
from fm.normalize import Normalisation
from fm.sensors import Band, sensor

S2 = sensor("sentinel2-l1c")
RGB = foreign.on_grid(S2.select(["B04", "B03", "B02"]), 10)
ALL = foreign.on_grid(S2.bands, 10)
TEN = foreign.on_grid([b for b in S2.bands if b.name not in ("B01", "B09", "B10")], 10)
TWELVE = foreign.on_grid([b for b in S2.bands if b.name != "B10"], 10)
GROUPS = {
    "g0": ["B02", "B03", "B04", "B08"],
    "g1": ["B05", "B06", "B07", "B8A"],
    "g2": ["B11", "B12"],
}
HYPER = dict(list(sensor("aviris-indian-pines").modalities.items())[:1])
S1S2 = {
    **foreign.on_grid(sensor("sentinel1-grd").bands, 10),
    **foreign.on_grid([b for b in S2.bands if b.name != "B10"], 10),
}


def _on_ten(name: str, *of: tuple[str, str]) -> dict[str, tuple[Band, ...]]:
    modality = f"{name}_10"
    return {modality: tuple(Band(n, None, None, 10.0, unit, modality=modality) for n, unit in of)}


PIXELS = {
    **foreign.on_grid([b for b in S2.bands if b.name not in ("B01", "B09", "B10")], 10),
    **foreign.on_grid(sensor("sentinel1-grd").bands, 10),
    **_on_ten("era5", ("temperature_2m", "K"), ("total_precipitation", "m")),
    **_on_ten("srtm", ("elevation", "m"), ("slope", "degree")),
}
GALILEO = {
    **PIXELS,
    **_on_ten("monthly", *((name, "") for name in ("def", "soil", "aet", "avg_rad"))),
    **_on_ten(
        "maps",
        *((name, "") for name in (*WORLD, *CROPS, "population")),
        *((f"{name}_static", "") for name in (*WORLD, *CROPS)),
    ),
}
AS_THEY_ARE = dict.fromkeys(GALILEO, (1.0, 0.0))

CASES: dict[str, tuple[dict[str, tuple[Band, ...]], dict[str, Any]]] = {
    "vit": (RGB, {"heads": 3}),
    "timm_vit": (RGB, {"heads": 3}),
    "dinov2": (RGB, {"heads": 3, "pooling": "cls"}),
    "scale_mae": (RGB, {"heads": 3, "reference_gsd_m": 1.0}),
    "satmaepp_rgb": (RGB, {"heads": 3, "channel_order": "bgr"}),
    "satmae_temporal": (RGB, {"heads": 3}),
    "satmae_group": (TEN, {"heads": 3, "token_groups": GROUPS}),
    "satmaepp_group": (TEN, {"heads": 3, "token_groups": GROUPS}),
    "satmae_group_finetuned": (TEN, {"heads": 3, "token_groups": GROUPS}),
    "spectral_vit": (HYPER, {"heads": 3}),
    "spectral_lightning": (HYPER, {"heads": 3}),
    "spectral_resnet": (HYPER, {}),
    "less_v1": (S1S2, {"perception_m": 640}),
    "less_v2": (S1S2, {"perception_m": 0, "wavelength_range_nm": (418.24, 2445.53)}),
    "dofa": (ALL, {"heads": 3, "layer": "v2"}),
    "copernicus_fm": (ALL, {"heads": 3}),
    "croma": (S1S2, {"heads": 16}),
    "presto": (PIXELS, {"heads": 2, "scaling": {m: AS_THEY_ARE[m] for m in PIXELS}}),
    "galileo": (GALILEO, {"heads": 2, "scaling": AS_THEY_ARE}),
    "panopticon": (ALL, {"heads": 3}),
    "resnet": (ALL, {}),
    "resnet18": (ALL, {}),
    "softcon_resnet": (ALL, {}),
    "softcon_vit": (ALL, {"heads": 3, "pooling": "cls"}),
    "dinov2_hub": (RGB, {"heads": 3, "pooling": "cls", "position_resize": "dinov2"}),
    "dinov2_registers": (RGB, {"heads": 3, "pooling": "cls"}),
    "timm_dinov2_registers": (RGB, {"heads": 3, "pooling": "cls"}),
    "moco_v2": (ALL, {}),
    "moco_v3": (RGB, {"heads": 3, "pooling": "cls"}),
    "dino_vit": (RGB, {"heads": 3, "pooling": "cls"}),
    "dino_resnet": (ALL, {}),
    "seco": (RGB, {}),
    "seco_resnet18": (RGB, {}),
    "ssl4eco": (TWELVE, {}),
    "decur": (ALL, {"part": "backbone_2"}),
    "decur_vit": (ALL, {"part": "backbone_2", "heads": 3, "pooling": "cls"}),
    "satclip_resnet": (ALL, {}),
    "satclip_resnet18": (ALL, {}),
    "satclip_vit": (ALL, {"heads": 3, "pooling": "cls"}),
    "augnet": (RGB, {}),
    "efficientnet_lite0": (RGB, {}),
    "efficientnet_lite1": (RGB, {}),
    "efficientnet_lite2": (RGB, {}),
    "unet_efficientnet_b4": (RGB, {}),
}
"""Layout to bands and arguments of `foreign.load`."""


def state_of(layout: str, seed: int = 0) -> dict[str, Tensor]:
    """Fill a tiny inventory with random numbers; repeated names share their tensors' values."""
    found = inventory(layout)
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}
    for key, shape in found.expand(found.tiny).items():
        if key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(7)
            continue
        made = torch.randn(shape, generator=generator) * 0.2
        state[key] = made.abs() + 0.5 if key.endswith("running_var") else made
    for key in [k for k in state if found.part(k) == "alias"]:
        state[key] = state[_meant(key)].clone()
    return state


def _meant(key: str) -> str:
    canonical = "encoder.vit.spec_vit."
    name = key.removeprefix("encoder.vit.")
    if "spectral_adapter" in name:
        return canonical + name.removeprefix("patch_embed.")
    name = name.removeprefix("vit_core.").replace("original_patch_embed.", "")
    return f"{canonical}vit_core.{name}"


def with_fixed_positions(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Put the formulas' tables where a pretraining file has them."""
    width = state["pos_embed"].shape[-1]
    side = math.isqrt(state["pos_embed"].shape[1] - 1)
    made = torch.cat([torch.zeros(1, width), sincos_2d(width, side, side)])
    state["pos_embed"] = made[None]
    if "channel_embed" in state:
        _, groups, share = state["channel_embed"].shape
        state["channel_embed"] = sincos_1d(share, torch.arange(groups).float())[None]
    return state


def identity(bands: dict[str, tuple[Band, ...]]) -> dict[str, Normalisation]:
    return {modality: Normalisation.identity(len(items)) for modality, items in bands.items()}


def converted(layout: str, state: dict[str, Tensor] | None = None, **changed: Any):
    """Load a tiny layout with its arguments."""
    bands, options = CASES[layout]
    return foreign.load(
        state_of(layout) if state is None else state,
        bands=bands,
        normalisation=identity(bands),
        **{**options, **changed},
    )
