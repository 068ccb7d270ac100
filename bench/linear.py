"""A ViT-S/16 in float32 on one CPU thread, its linear layers ours beside torch's own."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

import fm
from bench.mae_steps import threads
from bench.runner import Bench, Ready, Target
from fm.errors import FMError
from fm.linear import Linear, quicken

SAMPLES, SIDE, TOKEN_M = 8, 224, 160.0
MODALITY = "s2l1c_10"

_made: dict[str, Tensor] = {}


def _model(ours: bool) -> tuple[fm.models.Backbone, dict[str, Tensor]]:
    torch.manual_seed(0)
    bands = {MODALITY: [b for b in fm.sensor("sentinel2-l1c").bands if b.gsd_m == 10]}
    model = fm.create_model("vit_small", bands=bands, token_m=TOKEN_M)
    if ours:
        return quicken(model), {MODALITY: torch.rand(SAMPLES, len(bands[MODALITY]), SIDE, SIDE)}
    for part in model.modules():
        if type(part) is Linear:
            part.__class__ = nn.Linear
    return model, {MODALITY: torch.rand(SAMPLES, len(bands[MODALITY]), SIDE, SIDE)}


def _prepare(ours: bool, train: bool, quick: bool) -> Ready:
    threads(quick)
    model, pixels = _model(ours)
    model.train(train)

    def forward() -> None:
        with torch.no_grad():
            _made["ours" if ours else "torch"] = model.encode(pixels).pooled

    def step() -> None:
        model.zero_grad()
        model.encode(pixels).pooled.square().mean().backward()

    chosen: Callable[[], None] = step if train else forward
    return Ready(chosen, {"samples": SAMPLES, "threads": torch.get_num_threads()})


def _same() -> None:
    gap = (_made["ours"] - _made["torch"]).abs().max().item()
    if not gap < 1e-4:
        raise FMError(f"bench linear: features differ by {gap:.1e}")


KINDS = {"forward": False, "forward and backward": True}

BENCH = Bench(
    name="linear",
    question="What do linear layers by oneDNN bring a ViT-S/16 of four bands in float32?",
    competitors={
        f"{whose}, {kind}": partial(_prepare, whose == "ours", train)
        for kind, train in KINDS.items()
        for whose in ("ours", "torch's")
    },
    targets=tuple(
        Target(f"ours over torch's, {kind}", f"ours, {kind}", over=f"torch's, {kind}")
        for kind in KINDS
    ),
    unit="samples/s",
    amount=SAMPLES,
    rounds=12,
    versions=("torch",),
    check=_same,
)
