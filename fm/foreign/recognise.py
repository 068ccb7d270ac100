"""Which family a state dict is of, and what its shapes say."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fm.errors import FMError
from fm.foreign.inventory import inventory, layouts
from fm.foreign.shapes import (
    State,
    count,
    dims,
    has,
    has_groups,
    has_trunk,
    is_efficientnet,
    is_less,
    is_plain,
    is_scale_mae,
    is_spectral,
    read_croma,
    read_dofa,
    read_efficientnet,
    read_galileo,
    read_groups,
    read_indexed,
    read_less,
    read_panopticon,
    read_presto,
    read_resnet,
    read_spectral,
    read_spectral_resnet,
    read_temporal,
    read_vit,
    shape_of,
)


@dataclass(frozen=True)
class Recognised:
    """What a file says of itself.

    Attributes:
        family: a name of `FAMILIES`.
        numbers: architecture read from shapes (`width`, `depth`, `patch`, `channels`, ...).
        unsaid: what the file cannot say and the caller must (arguments of `fm.foreign.load`).
        convertible: eofm has the architecture.
        notes: what to know before using it.
    """

    family: str
    numbers: Mapping[str, Any]
    unsaid: tuple[str, ...]
    convertible: bool = True
    notes: tuple[str, ...] = field(default=())

    def text(self) -> str:
        """Write a few lines a person reads."""
        lines = [f"family: {self.family} ({FAMILIES[self.family].title})"]
        lines += [f"  {key}: {value}" for key, value in self.numbers.items()]
        if self.unsaid:
            lines.append(f"not in the file, give: {', '.join(self.unsaid)}")
        lines += [f"note: {note}" for note in self.notes]
        if not self.convertible:
            lines.append("eofm recognises this family and does not convert it")
        return "\n".join(lines)


@dataclass(frozen=True)
class Signature:
    """How a family is told from its keys."""

    title: str
    test: Callable[[State], bool]
    read: Callable[[State], dict[str, Any]]
    unsaid: tuple[str, ...]
    convertible: bool = True
    notes: tuple[str, ...] = ()


def recognise(state: State, where: str = "the state") -> Recognised:
    """Tell the family of a state dict (specification, section 6).

    Args:
        state: key to tensor, wrapping prefixes taken off.
        where: the file, for errors.

    Raises:
        FMError: no family's signature fits (says which layout is nearest and how many keys it
            shares), or several do.
    """
    found = [name for name, signature in FAMILIES.items() if _fits(signature, state)]
    if len(found) > 1:
        shares = ", ".join(f"{n} ({_share(state, n)} of {len(state)} keys)" for n in found)
        raise FMError(f"{where}: the keys fit several families: {shares}; save one model alone")
    if not found:
        best = max(
            layouts(),
            key=lambda name: (_share(state, name), FAMILIES[inventory(name).family].convertible),
        )
        shown = ", ".join(list(state)[:3]) + (", ..." if len(state) > 3 else "")
        raise FMError(
            f"{where}: no known family ({len(state)} keys: {shown}); nearest is {best}, which "
            f"shares {_share(state, best)} of them"
        )
    signature = FAMILIES[found[0]]
    with whole(found[0], where):
        numbers = signature.read(state)
    return Recognised(
        found[0],
        numbers,
        signature.unsaid,
        signature.convertible,
        signature.notes,
    )


def _fits(signature: Signature, state: State) -> bool:
    try:
        return signature.test(state)
    except IndexError:  # a tensor of fewer axes than the family's
        return False


@contextlib.contextmanager
def whole(family: str, where: str) -> Iterator[None]:
    """Turn what reading the sizes of a state stumbles over into one line.

    Args:
        family: it was recognised as.
        where: the file.

    Raises:
        FMError: a tensor that tells them is missing, or has other axes.
    """
    try:
        yield
    except FMError:
        raise
    except (LookupError, ArithmeticError, RuntimeError, TypeError, ValueError) as error:
        missing = f"{error} is missing" if isinstance(error, KeyError) else "odd numbers of axes"
        raise FMError(
            f"{where}: not a whole {family}: its sizes cannot be told ({missing}); nothing was "
            f"loaded"
        ) from None


def _share(state: State, name: str) -> int:
    """Count the keys that a layout knows."""
    if name not in layouts():
        return 0
    layout = inventory(name)
    return sum(layout.known(key) for key in state)


_VIT = ("bands", "normalisation", "heads")

FAMILIES: dict[str, Signature] = {
    "vit": Signature(
        "MAE, SatMAE RGB, timm, DINOv2, SSL4EO, SoftCon",
        lambda s: is_plain(s) and not has(s, "up_block") and not is_scale_mae(s),
        read_vit,
        _VIT,
        notes=("Scale-MAE's encoder alone looks the same: give family='scale_mae' if it is one",),
    ),
    "scale_mae": Signature(
        "Scale-MAE",
        lambda s: is_plain(s) and is_scale_mae(s),
        read_vit,
        (*_VIT, "reference_gsd_m"),
    ),
    "satmaepp_rgb": Signature(
        "SatMAE++ RGB",
        lambda s: is_plain(s) and has(s, "up_block"),
        read_vit,
        (*_VIT, "channel_order"),
        notes=("users found the released pretrained weights to expect B, G, R",),
    ),
    "satmae_group": Signature(
        "SatMAE group_c, and fine-tuned SatMAE++ (the same layout)",
        lambda s: has_groups(s) and has_trunk(s) and not has(s, "up_block1"),
        read_groups,
        (*_VIT, "token_groups"),
    ),
    "satmaepp_group": Signature(
        "SatMAE++ group_c",
        lambda s: has_groups(s) and has_trunk(s) and has(s, "up_block1"),
        read_groups,
        (*_VIT, "token_groups"),
    ),
    "satmae_temporal": Signature(
        "SatMAE temporal",
        lambda s: (
            dims(s, "patch_embed.proj.weight") == 4
            and has_trunk(s)
            and "channel_embed" not in s
            and dims(s, "pos_embed") == 3
            and shape_of(s, "pos_embed")[-1] < shape_of(s, "cls_token")[-1]
        ),
        read_temporal,
        _VIT,
        notes=("the code of the time takes year - 2002, month - 1 and hour, as its release does",),
    ),
    "spectral_vit": Signature(
        "SpectralEarth ViT",
        lambda s: is_spectral(s, "vit_core."),
        read_spectral,
        _VIT,
    ),
    "spectral_resnet": Signature(
        "SpectralEarth ResNet-50",
        lambda s: is_spectral(s, "resnet."),
        read_spectral_resnet,
        ("bands", "normalisation"),
    ),
    "less_v1": Signature(
        "LESS ViT v1",
        lambda s: is_less(s, inner=False),
        read_less,
        ("bands", "normalisation", "perception_m"),
        notes=("no weights of LESS ViT were ever released",),
    ),
    "less_v2": Signature(
        "LESS ViT v2",
        lambda s: is_less(s, inner=True),
        read_less,
        ("bands", "normalisation", "perception_m", "wavelength_range_nm (rotary codes)"),
        notes=("no weights of LESS ViT were ever released",),
    ),
    "dofa": Signature(
        "DOFA",
        lambda s: "patch_embed.weight_generator.weight_tokens" in s and has_trunk(s),
        read_dofa,
        (*_VIT, "layer"),
        notes=("weights from before the kernels' order was corrected need another layer: v1",),
    ),
    "croma": Signature(
        "CROMA",
        lambda s: has(s, "s2_encoder.transformer.layers.") or has(s, "s1_encoder.transformer."),
        read_croma,
        _VIT,
    ),
    "copernicus_fm": Signature(
        "Copernicus-FM",
        lambda s: has(s, "patch_embed_spectral.") and has(s, "patch_embed_variable."),
        lambda s: read_dofa(s, "patch_embed_spectral"),
        _VIT,
        notes=("kernels of variables without a wavelength are left out",),
    ),
    "panopticon": Signature(
        "Panopticon",
        lambda s: "patch_embed.conv3d.conv3d.weight" in s and has_trunk(s),
        read_panopticon,
        _VIT,
    ),
    "resnet": Signature(
        "ResNet (timm, torchvision, torchgeo)",
        lambda s: "conv1.weight" in s and "layer1.0.conv1.weight" in s and "bn1.weight" in s,
        read_resnet,
        ("bands", "normalisation"),
    ),
    "indexed_resnet": Signature(
        "ResNet with numbers for names (SeCo, CACo, SSL4Eco)",
        lambda s: dims(s, "0.weight") == 4 and "1.running_mean" in s and "4.0.conv1.weight" in s,
        read_indexed,
        ("bands", "normalisation"),
    ),
    "galileo": Signature(
        "Galileo",
        lambda s: has(s, "space_time_embed.") and "s_t_channel_embed" in s,
        read_galileo,
        _VIT,
        notes=("a series of groups of bands by name, over space, time, both or neither",),
    ),
    "presto": Signature(
        "Presto",
        lambda s: has(s, "encoder.eo_patch_embed.") and "encoder.latlon_embed.weight" in s,
        read_presto,
        _VIT,
        notes=("a pixel's series: Sentinel-1, Sentinel-2, weather and terrain by name",),
    ),
    "efficientnet": Signature(
        "EfficientNet (efficientnet_pytorch, U-Nets of segmentation_models_pytorch)",
        lambda s: is_efficientnet(s, squeeze=True),
        read_efficientnet,
        ("bands", "normalisation"),
    ),
    "efficientnet_lite": Signature(
        "EfficientNet-Lite (efficientnet_lite_pytorch)",
        lambda s: is_efficientnet(s, squeeze=False),
        read_efficientnet,
        ("bands", "normalisation"),
    ),
    "geoclip": Signature(
        "GeoCLIP location encoder",
        lambda s: dims(s, "LocEnc0.capsule.0.b") == 2,
        lambda s: {
            "branches": count(s, r"LocEnc(\d+)\."),
            "width": shape_of(s, "LocEnc0.capsule.1.weight")[0],
            "dim": shape_of(s, "LocEnc0.head.0.weight")[0],
        },
        (),
        convertible=False,
        notes=(
            "a location encoder, no backbone: fm models pull geoclip --from FILE, or "
            "fm.location.geoclip(FILE)",
        ),
    ),
}
