"""The backbones that the conformance suite runs on: one line for each.

A new family, tokenizer or option of a ViT adds its line here; `test_members.py` fails without it.
What a line declares (flexible, least number of bands, metric) is held against the member by the
tests.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fm.models import Backbone, Features, create_model
from fm.models.embed import Moments
from fm.normalize import Normalisation
from fm.sensors import Band, sensor

SMALL = {"width": 32, "depth": 1, "heads": 2}
SATMAE_GROUPS = {
    "ten": ("B02", "B03", "B04", "B08"),
    "twenty": ("B05", "B06", "B07", "B8A", "B11", "B12"),
    "sixty": ("B01", "B09", "B10"),
}


@dataclass(frozen=True)
class Case:
    """One backbone, small enough for a test.

    Attributes:
        name: of `create_model`.
        options: of `create_model`.
        sensor: whose bands it takes.
        token_m: ground size of a token, metres.
        token_groups: as `create_model`.
        flexible: takes bands it was not built with, on every modality.
        minimum_bands: fewer are refused.
        named: bands of other names are.
        metric: takes images of other sampling distances.
        rows: token rows of a test image.
        columns: token columns of a test image.
        images: of a test sample that is a series; None for single images.
        embedding: what holds every parameter that touches pixels.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=lambda: SMALL)
    sensor: str = "sentinel2-l1c"
    token_m: float = 120
    token_groups: Mapping[str, tuple[str, ...]] | None = None
    flexible: bool = False
    minimum_bands: int = 1
    named: bool = False
    metric: bool = False
    rows: int = 2
    columns: int = 3
    images: int | None = None
    embedding: Callable[[Backbone], nn.Module] = lambda model: model.get_submodule("patch_embed")

    def build(self, bands: Mapping[str, tuple[Band, ...]] | None = None) -> Backbone:
        """Build it in `eval()` with the weights of seed 0, for `bands` or the sensor's.

        A spectral basis is fitted to smooth random spectra.
        """
        torch.manual_seed(0)
        taken = dict(sensor(self.sensor).modalities) if bands is None else bands
        zscore = {
            m: Normalisation("zscore", (0.5,) * len(b), (0.3,) * len(b)) for m, b in taken.items()
        }
        model = create_model(
            self.name,
            bands=taken,
            token_m=self.token_m,
            token_groups=self.token_groups,
            normalisation=zscore if "basis" in self.options else None,
            **self.options,
        )
        for number, (member, basis) in enumerate(model.bases()):
            noise = np.random.default_rng(number).normal(size=(2000, len(member.bands)))
            spectra = noise.cumsum(axis=1) + 3.0 * noise
            basis.fit(Moments.of((spectra - spectra.mean(axis=0)) / spectra.std(axis=0)))
        return model.eval()

    @property
    def modality(self) -> str:
        """The first modality of the sensor."""
        return next(iter(sensor(self.sensor).modalities))

    def pixels(self, model: Backbone, batch: int = 3, seed: int = 1) -> dict[str, Tensor]:
        """Make physical pixels of all modalities, uniform in [0, 1]."""
        generator = torch.Generator().manual_seed(seed)
        patch = {m.modality: m.patch for g in model.groups.values() for m in g.members}
        first = (batch,) if self.images is None else (batch, self.images)
        return {
            modality: torch.rand(
                (*first, len(bands), self.rows * patch[modality], self.columns * patch[modality]),
                generator=generator,
            )
            for modality, bands in model.bands.items()
        }

    def times(self, batch: int) -> Tensor | None:
        """Return the times of the images of each sample, five months apart."""
        if self.images is None:
            return None
        return (1.5e9 + 1.3e7 * torch.arange(self.images, dtype=torch.float64)).repeat(batch, 1)

    def encode(self, model: Backbone, pixels: Mapping[str, Tensor], **told: Any) -> Features:
        """Encode pixels; series with their times."""
        batch = len(next(iter(pixels.values())))
        return model.encode(pixels, **{"times": self.times(batch), **told})


