"""LESS ViT from 12 to 202 bands, with its MLP on every cell and on pooled vectors.

A training step (forward on all cells, the mean of the features as loss, backward, fused AdamW) in
float32: EnMAP bands spread over the spectrum, images of 32 x 32 pixels, tokens of 4 x 4, rank 1,
four channels a head.
"""

from collections.abc import Callable, Sequence

import torch

from bench.mae_steps import images, normalisation, ready, stored, threads
from bench.runner import Bench, Ready, Target
from fm.models import create_model
from fm.sensors.enmap import bands_202

COUNTS = (12, 60, 120, 202)
FULL = {"side": 32, "batch": 1, "size": "less_small"}
QUICK = {"side": 8, "batch": 1, "size": "less_nano"}


def _name(count: int, mlp: str) -> str:
    return f"{count} bands" if mlp == "tokens" else f"{count} bands, pooled MLP"


def _prepare(count: int, mlp: str) -> Callable[[bool], Ready]:
    def prepare(quick: bool) -> Ready:
        threads(quick)
        shape = QUICK if quick else FULL
        torch.manual_seed(0)
        every = bands_202()
        own = tuple(every[round(i * (len(every) - 1) / (count - 1))] for i in range(count))
        bands = {"enmap_30": own}
        model = create_model(
            shape["size"],
            bands=bands,
            token_m=120,
            normalisation=normalisation(bands),
            mlp=mlp,
        )
        side, size = shape["side"], shape["batch"]
        pixels = {"enmap_30": stored(images((size, count, side, side)))}
        losses: list[float] = []
        return ready(
            model,
            lambda step: model.encode(pixels, scaling={"enmap_30": (1e-4, 0.0)}).tokens.mean(),
            losses,
            batch=size,
            image=f"{count} x {side} x {side}",
            model=shape["size"],
        )

    return prepare


def _targets() -> Sequence[Target]:
    most = COUNTS[-1]
    grown = [
        # stated, not promised: the MLP on every cell makes it as steep as the number of bands
        Target(f"{_name(n, 'tokens')} over {COUNTS[0]}", _name(n, "tokens"), "12 bands", at_least=1)
        for n in COUNTS[1:]
    ]
    pooled = Target(
        "speed-up of the pooled MLP at 202 bands",
        of=_name(most, "tokens"),
        over=_name(most, "pooled"),
        at_least=2.0,
    )
    return (*grown, pooled)


BENCH = Bench(
    name="mae_less",
    question="What does a band cost LESS ViT, and what of it does a pooled MLP save?",
    competitors={
        _name(count, mlp): _prepare(count, mlp)
        for count, mlp in (*((n, "tokens") for n in COUNTS), (12, "pooled"), (202, "pooled"))
    },
    targets=tuple(_targets()),
    unit="ms",
    rounds=10,
    quick_rounds=3,
    warmup=1,
    versions=("torch",),
)
