"""What `bench gpu` trains: masked autoencoders at published sizes, ours and in plain PyTorch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from bench.mae_baselines import SpectralEarthMAE
from bench.mae_plain import PlainMAE
from bench.mae_steps import normalisation
from fm.models import create_model
from fm.sensors import Band, sensor
from fm.sensors.enmap import bands_202
from pretrain.objectives.decoders import DecoderConfig
from pretrain.objectives.mae import MAE
from pretrain.objectives.masked import MAEConfig


@dataclass(frozen=True)
class Case:
    """One model on one kind of image.

    Attributes:
        title: in words.
        size: of the ViT.
        modality: of the images.
        bands: all on one grid.
        side: of the image in pixels.
        patch: side of a token in pixels.
        decoder: width, depth and heads.
        mask_ratio: share of hidden tokens.
        groups: group to band names; None of one group.
        code: width of the group's code, of the ViT and of the decoder.
        spectral: the adapter along the spectrum instead of one projection.
    """

    title: str
    size: str
    modality: str
    bands: tuple[Band, ...]
    side: int
    patch: int
    decoder: tuple[int, int, int] = (512, 8, 16)
    mask_ratio: float = 0.75
    groups: dict[str, list[str]] | None = None
    code: tuple[int, int] = (0, 0)
    spectral: bool = False

    def tiny(self) -> "Case":
        """Return the same of a size for any processor."""
        code = (32, 32) if self.groups else (0, 0)
        side = 4 * self.patch
        return replace(self, size="vit_nano", side=side, decoder=(64, 2, 4), code=code)


def _at_10_m(names: Sequence[str] | None = None) -> tuple[Band, ...]:
    """Return Sentinel-2's bands on one grid of 10 m, as published models take them."""
    l1c = sensor("sentinel2-l1c")
    chosen = l1c.bands if names is None else l1c.select(names)
    return tuple(
        Band(b.name, b.wavelength_nm, b.fwhm_nm, 10.0, b.unit, None, "s2l1c_10") for b in chosen
    )


GROUPS = {
    "g0": ["B02", "B03", "B04", "B08"],
    "g1": ["B05", "B06", "B07", "B8A"],
    "g2": ["B11", "B12"],
}
TEN = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")


def sentinel2(size: str, title: str) -> tuple[Case, Case]:
    """Return MAE on 13 bands (224 pixels, tokens of 16) and on ten in SatMAE's three groups."""
    whole = Case(f"{title}, 13 bands", size, "s2l1c_10", _at_10_m(), 224, 16)
    grouped = Case(
        f"{title}, 10 bands in 3 groups",
        size,
        "s2l1c_10",
        _at_10_m(TEN),
        96,
        8,
        groups=GROUPS,
        code=(256, 128),
    )
    return whole, grouped


def spectral(size: str, title: str) -> Case:
    """Return SpectralEarth's masked autoencoder on 202 bands."""
    return Case(
        title, size, "enmap_30", bands_202(), 128, 4, (512, 1, 16), mask_ratio=0.9, spectral=True
    )


def objective(case: Case, kind: str = "joint", predict: float = 1.0) -> MAE:
    """Return our objective of a case."""
    bands = {case.modality: case.bands}
    options: dict[str, Any] = {"tokenizer": "spectral_adapter"} if case.spectral else {}
    if case.groups is not None:
        options = {"token_groups": case.groups, "group_code_width": case.code[0]}
    backbone = create_model(
        case.size,
        bands=bands,
        token_m=case.patch * case.bands[0].gsd_m,
        normalisation=normalisation(bands),
        **options,
    )
    width, depth, heads = case.decoder
    decoder = {"kind": kind, "width": width, "depth": depth, "heads": heads, "predict": predict}
    if case.groups is not None:
        decoder["group_code_width"] = case.code[1]
    return MAE(
        backbone,
        MAEConfig(
            mask_ratio=case.mask_ratio,
            mask="flat" if case.groups else "group",
            target="token",
            decoder=DecoderConfig.model_validate(decoder),
        ),
    )


def plain(case: Case) -> nn.Module:
    """Return the plain side of a case."""
    trunk = objective(case).backbone.architecture
    sizes = {key: trunk[key] for key in ("width", "depth", "heads")}
    common = {"patch": case.patch, "mask_ratio": case.mask_ratio, **sizes}
    if case.spectral:
        width, _, heads = case.decoder
        return SpectralEarthMAE(len(case.bands), case.side, decoder=(width, heads), **common)
    names = [band.name for band in case.bands]
    groups = case.groups or {"all": names}
    numbers = [[names.index(name) for name in group] for group in groups.values()]
    return PlainMAE(numbers, case.side, decoder=case.decoder, code=case.code, **common)
