"""A folder that `timm.create_model('local-dir:FOLDER', pretrained=True)` loads."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fm.card import Card
from fm.errors import UsageError
from fm.export.graph import Signature
from fm.export.verify import agreement
from fm.export.written import Settings, Written
from fm.files import write_json
from fm.models import Backbone, VisionTransformer
from fm.models.efficientnet import EfficientNet
from fm.models.embed.linear import LinearEmbed
from fm.models.layout import Member
from fm.models.plain_resnet import PlainResNet
from fm.models.positions import sincos_2d
from fm.normalize import CLIPPED
from fm.tensors import Weights, write_tensors

TOLERANCE = 1e-5
WEIGHTS, CONFIG = "model.safetensors", "config.json"


def only_member(model: Backbone, what: str) -> Member:
    """Return the one member of a model with one array in.

    Raises:
        UsageError: there are several, or it takes some of its modality's bands.
    """
    members = [member for group in model.groups.values() for member in group.members]
    if len(members) != 1 or members[0].channels is not None:
        names = ", ".join(member.modality for member in members)
        raise UsageError(
            f"{what} takes one array of one grid; the model takes {names}; export it to "
            f"torch-export or onnx"
        )
    return members[0]


def why_not_plain(model: VisionTransformer) -> str | None:
    """Say what of a ViT a plain one has not; None when it is plain."""
    kinds = model.architecture.get("tokenizer", "linear")
    names = {kinds} if isinstance(kinds, str) else set(kinds.values())
    if names != {"linear"}:
        return f"the tokenizer {', '.join(sorted(names))}"
    if model.bases():
        return "a spectral basis"
    if model.positions == "metres":
        return "positions in metres"
    if model.metadata is not None:
        return "metadata tokens"
    if model.time_code_width is not None:
        return "codes of time"
    if model.group_code_width is not None:
        return "codes of groups"
    if len(model.groups) > 1:
        return f"{len(model.groups)} token groups"
    return None


def plain_vit(
    model: VisionTransformer, tokens: tuple[int, int] | None, what: str
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return a ViT under timm's keys, and the arguments that timm builds it with.

    Args:
        model: the ViT.
        tokens: rows and columns that its fixed codes are made for.
        what: the format, for errors.

    Raises:
        UsageError: the model is no plain ViT, or the size is missing or not the table's.
    """
    if (reason := why_not_plain(model)) is not None:
        raise UsageError(f"{what} has no place for {reason}; export to torch-export or onnx")
    member = only_member(model, what)
    (group,) = model.groups
    embed = model.embedding(group).member_tokenizer(member.modality)
    assert isinstance(embed, LinearEmbed)
    patch, channels = member.patch, len(member.bands)
    if model.pos_embed is not None:
        side = math.isqrt(model.pos_embed.shape[1] - 1)
        if tokens not in (None, (side, side)):
            raise UsageError(
                f"{what}: the table of positions is for {side}x{side} tokens; leave --tokens out"
            )
        grid = (side, side)
        first, table = model.pos_embed[:, :1], model.pos_embed[:, 1:]
    elif tokens is None:
        raise UsageError(f"{what} holds codes of one image size; give it: --tokens ROWSxCOLUMNS")
    else:
        grid = tokens
        first, table = torch.zeros(1, 1, model.width), sincos_2d(model.width, *grid)[None]
    state = {
        key: value
        for key, value in model.state_dict().items()
        if key.startswith(("blocks.", "norm.", "reg_token"))
    }
    if model.pre_pool_norm:
        state = {
            f"fc_{key}" if key.startswith("norm.") else key: value for key, value in state.items()
        }
    state["cls_token"] = model.cls_token + first
    state["pos_embed"] = table
    state["patch_embed.proj.weight"] = embed.proj.weight.unflatten(1, (channels, patch, patch))
    state["patch_embed.proj.bias"] = embed.proj.bias
    options = model.architecture
    arguments = {
        "img_size": [grid[0] * patch, grid[1] * patch],
        "patch_size": patch,
        "in_chans": channels,
        "embed_dim": model.width,
        "depth": model.depth,
        "num_heads": options["heads"],
        "mlp_ratio": options["mlp_ratio"],
        "init_values": options["layer_scale"] or None,
        "reg_tokens": options["registers"],
        "no_embed_class": True,
        "global_pool": "avg" if model.pooling == "mean" else "token",
        "fc_norm": model.pre_pool_norm,
        "num_classes": 0,
    }
    return {key: value.detach().clone() for key, value in state.items()}, arguments


def plain_resnet(model: PlainResNet) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return a ResNet under timm's keys, and the arguments that timm builds it with."""
    options = model.architecture
    arguments = {
        "in_chans": len(model.member.bands),
        "layers": list(options["blocks"]),
        "channels": [options["planes"] * 2**i for i in range(4)],
        "global_pool": "avg",
        "num_classes": 0,
    }
    return dict(model.resnet.state_dict()), arguments


def plain_efficientnet(model: EfficientNet) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return an EfficientNet under timm's keys, and the arguments that timm builds it with.

    Raises:
        UsageError: an encoder of a U-Net, of which timm has neither the end nor the padding.
    """
    options = model.architecture
    if not options["head"] or options["padded_for"] is not None:
        raise UsageError(
            "timm has no place for an EfficientNet of a U-Net, without its last convolution or "
            "padded for one image size; export to torch-export or onnx"
        )
    arguments = {"in_chans": len(model.member.bands), "global_pool": "avg", "num_classes": 0}
    return dict(model.net.state_dict()), arguments


def _architecture(model: Backbone) -> str:
    """Return the name under which timm builds the family; arguments make it the model's size."""
    from timm import is_model

    if isinstance(model, EfficientNet):
        return f"tf_efficientnet_{model.architecture['variant']}"
    _, _, size = model.architecture["name"].rpartition("_")
    if isinstance(model, PlainResNet):
        return "resnet50" if model.architecture["bottleneck"] else "resnet18"
    name = f"vit_{size}_patch16_224"
    return name if is_model(name) else "vit_base_patch16_224"