BACKBONES: dict[str, Case] = {
    "vit-linear": Case("vit_nano"),
    "vit-groups": Case(
        "vit_nano", {**SMALL, "group_code_width": 8}, token_groups=SATMAE_GROUPS, token_m=120
    ),
    "vit-metres": Case("vit_nano", {**SMALL, "positions": "metres"}, metric=True),
    "vit-learned": Case("vit_nano", {**SMALL, "positions": "learned", "grid": 3, "pooling": "cls"}),
    "vit-registers": Case(
        "vit_nano",
        {
            **SMALL,
            "positions": "learned",
            "grid": 3,
            "position_resize": "dinov2",
            "registers": 2,
        },
    ),
    "vit-times": Case("vit_nano", {**SMALL, "time_code_width": 12}, images=2),
    "vit-metadata": Case("vit_nano", {**SMALL, "metadata": ("lonlat", "time"), "layer_scale": 1.0}),
    "vit-spectral_adapter": Case(
        "vit_nano",
        {**SMALL, "tokenizer": "spectral_adapter"},
        sensor="aviris-indian-pines",
        token_m=40,
        minimum_bands=75,
    ),
    "vit-adapter-batch": Case(
        "vit_nano",
        {**SMALL, "tokenizer": "spectral_adapter", "tokenizer_options": {"norm": "batch"}},
        sensor="aviris-indian-pines",
        token_m=40,
        minimum_bands=75,
    ),
    "spectral_resnet": Case(
        "spectral_resnet_50",
        {"blocks": (1, 1, 1, 1), "planes": 4},
        sensor="aviris-indian-pines",
        token_m=320,
        minimum_bands=75,
        embedding=lambda model: model.get_submodule("spectral_adapter"),
    ),
    "vit-generator": Case(
        "vit_nano",
        {**SMALL, "tokenizer": "generator"},
        sensor="aviris-indian-pines",
        token_m=40,
        flexible=True,
    ),
    "vit-tied": Case(
        "vit_nano",
        {**SMALL, "tokenizer": "tied"},
        sensor="aviris-indian-pines",
        token_m=40,
        flexible=True,
    ),
    "vit-channel_attention": Case(
        "vit_nano",
        {**SMALL, "tokenizer": "channel_attention", "tokenizer_options": {"heads": 4}},
        sensor="aviris-indian-pines",
        token_m=40,
        flexible=True,
    ),
    "vit-basis": Case(
        "vit_nano",
        {**SMALL, "basis": {"aviris": {}}},
        sensor="aviris-indian-pines",
        token_m=40,
        flexible=True,
    ),
    "vit-learned-groups": Case(
        "vit_nano",
        {**SMALL, "group_code_width": 8, "positions": "learned", "grid": 3},
        token_groups=SATMAE_GROUPS,
    ),
    "resnet": Case(
        "resnet_18",
        {"blocks": (1, 1, 1, 1), "planes": 4},
        sensor="aviris-indian-pines",
        token_m=640,
        embedding=lambda model: model.get_submodule("resnet.conv1"),
    ),
    "copernicus": Case(
        "copernicus_nano",
        {**SMALL, "kernel": 6, "grid": 3, "codes": 16, "metadata": ("lonlat", "time", "area")},
        sensor="aviris-indian-pines",
        token_m=120,
        flexible=True,
        metric=True,
        embedding=lambda model: model.get_submodule("net.patch_embed_spectral"),
    ),
    "presto": Case(
        "presto_base",
        {"width": 32, "depth": 2, "heads": 2, "longest": 4},
        sensor="sentinel1-grd",
        token_m=10,
        named=True,
        images=3,
        embedding=lambda model: model.get_submodule("eo_patch_embed"),
    ),
    "galileo": Case(
        "galileo_nano",
        {"width": 32, "depth": 2, "heads": 2, "kernel": 4, "longest": 4},
        sensor="sentinel1-grd",
        token_m=30,
        named=True,
        metric=True,
        images=3,
        embedding=lambda model: model.get_submodule("space_time_embed"),
    ),
    "efficientnet": Case(
        "efficientnet_lite0",
        {},
        sensor="aviris-indian-pines",
        token_m=640,
        embedding=lambda model: model.get_submodule("net.conv_stem"),
    ),
    "towers": Case(
        "towers_vit_nano",
        {"tower_options": SMALL},
        token_groups=SATMAE_GROUPS,
        embedding=lambda model: nn.ModuleList(
            model.get_submodule(f"towers.{name}.patch_embed") for name in SATMAE_GROUPS
        ),
    ),
    "towers-resnet": Case(
        "towers_resnet_18",
        {"tower_options": {"blocks": (1, 1, 1, 1), "planes": 4}},
        sensor="aviris-indian-pines",
        token_m=640,
        embedding=lambda model: model.get_submodule("towers.aviris.resnet.conv1"),
    ),
    "croma": Case("croma_base", {"width": 32, "depth": 2, "heads": 2}),
    "less-rope": Case("less_nano", {**SMALL, "finer_frequencies": True}, flexible=True),
    "less-sum": Case(
        "less_nano",
        {**SMALL, "codes": "sum", "aggregation": "sum", "rank": 2, "perception_m": 130},
        flexible=True,
        metric=True,
    ),
    "less-pooled": Case(
        "less_nano",
        {**SMALL, "mlp": "pooled", "pool": "full", "pooling": "cls"},
        flexible=True,
    ),
}
