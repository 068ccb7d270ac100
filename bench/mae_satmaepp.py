"""SatMAE++ on grouped Sentinel-2 bands: the straightforward way, and ours.

A training step (forward, backward, fused AdamW) in float32 of one model on one shape: 10 bands of
96 x 96 pixels in three groups, tokens of 8 x 8, mask ratio .75 over all tokens, a decoder of eight
blocks of width 512, and images at two and four times the size. Equal loss: the published one, over
all pixels. With the cross decoder a third of the hidden tokens are predicted, and finer scales
count there: tokens drawn anywhere, which lie on more than half of the places once three groups have
drawn apart, so that the head makes the whole image; or the hidden tokens of a window of a third of
the image, where the head makes the window alone.
"""

import torch

from bench.mae_baselines import SatMAEpp
from bench.mae_steps import images, normalisation, of_objective, ready, stored, threads
from bench.runner import Bench, Ready, Target
from fm.errors import FMError
from fm.models import create_model
from fm.sensors import Band, sensor
from pretrain.objectives.decoders import DecoderConfig
from pretrain.objectives.multiscale import MultiScaleConfig, MultiScaleMAE

NAMES = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
GROUPS = {
    "g0": ["B02", "B03", "B04", "B08"],
    "g1": ["B05", "B06", "B07", "B8A"],
    "g2": ["B11", "B12"],
}
FULL = {"side": 96, "batch": 2, "size": "vit_base", "decoder": (512, 8, 16), "code": (256, 128)}
QUICK = {"side": 32, "batch": 1, "size": "vit_nano", "decoder": (64, 2, 4), "code": (32, 16)}
STRAIGHT, JOINT = "SatMAE++-style", "ours, equal loss"
CROSS = "ours, cross decoder on a third"
WINDOW = "ours, cross decoder on a third, in a window"
TOLERANCE = 0.2
"""Largest relative difference of the first losses: weights and masks are drawn anew."""

_losses: dict[str, list[float]] = {}


def bands() -> dict[str, tuple[Band, ...]]:
    """Return the ten bands as the published dataset has them, on one 10 m grid."""
    chosen = sensor("sentinel2-l1c").select(NAMES)
    return {
        "s2l1c_10": tuple(
            Band(b.name, b.wavelength_nm, b.fwhm_nm, 10.0, b.unit, None, "s2l1c_10") for b in chosen
        )
    }


def _shape(quick: bool) -> dict:
    threads(quick)
    return QUICK if quick else FULL


def _settings(shape: dict) -> dict:
    side = shape["side"]
    return {"batch": shape["batch"], "image": f"10 x {side} x {side}", "model": shape["size"]}


def _chips(shape: dict) -> torch.Tensor:
    """Return chips at the finest scale, smooth at that scale so that all scales look alike."""
    fine = images((shape["batch"], len(NAMES), shape["side"], shape["side"]))
    return torch.nn.functional.interpolate(fine, scale_factor=4, mode="nearest")


def objective(shape: dict, **decoder: object) -> MultiScaleMAE:
    """Return our objective; the loss over all pixels where the decoder sees all tokens."""
    torch.manual_seed(0)
    backbone = create_model(
        shape["size"],
        bands=bands(),
        token_m=80,
        token_groups=GROUPS,
        normalisation=normalisation(bands()),
        group_code_width=shape["code"][0],
    )
    width, depth, heads = shape["decoder"]
    settings = {"width": width, "depth": depth, "heads": heads, **decoder}
    return MultiScaleMAE(
        backbone,
        MultiScaleConfig(
            mask_ratio=0.75,
            mask="flat",
            scales=2,
            scale_loss="all" if decoder["kind"] == "joint" else "masked",
            decoder=DecoderConfig.model_validate(settings),
        ),
    )


def straightforward(shape: dict) -> SatMAEpp:
    """Return the baseline of the same size."""
    torch.manual_seed(0)
    trunk = create_model(shape["size"], bands=bands(), token_m=80).architecture
    groups = [[NAMES.index(name) for name in names] for names in GROUPS.values()]
    sizes = {key: trunk[key] for key in ("width", "depth", "heads")}
    return SatMAEpp(groups, shape["side"], **sizes, decoder=shape["decoder"], code=shape["code"])


def prepare_straightforward(quick: bool) -> Ready:
    """Dense convolutions, all tokens in the decoder; the scales are made beforehand."""
    shape = _shape(quick)
    module, fine = straightforward(shape), _chips(shape)
    pooled = [torch.nn.functional.avg_pool2d(fine, k) for k in (4, 2)]
    levels = [*pooled, fine]
    losses = _losses.setdefault(STRAIGHT, [])
    return ready(module, lambda step: module(levels), losses, **_settings(shape))


def _ours(quick: bool, name: str, **decoder: object) -> Ready:
    shape = _shape(quick)
    pixels = {"s2l1c_10": stored(_chips(shape))}
    losses = _losses.setdefault(name, [])
    return of_objective(objective(shape, **decoder), pixels, losses, **_settings(shape))


def prepare_joint(quick: bool) -> Ready:
    """Ours with the paper's decoder and loss."""
    return _ours(quick, JOINT, kind="joint")


def prepare_cross(quick: bool) -> Ready:
    """Ours with the cross-attention decoder on a third of the hidden tokens."""
    return _ours(quick, CROSS, kind="cross", predict=1 / 3)


def prepare_window(quick: bool) -> Ready:
    """Ours with the cross-attention decoder on the hidden tokens of a third of the image."""
    return _ours(quick, WINDOW, kind="cross", predict=1 / 3, where="window")


def same_loss() -> None:
    """Refuse the result when the sides with an equal loss start from other values of it."""
    ours, wanted = _losses[JOINT][0], _losses[STRAIGHT][0]
    if abs(ours - wanted) > TOLERANCE * wanted:
        raise FMError(
            f"bench mae_satmaepp: {JOINT} starts at loss {ours:.3f}, {STRAIGHT} at {wanted:.3f}; "
            "they do not do the same work, so their times are not compared"
        )


BENCH = Bench(
    name="mae_satmaepp",
    question="How much faster is a step of SatMAE++ with ours?",
    competitors={
        STRAIGHT: prepare_straightforward,
        JOINT: prepare_joint,
        CROSS: prepare_cross,
        WINDOW: prepare_window,
    },
    targets=(
        Target("speed-up, equal loss", of=STRAIGHT, over=JOINT, at_least=1.3),
        Target("speed-up, cross decoder on a third, in a window", STRAIGHT, WINDOW, at_least=2.5),
    ),
    unit="ms",
    rounds=10,
    quick_rounds=3,
    warmup=1,
    versions=("torch", "timm"),
    check=same_loss,
)
