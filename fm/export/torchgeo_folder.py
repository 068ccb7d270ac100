"""Weights that torchgeo's own models load: its enum, transforms and meta, from a folder."""

import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fm.card import Card
from fm.errors import UsageError
from fm.export.graph import Graph, Signature
from fm.export.single_file import loaded
from fm.export.task import outputs
from fm.export.timm_folder import mean_and_std, only_member, plain_resnet, plain_vit
from fm.export.verify import agreement
from fm.export.written import Settings, Written
from fm.files import write_json
from fm.models import Backbone, VisionTransformer
from fm.models.plain_resnet import PlainResNet

LOADER = "eofm_weights.py"
TOLERANCE = 1e-5
RESNETS = {
    ((2, 2, 2, 2), False): "resnet18",
    ((3, 4, 6, 3), True): "resnet50",
    ((3, 8, 36, 3), True): "resnet152",
}
"""Blocks and whether they are bottlenecks, to torchgeo's function; all with 64 planes."""
VITS = {
    (384, 12, 6, 16): "vit_small_patch16_224",
    (768, 12, 12, 16): "vit_base_patch16_224",
    (1024, 24, 16, 16): "vit_large_patch16_224",
    (1280, 32, 16, 14): "vit_huge_patch14_224",
}
"""Width, depth, heads and pixels of a token, to torchgeo's function; images of 224 pixels."""
SIDE = 224


def _resnet(model: PlainResNet) -> tuple[str, dict[str, Tensor], dict[str, Any]]:
    options = model.architecture
    name = RESNETS.get((tuple(options["blocks"]), options["bottleneck"]))
    if name is None or options["planes"] != 64:
        raise UsageError(
            f"torchgeo has no ResNet of blocks {list(options['blocks'])} and {options['planes']} "
            f"planes, only {', '.join(RESNETS.values())}; export it to timm"
        )
    state, _ = plain_resnet(model)
    return name, state, {"num_classes": 0}


def _vit(model: VisionTransformer) -> tuple[str, dict[str, Tensor], dict[str, Any]]:
    options, member = model.architecture, only_member(model, "torchgeo")
    name = VITS.get((model.width, model.depth, options["heads"], member.patch))
    grid = (SIDE // member.patch,) * 2
    state, arguments = plain_vit(model, None if model.pos_embed is not None else grid, "torchgeo")
    plain = not (options["registers"] or options["layer_scale"] or model.pre_pool_norm)
    fits = arguments["img_size"] == [SIDE, SIDE] and options["mlp_ratio"] == 4.0
    if name is None or not (plain and fits):
        raise UsageError(
            f"torchgeo has no such ViT, only {', '.join(VITS.values())} without registers, "
            f"LayerScale or a norm behind the pooling; export it to timm"
        )
    zero = torch.zeros(1, 1, model.width)
    state["pos_embed"] = torch.cat([zero, state["pos_embed"]], dim=1)
    kept = ("global_pool", "fc_norm", "num_classes")
    return name, state, {key: arguments[key] for key in kept}


def write(aside: Path, model: Backbone, card: Card, settings: Settings) -> Written:
    """Write weights, meta and the enum, and compare what torchgeo's model gives with ours."""
    import torchgeo.models

    if isinstance(model, PlainResNet):
        (name, state, kwargs), member = _resnet(model), model.member
    elif isinstance(model, VisionTransformer):
        (name, state, kwargs), member = _vit(model), only_member(model, "torchgeo")
    else:
        raise UsageError(
            f"torchgeo's enums hold ResNets and ViTs, not {model.architecture.get('name')}; "
            f"export it to torch-export or onnx"
        )
    tokens = (SIDE // member.patch,) * 2
    signature = Signature.of(model, settings.values, tokens=tokens)
    mean, std, clip = mean_and_std(model, member)
    if signature.values == "stored":
        scale, offset = model.scaling[member.modality]
        mean, std = [(x - offset) / scale for x in mean], [x / scale for x in std]
    units = ", ".join(sorted({band.unit for band in member.bands}))
    meta: dict[str, Any] = {
        "dataset": card.data.get("name"),
        "in_chans": len(member.bands),
        "model": name,
        "publication": None,
        "repo": None,
        "ssl_method": card.objective.get("kind"),
        "bands": [band.name for band in member.bands],
        "wavelength_nm": [band.wavelength_nm for band in member.bands],
        "modality": member.modality,
        "gsd_m": member.bands[0].gsd_m,
        "values": "stored numbers as float" if signature.values == "stored" else units,
        "mean": mean,
        "std": std,
        "clip": clip,
        "kwargs": kwargs,
        "licence": card.licence,
        "weights_sha256": card.weights_sha256,
    }
    from fm.export import torchgeo_weights

    write_json(aside / "meta.json", meta)
    torch.save({key: value.contiguous() for key, value in state.items()}, aside / "weights.pth")
    shutil.copyfile(torchgeo_weights.__file__, aside / LOADER)
    weights = loaded(aside / LOADER).WEIGHTS.EOFM
    theirs = getattr(torchgeo.models, name)(weights, **kwargs).eval()
    graph = Graph(model, stored=signature.values == "stored")
    rows = []
    for words, inputs in signature.trials().items():
        with torch.no_grad():
            got = theirs(weights.transforms(inputs[member.modality].float()))
        rows += agreement(
            {"pooled": outputs(graph, inputs)["pooled"]},
            {"pooled": got},
            on=words,
            tolerance=TOLERANCE if settings.tolerance is None else settings.tolerance,
            what="torchgeo",
        )
    use = (
        "import torch\nimport torchgeo.models\n"
        f"from {LOADER.removesuffix('.py')} import WEIGHTS, kwargs\n\n"
        "weights = WEIGHTS.EOFM\n"
        f"model = torchgeo.models.{name}(weights, **kwargs).eval()\n"
        f"pixels = torch.zeros(1, {len(member.bands)}, {SIDE}, {SIDE})\n"
        "pooled = model(weights.transforms(pixels))\n"
    )
    notes = [
        f"For `torchgeo.models.{name}`; `weights.meta` says bands, order and units.",
        f"Channels are {', '.join(meta['bands'])} of {member.modality}, {meta['values']}, "
        f"{meta['gsd_m']:g} m; `weights.transforms` normalises.",
    ]
    return Written(rows, use, notes, {"inputs": {member.modality: meta}})
