"""Copernicus-FM: kernels made from wavelengths and bandwidths, positions from place, time and area.

The network is torchgeo's; here are the names of bands, masks and what is known of each sample.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fm.errors import UsageError, suggest
from fm.hardware import full_precision
from fm.models.backbone import Backbone
from fm.models.convolutional import filled_image
from fm.models.features import Features, pool
from fm.models.inputs import Inputs
from fm.models.intake import Intake
from fm.models.positions import resized_positions, sincos_2d
from fm.sensors import Band, wavelengths

LEARNED = {"lonlat": "coord", "area": "scale", "time": "time"}
"""What is known of a sample to the network's name for it."""
WAVELENGTHS_NM, BANDWIDTHS_NM, AREAS_KM2 = (1e2, 1e9), (1.0, 1e9), (1e-3, 5.1e8)
"""Ranges that the codes tell apart."""


class CopernicusFM(Backbone):
    """Copernicus-FM (Wang et al., arXiv 2503.11849) on the bands of one grid.

    The kernel of each band is generated from Fourier codes of its wavelength and its full width at
    half maximum in nanometres, so any bands come in, in any order; kernels of another size are
    resized by the pseudo-inverse (FlexiViT). To the codes of the places in the image are added one
    of longitude and latitude, one of the time in days and one of a token's ground in km². What is
    not known of a sample has a learned code, of that sample alone: the original drops it for the
    whole batch. Tokens begin one pixel up and left, as its convolution is padded by 1. Keys are
    its own under `net.`; its kernels of variables without a wavelength are left out.

    Args:
        intake: one group of one modality, at least 3 pixels to a token; each band with a
            wavelength and a width.
        width: D.
        depth: number of blocks.
        heads: attention heads.
        mlp_ratio: hidden width of the MLP over D.
        kernel: side in pixels of the kernels as they are generated.
        grid: tokens along one side of the table of positions.
        codes: length of a band's code, a multiple of 4.
        metadata: what is told to the network where it is known, of `lonlat`, `time`, `area`.
        pooling: `mean` of the valid tokens, normalised then, or the class token.
    """

    metric = True

    def __init__(
        self,
        intake: Intake,
        *,
        width: int,
        depth: int,
        heads: int,
        mlp_ratio: float = 4.0,
        kernel: int = 16,
        grid: int = 14,
        codes: int = 128,
        metadata: Sequence[str] = ("lonlat", "time", "area"),
        pooling: Literal["mean", "cls"] = "mean",
    ) -> None:
        super().__init__(intake)
        from torchgeo.models import CopernicusFM as Network  # here: it takes seconds

        self.member = intake.sole_member("Copernicus-FM", None)
        if self.member.patch < 3:
            raise UsageError(
                f"{self.member.modality}: tokens of {self.member.patch} px; Copernicus-FM, whose "
                f"convolution is padded, makes them of 3 and more"
            )
        if width % heads or width % 4 or codes % 4:
            raise UsageError(
                f"width {width} must be a multiple of 4 and of heads {heads}, codes {codes} of 4"
            )
        for kind in metadata:
            if kind not in LEARNED:
                raise UsageError(f"metadata: there is no {kind!r}; {suggest(kind, LEARNED)}")
        self.width, self.pooling, self.told = width, pooling, tuple(metadata)
        self.net: Any = Network(
            img_size=grid * kernel,
            patch_size=kernel,
            embed_dim=width,
            depth=depth,
            num_heads=heads,
            hyper_dim=codes,
            num_classes=0,
            global_pool=pooling == "mean",
            mlp_ratio=mlp_ratio,
        )
        del self.net.patch_embed_variable
        self.grid = grid
        self.net.pos_embed.data[0, 1:] = sincos_2d(width, grid, grid)
        for name in ("cls_token", *(f"{own}_token" for own in LEARNED.values())):
            nn.init.normal_(getattr(self.net, name), std=0.02)
        for name in LEARNED.values():  # ranges are checked here, in words
            getattr(self.net, f"{name}_expansion").assert_range = False
        for kind in ("central", "bandwidth"):
            codes_of = getattr(self.net.patch_embed_spectral, f"spectrum_{kind}_expansion")
            codes_of.assert_range = False
        spectrum(self.member.bands)

    def takes_other_bands(self, modality: str) -> bool:
        """Say that any bands with wavelengths and widths may come."""
        return modality == self.member.modality

    def block_modules(self) -> list[nn.Module]:
        """Return the transformer blocks."""
        return list(self.net.blocks)

    def _encode(self, inputs: Inputs, hidden: bool) -> Features:
        grids = self.grids(inputs.pixels)
        ((rows, columns),) = grids.values()
        net = self.net
        image, mask = filled_image(self.member, inputs)
        centres, widths = spectrum(inputs.bands[self.member.modality])
        with full_precision(image.device):
            tokens = net.patch_embed_spectral(
                image,
                wavelengths=torch.tensor(centres, device=image.device),
                bandwidths=torch.tensor(widths, device=image.device),
                kernel_size=self.member.patch,
            )
            known = self._known(inputs)
        table = resized_positions(net.pos_embed[0, 1:], rows, columns, "timm")
        first = net.cls_token + net.pos_embed[:, :1] + known
        x = torch.cat([first, tokens + table + known], dim=1)
        attend = None
        if mask is not None:
            attend = torch.cat([mask.new_ones(mask.shape[0], 1), mask], dim=1)[:, None, None, :]
        outputs = []
        for block in net.blocks:
            x = block(x, attn_mask=attend)
            if hidden:
                outputs.append(x)
        if self.pooling == "mean":
            pooled = net.fc_norm(pool(x[:, 1:], mask))
        else:
            x = net.norm(x)
            pooled = x[:, 0].float()
        return Features(
            tokens=x[:, 1:],
            pooled=pooled,
            grid=grids,
            hidden=tuple(step[:, 1:] for step in outputs),
            mask=mask,
            cls=tuple(step[:, 0] for step in outputs),
        )

    def _known(self, inputs: Inputs) -> Tensor:
        """Encode what is known of each sample: `[B, 1, D]`."""
        net, half = self.net, self.width // 2
        values: dict[str, Tensor] = {}
        if inputs.lonlat is not None:
            values["lonlat"] = inputs.lonlat
        if inputs.time is not None:
            values["time"] = inputs.time[:, None]
        if "area" in self.told:
            values["area"] = net.cls_token.new_full((inputs.size, 1), self._area(inputs))
        total = net.cls_token.new_zeros(inputs.size, 1, self.width)
        for kind, own in LEARNED.items():
            code = getattr(net, f"{own}_token").expand(inputs.size, -1, -1)
            if kind in self.told and kind in values:
                value = values[kind].to(device=code.device, dtype=torch.float64)
                known = torch.isfinite(value).all(dim=1)
                value = torch.where(known[:, None], value, 0.0)
                expand = getattr(net, f"{own}_expansion")
                if kind == "lonlat":
                    lon, lat = value.unbind(dim=1)
                    made = torch.cat([expand(lon + 180, half), expand(lat + 90, half)], dim=-1)
                else:
                    made = expand(value[:, 0] / (86400 if kind == "time" else 1), self.width)
                code = torch.where(known[:, None, None], made[:, None], code)
            total = total + getattr(net, f"{own}_fc")(code)
        return total

    def _area(self, inputs: Inputs) -> float:
        """Return the ground of a token in km²."""
        own = self.member.bands[0].gsd_m
        metres = (inputs.gsd or {}).get(self.member.modality, own)
        area = (self.member.patch * metres / 1000) ** 2
        if not AREAS_KM2[0] <= area <= AREAS_KM2[1]:
            raise UsageError(
                f"{self.member.modality}: tokens of {area:g} km², Copernicus-FM knows "
                f"{AREAS_KM2[0]:g} to {AREAS_KM2[1]:g}; leave `area` out of metadata"
            )
        return area


def spectrum(bands: Sequence[Band]) -> tuple[list[float], list[float]]:
    """Return wavelengths and full widths at half maximum of bands, nanometres.

    Raises:
        UsageError: a band without one of them, or beyond what the codes tell apart.
    """
    centres = list(wavelengths(bands))
    if missing := [band.name for band in bands if band.fwhm_nm is None]:
        raise UsageError(f"band {missing[0]!r} has no width (fwhm_nm), which Copernicus-FM needs")
    widths = [band.fwhm_nm for band in bands if band.fwhm_nm is not None]
    for what, values, (low, high) in (
        ("wavelength", centres, WAVELENGTHS_NM),
        ("width", widths, BANDWIDTHS_NM),
    ):
        for band, value in zip(bands, values, strict=True):
            if not low <= value <= high:
                raise UsageError(
                    f"band {band.name!r} has a {what} of {value:g} nm, Copernicus-FM knows "
                    f"{low:g} to {high:g}"
                )
    return centres, widths
