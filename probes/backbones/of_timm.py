"""Backbones of timm."""

import difflib
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from fm.card import Card
from fm.checkpoint import load_strict
from fm.errors import UsageError
from fm.foreign import read
from fm.foreign.bands import parse
from fm.linear import quicken
from fm.normalize import Normalisation
from fm.sensors import Band
from probes.backbones.adapter import MODALITY, Adapter, Intake, Output, renamed, rgb

HEADS = ("fc.", "head.", "classifier.", "head_dist.", "last_linear.")
"""Where classifiers lie; weights there are left out, those anywhere else must fit."""


def run(network: nn.Module, image: Tensor) -> Output:
    """Encode with any timm model built without a classifier."""
    net: Any = network
    made = net.forward_features(image)
    pooled = net.forward_head(made, pre_logits=True)
    if made.ndim == 4:
        if made.shape[1] != net.num_features:  # channels last, as Swin's
            made = made.permute(0, 3, 1, 2)
        return Output(pooled, made.flatten(2).mT, (made.shape[-2], made.shape[-1]))
    if made.ndim == 3:
        tokens = made[:, getattr(net, "num_prefix_tokens", 0) :]
        patch = getattr(getattr(net, "patch_embed", None), "patch_size", None)
        if patch is not None:
            rows, columns = image.shape[-2] // patch[0], image.shape[-1] // patch[1]
            if rows * columns == tokens.shape[1]:
                return Output(pooled, tokens, (rows, columns))
    return Output(pooled)


def build(name: str, channels: int, seed: int) -> tuple[nn.Module, dict[str, Any]]:
    """Build a timm model without a classifier, with random weights.

    Returns:
        the network, and of its sizes: `size`, `fixed`, `multiple` (see `Intake`).
    """
    import timm  # here: `fm.models` mends torchvision before

    options = {"pretrained": False, "num_classes": 0, "in_chans": channels}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            network = timm.create_model(name, **options, dynamic_img_size=True)
            dynamic = True
        except TypeError:  # only vision transformers know that option
            torch.manual_seed(seed)
            network = timm.create_model(name, **options)
            dynamic = False
    size = tuple(network.pretrained_cfg.get("input_size", (channels, 224, 224))[1:])
    tokens = hasattr(network, "patch_embed")
    fixed = bool(network.pretrained_cfg.get("fixed_input_size")) or tokens
    step = network.patch_embed.patch_size[0] if dynamic and tokens else 1
    return quicken(network.eval()), {"size": size, "fixed": fixed and not dynamic, "multiple": step}


def parsed(bands: str) -> tuple[Band, ...]:
    """Read `SENSOR:BAND,BAND` as the bands of a network's channels.

    `rgb:` means the colours of `adapter.rgb`, as for a model that lists none: the nominal blue of
    cameras (460 nm) is closer to Sentinel-2's coastal band than to its blue.
    """
    found = [band for items in parse(bands).values() for band in items]
    if bands.partition("@")[0].partition(":")[0] == "rgb":
        colours = {band.name: band for band in rgb()}
        found = [colours[band.name] for band in found]
    return tuple(replace(band, modality=MODALITY) for band in found)


def load_timm(
    name: str, *, file: str | os.PathLike[str] | None, seed: int = 0, bands: str | None = None
) -> Adapter:
    """Load a timm model with the weights of a file, or (None) with random ones.

    timm's models of colour pictures take R, G, B and are normalised as `pretrained_cfg` says.

    Raises:
        UsageError: there is no such model.
        FMError: the file does not fit it.
    """
    import timm

    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=1)
        hint = f"did you mean {near[0]!r}?" if near else "see timm.list_models()"
        raise UsageError(f"timm {timm.__version__} has no model {name!r}; {hint}")
    channels = rgb() if bands is None else parsed(bands)
    network, sizes = build(name, len(channels), seed)
    cfg: Any = network.pretrained_cfg
    said: dict[str, Any] = {}
    if channels != rgb():
        text = f"channels are as declared by --bands {bands}; timm's own are R, G, B"
        said = {"declared": bands, "doubt": text}
    intake = Intake(channels, *_display(cfg, channels), **{**sizes, **said})
    return adapter(
        network,
        intake,
        name=name.replace("/", "-"),
        source=f"timm:{name}",
        licence=str(cfg.get("license") or "unknown"),
        file=file,
        seed=seed,
        again=lambda other: load_timm(name, file=None, seed=other, bands=bands),
    )


def _display(cfg: Mapping[str, Any], bands: tuple[Band, ...]) -> tuple[Normalisation | None, Any]:
    """Timm's normaliser in the order of the channels; nothing where they are not colours."""
    order = {"R": 0, "G": 1, "B": 2}
    if {band.name for band in bands} != set(order) or len(cfg.get("mean", ())) != 3:
        return None, None
    places = [order[band.name] for band in bands]
    found = Normalisation("zscore", tuple(cfg["mean"]), tuple(cfg["std"]))
    return found.select(places), "display"


def adapter(
    network: nn.Module,
    intake: Intake,
    *,
    name: str,
    source: str,
    licence: str,
    file: str | os.PathLike[str] | None,
    seed: int,
    again: Any,
    state: Mapping[str, Tensor] | None = None,
    sha256: str = "",
) -> Adapter:
    """Put weights into a timm model and wrap it.

    Args:
        network: see `build`.
        intake: what it wants.
        name: for tables.
        source: what the user named it by.
        licence: of the weights.
        file: the weights; None for random ones (or `state`).
        seed: of random weights.
        again: seed to the same adapter with random weights.
        state: the weights, already read.
        sha256: of the file that `state` came from.

    Raises:
        FMError: the weights do not fit.
    """
    trained = file is not None or state is not None
    if file is not None:
        reading = read(file)
        state, sha256 = reading.state, reading.sha256
    if state is not None:
        own = network.state_dict()
        kept = {k: v for k, v in state.items() if k in own or not k.startswith(HEADS)}
        load_strict(network, kept, str(file) if file is not None else source)
    net: Any = network
    card = Card(
        name=name,
        architecture={"name": source},
        bands={MODALITY: intake.bands},
        normalisation={} if intake.normalisation is None else {MODALITY: intake.normalisation},
        scaling={},
        licence=licence,
        parent=f"{source}, sha256 {sha256}" if trained else None,
        weights_sha256=sha256,
    )
    return Adapter(
        network,
        run,
        intake,
        width=int(getattr(net, "head_hidden_size", None) or net.num_features),
        card=card if trained else renamed(card, seed),
        source=source,
        fresh=again,
        pretrained=trained,
    )
