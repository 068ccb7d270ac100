"""SpectralEarth's masked autoencoder: the straightforward way, lightly's, and ours.

A training step (forward, backward, fused AdamW) in float32 of one model on one shape: 202 EnMAP
bands of 128 x 128 pixels, tokens of 4 x 4, the spectral adapter, a ViT-S, mask ratio .9, targets
of mean 0 and variance 1. Equal loss: the paper's decoder, one block of width 512 over all tokens.

The adapter's norms are the paper's batch normalisation on the straightforward side. Ours are a
learned scale and shift, so that a value does not depend on its batch mates; one row has batch
normalisation of the kept pixels instead.
"""

import time
from collections.abc import Sequence

import torch

from bench import peers
from bench.mae_baselines import SpectralEarthMAE
from bench.mae_steps import images, normalisation, of_objective, ready, stored, threads
from bench.runner import Bench, Fact, Ready, Target
from fm.errors import FMError
from fm.hardware import native_bfloat16
from fm.models import create_model
from fm.sensors.enmap import bands_202
from pretrain.objectives.decoders import DecoderConfig
from pretrain.objectives.mae import MAE
from pretrain.objectives.masked import MAEConfig

MASK = 0.9
FULL = {"side": 128, "batch": 4, "size": "vit_small", "decoder": (512, 16)}
QUICK = {"side": 32, "batch": 2, "size": "vit_nano", "decoder": (64, 4)}
STRAIGHT, LIGHTLY = "SpectralEarth-style", "lightly on timm blocks"
JOINT, CROSS = "ours, equal loss", "ours, cross decoder"
NORMED = "ours, equal loss, batch norm"
TOLERANCE = 0.2
"""Largest relative difference of the first losses: weights and masks are drawn anew."""

_losses: dict[str, list[float]] = {}


def _shape(quick: bool) -> dict:
    threads(quick)
    return QUICK if quick else FULL


def _pixels(shape: dict) -> torch.Tensor:
    return images((shape["batch"], 202, shape["side"], shape["side"]))


def _settings(shape: dict) -> dict:
    side = shape["side"]
    return {"batch": shape["batch"], "image": f"202 x {side} x {side}", "model": shape["size"]}


def objective(shape: dict, kind: str, norm: str = "affine") -> MAE:
    """Return our objective of a decoder kind and a norm in the adapter."""
    torch.manual_seed(0)
    bands = {"enmap_30": bands_202()}
    backbone = create_model(
        shape["size"],
        bands=bands,
        token_m=120,
        normalisation=normalisation(bands),
        tokenizer="spectral_adapter",
        tokenizer_options={"norm": norm},
    )
    width, heads = shape["decoder"]
    decoder = DecoderConfig.model_validate(
        {"kind": kind, "width": width, "depth": 1, "heads": heads}
    )
    return MAE(backbone, MAEConfig(mask_ratio=MASK, target="token", decoder=decoder))


def straightforward(shape: dict) -> SpectralEarthMAE:
    """Return the baseline of the same size."""
    torch.manual_seed(0)
    trunk = create_model(shape["size"], bands={"enmap_30": bands_202()}, token_m=120).architecture
    sizes = {key: trunk[key] for key in ("width", "depth", "heads")}
    return SpectralEarthMAE(202, shape["side"], **sizes, decoder=shape["decoder"], mask_ratio=MASK)


def _straightforward(shape: dict, losses: list[float], **settings: bool) -> Ready:
    module, x = straightforward(shape), _pixels(shape)
    return ready(module, lambda step: module(x), losses, **_settings(shape), **settings)


def _ours(
    shape: dict, kind: str, losses: list[float], norm: str = "affine", **settings: bool
) -> Ready:
    made, pixels = objective(shape, kind, norm), {"enmap_30": stored(_pixels(shape))}
    return of_objective(made, pixels, losses, **_settings(shape), **settings)


def prepare_straightforward(quick: bool) -> Ready:
    """Dense adapter and convolution, all tokens in the decoder."""
    return _straightforward(_shape(quick), _losses.setdefault(STRAIGHT, []))


def prepare_joint(quick: bool) -> Ready:
    """Ours with the paper's decoder: equal loss."""
    return _ours(_shape(quick), "joint", _losses.setdefault(JOINT, []))


def prepare_normed(quick: bool) -> Ready:
    """The same with batch normalisation in the adapter."""
    return _ours(_shape(quick), "joint", _losses.setdefault(NORMED, []), norm="batch")


def prepare_cross(quick: bool) -> Ready:
    """Ours with the cross-attention decoder, all hidden tokens predicted."""
    return _ours(_shape(quick), "cross", _losses.setdefault(CROSS, []))


def prepare_lightly(quick: bool) -> Ready | None:
    """Lightly's encoder and decoder around the same dense adapter; absent where not installed."""
    shape = _shape(quick)
    made = straightforward(shape)
    words = [shape["side"], shape["batch"], made.head.in_features, shape["decoder"][1]]
    trunk = made.encoder
    words += [trunk.cls_token.shape[-1], len(trunk.blocks), trunk.blocks[0].attn.num_heads]
    return peers.start("lightly", *map(str, words), counted=1, warm=1)


def facts(quick: bool) -> Sequence[Fact]:
    """Take two steps of each side under bfloat16 autocast, on one sample."""
    shape = {**_shape(quick), "batch": 1}
    words = "native" if native_bfloat16(torch.device("cpu")) else "emulated"
    found = []
    for name, bf16 in (("float32", False), (f"bfloat16, {words} here", True)):
        seconds = []
        for make in (
            _straightforward(shape, [], bf16=bf16),
            _ours(shape, "joint", [], bf16=bf16),
        ):
            make.step()
            start = time.perf_counter()
            make.step()
            seconds.append(time.perf_counter() - start)
        side = f"one sample, {name}, one step"
        found.append(Fact(f"{STRAIGHT} over {JOINT}: {side}", seconds[0] / seconds[1], "ratio"))
        found.append(Fact(f"{JOINT}: {side}", seconds[1] * 1e3, "ms"))
    return found


def same_loss() -> None:
    """Refuse the result when the sides with an equal loss start from other values of it."""
    first = {name: losses[0] for name, losses in _losses.items() if losses}
    wanted = first[STRAIGHT]
    for name in (JOINT, NORMED, CROSS):
        if abs(first[name] - wanted) > TOLERANCE * wanted:
            raise FMError(
                f"bench mae_spectral: {name} starts at loss {first[name]:.3f}, {STRAIGHT} at "
                f"{wanted:.3f}; they do not do the same work, so their times are not compared"
            )


BENCH = Bench(
    name="mae_spectral",
    question="How much faster is a step of SpectralEarth's masked autoencoder with ours?",
    competitors={
        STRAIGHT: prepare_straightforward,
        LIGHTLY: prepare_lightly,
        JOINT: prepare_joint,
        NORMED: prepare_normed,
        CROSS: prepare_cross,
    },
    targets=(
        Target("speed-up, equal loss", of=STRAIGHT, over=JOINT, at_least=3.5),
        Target("speed-up, cross decoder", of=STRAIGHT, over=CROSS, at_least=5.0),
        Target("speed-up over lightly, equal loss", of=LIGHTLY, over=JOINT, at_least=1.0),
    ),
    unit="ms",
    rounds=10,
    quick_rounds=3,
    warmup=1,
    versions=("torch", "timm", "lightly"),
    check=same_loss,
    facts=facts,
)