def mean_and_std(model: Backbone, member: Member) -> tuple[list[float], list[float], bool]:
    """Return what is subtracted and divided by, physical units, and whether [0, 1] is clipped."""
    normal = model.normalisation[member.modality]
    return list(normal.shift), list(normal.scale), normal.kind in CLIPPED


def normalised(model: Backbone, member: Member, pixels: Tensor) -> Tensor:
    """Return physical pixels `[B, C, H, W]` as timm's models want them: by the numbers we tell."""
    mean, std, clipped = mean_and_std(model, member)
    shift, scale = (torch.tensor(numbers)[:, None, None] for numbers in (mean, std))
    values = (pixels - shift) / scale
    return values.clamp(0, 1) if clipped else values


def write(aside: Path, model: Backbone, card: Card, settings: Settings) -> Written:
    """Write `config.json` and weights, and compare what timm makes of them with ours."""
    import timm

    what = "timm"
    if isinstance(model, PlainResNet | EfficientNet):
        if settings.tokens is not None:
            raise UsageError("timm's convolutional networks take any size; leave --tokens out")
        member = model.member
        side = 7 * member.patch
        size, fixed = [len(member.bands), side, side], False
        if isinstance(model, PlainResNet):
            state, arguments = plain_resnet(model)
            stem = {"first_conv": "conv1", "classifier": "fc"}
        else:
            state, arguments = plain_efficientnet(model)
            stem = {"first_conv": "conv_stem", "classifier": "classifier"}
    elif isinstance(model, VisionTransformer):
        state, arguments = plain_vit(model, settings.tokens, what)
        member = only_member(model, what)
        size, fixed = [len(member.bands), *arguments["img_size"]], True
        stem = {"first_conv": "patch_embed.proj", "classifier": "head"}
    else:
        raise UsageError(
            f"timm has no {model.architecture.get('name')}; export it to torch-export or onnx"
        )
    mean, std, clipped = mean_and_std(model, member)
    about: Mapping[str, Any] = {
        "modality": member.modality,
        "bands": [band.name for band in member.bands],
        "wavelength_nm": [band.wavelength_nm for band in member.bands],
        "unit": ", ".join(sorted({band.unit for band in member.bands})),
        "gsd_m": member.bands[0].gsd_m,
        "clip": [0.0, 1.0] if clipped else None,
    }
    config = {
        "architecture": _architecture(model),
        "num_classes": 0,
        "num_features": model.width,
        "global_pool": arguments["global_pool"],
        "model_args": arguments,
        "pretrained_cfg": {
            "tag": card.name,
            "custom_load": False,
            "input_size": size,
            "fixed_input_size": fixed,
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            "mean": mean,
            "std": std,
            "num_classes": 0,
            "license": card.licence,
            **stem,
        },
        "eofm": about,
    }
    write_json(aside / CONFIG, config)
    write_tensors(aside / WEIGHTS, Weights.of(state))
    theirs = timm.create_model(f"local-dir:{aside}", pretrained=True).eval()
    rows = []
    for number, batch in enumerate((1, 3)):
        sample = _sample(model, member, batch, size[1:], number)
        with torch.no_grad():
            rows += agreement(
                {"pooled": model.encode({member.modality: sample}).pooled},
                {"pooled": theirs(normalised(model, member, sample))},
                on=f"{batch} x {size[1]}x{size[2]} px, seed {number}",
                tolerance=TOLERANCE if settings.tolerance is None else settings.tolerance,
                what=what,
            )
    use = (
        "import timm\nimport torch\n\n"
        'model = timm.create_model("local-dir:FOLDER", pretrained=True).eval()  # this folder\n'
        'mean, std = model.pretrained_cfg["mean"], model.pretrained_cfg["std"]\n'
        "mean, std = (torch.tensor(x)[:, None, None] for x in (mean, std))\n"
        f"pixels = torch.zeros(1, {size[0]}, {size[1]}, {size[2]})\n"
        f"features = model((pixels - mean) / std{'.clamp(0, 1)' if clipped else ''})\n"
    )
    clip = ", then clip to 0 to 1" if clipped else ""
    notes = [
        f"Channels are {', '.join(band.name for band in member.bands)} of {member.modality}, "
        f"{about['unit']}, {about['gsd_m']:g} m.",
        f"timm's models do not normalise: subtract `mean` and divide by `std` of `config.json`, "
        f"which are physical{clip}.",
        f"Stored integers become physical by x {model.scaling[member.modality][0]:g} + "
        f"{model.scaling[member.modality][1]:g}.",
    ]
    if fixed:
        notes.append(f"The image size is {size[1]}x{size[2]} px; positions are made for it.")
    return Written(rows, use, notes, {"inputs": dict(about)})


def _sample(model: Backbone, member: Member, batch: int, size: list[int], seed: int) -> Tensor:
    tokens = size[0] // member.patch, size[1] // member.patch
    signature = Signature.of(model, "physical", tokens=tokens)
    return signature.sample(batch, tokens, seed)[member.modality]
