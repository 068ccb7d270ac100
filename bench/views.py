"""Views in batch beside a loop that makes them sample by sample.

The loop does what published loaders do: cut a box, resize it (torch's antialiased bilinear kernel,
the one that torchvision's v2 transforms call), change brightness and contrast, replace by grey,
blur by two passes of one kernel, flip. Boxes, factors and chances are the same in both, so both do
the same work; its draws are free. What it makes is checked against ours up to the resampling.
Freed memory is kept, as in runs.
"""

import math
from collections.abc import Callable
from functools import cache, partial

import torch
from torch import Tensor
from torch.nn import functional

from bench.mae_steps import threads
from bench.runner import Bench, Ready, Target
from fm.errors import FMError
from fm.rng import CounterRng
from fm.sensors import Band, sensor
from pretrain.augment import ViewConfig, draw_view
from pretrain.augment.crop import draw_box
from pretrain.engine.batches import MicroBatch
from pretrain.ranks.allocator import keep_freed_memory

SIDE, SIZES, SAMPLES = 264, (224, 64), 16
NAME = "first"

_made: dict[tuple[str, int], Tensor] = {}


@cache
def _batch() -> MicroBatch:
    """Thirteen bands of Sentinel-2 on one grid, as stored."""
    generator = torch.Generator().manual_seed(0)
    smooth = torch.rand(SAMPLES, 13, 12, 12, generator=generator)
    pixels = functional.interpolate(smooth, size=(SIDE, SIDE), mode="bicubic").clamp(0, 1)
    stored = (pixels * 6000).to(torch.int32).to(torch.uint16)
    rng = CounterRng(0, torch.zeros(SAMPLES, dtype=torch.int64), torch.arange(SAMPLES))
    return MicroBatch({"s2l1c_10": stored}, torch.ones(SAMPLES), {"s2l1c_10": (1e-4, 0.0)}, rng)


def _bands() -> dict[str, tuple[Band, ...]]:
    return {"s2l1c_10": sensor("sentinel2-l1c").bands}


def _ready(step: Callable[[], None]) -> Ready:
    return Ready(step, {"samples": SAMPLES, "threads": torch.get_num_threads()})


def _ours(size: int, quick: bool) -> Ready:
    threads(quick)
    keep_freed_memory()
    batch, config = _batch(), ViewConfig(size=size)

    def step() -> None:
        made = draw_view(batch, batch.rng, NAME, config, bands=_bands())
        _made["ours", size] = made.pixels["s2l1c_10"]

    return _ready(step)


def _loop(size: int, quick: bool) -> Ready:
    threads(quick)
    batch, config = _batch(), ViewConfig(size=size)
    rng, effects = batch.rng, config.optical
    box = draw_box(rng, NAME, config, (SIDE, SIDE))

    def drawn(what: str) -> list[float]:
        return rng.uniform(f"{NAME}:{what}", 1)[:, 0].tolist()

    names = ("coloured", "brightness", "contrast", "grey", "blur", "blurred")
    draws = {what: drawn(what) for what in names}
    # whole pixels, as torchvision cuts
    starts = [(x * SIDE).round().int().tolist() for x in (box.top, box.left)]
    sizes = [(x * SIDE).round().int().clamp(min=1).tolist() for x in (box.height, box.width)]
    mirrored = box.mirrored.tolist()

    def one(i: int) -> Tensor:
        top, left, height, width = starts[0][i], starts[1][i], sizes[0][i], sizes[1][i]
        x = batch.pixels["s2l1c_10"][i].view(torch.int16)
        x = x[:, top : top + height, left : left + width].float() * 1e-4
        x = functional.interpolate(
            x[None], size=(size, size), mode="bilinear", antialias=True, align_corners=False
        )[0]
        if draws["coloured"][i] < effects.colour_chance:
            x = x * (1 + effects.brightness * (2 * draws["brightness"][i] - 1))
            mean = x.mean(dim=(1, 2), keepdim=True)
            by = 1 + effects.contrast * (2 * draws["contrast"][i] - 1)
            x = (mean + by * (x - mean)).clamp(min=0)
        if draws["grey"][i] < effects.grey:
            x = x.mean(dim=0, keepdim=True).expand(13, -1, -1)
        if draws["blurred"][i] < effects.blur_chance:
            x = _blurred(
                x, effects.blur[0] + (effects.blur[1] - effects.blur[0]) * draws["blur"][i]
            )
        return x.flip(-1) if mirrored[i] else x

    def step() -> None:
        _made["loop", size] = torch.stack([one(i) for i in range(len(batch.weight))])

    return _ready(step)


def _blurred(x: Tensor, sigma: float) -> Tensor:
    radius = max(1, math.ceil(3 * sigma))
    at = torch.arange(-radius, radius + 1)
    kernel = torch.exp(-0.5 * (at / sigma) ** 2)
    kernel = (kernel / kernel.sum()).expand(len(x), 1, 1, -1)
    x = functional.pad(x[None], (radius,) * 4, mode="reflect")
    x = functional.conv2d(x, kernel, groups=x.shape[1])
    return functional.conv2d(x, kernel.mT, groups=x.shape[1])[0]


def _same() -> None:
    """Hold the two against each other: boxes differ by half a pixel of the image at most."""
    for size in SIZES:
        gap = (_made["ours", size] - _made["loop", size]).abs().mean().item()
        if gap > 0.01:
            raise FMError(f"bench views: {size} px differ by {gap:.3f} of reflectance on average")


BENCH = Bench(
    name="views",
    question=f"What does a view of 13 bands cut from {SIDE} px cost beside a loop over samples?",
    competitors={
        f"{name}, {size} px": partial(prepare, size)
        for size in SIZES
        for name, prepare in (("in batch", _ours), ("loop over samples", _loop))
    },
    targets=tuple(
        Target(
            f"in batch over the loop, {size} px",
            f"in batch, {size} px",
            over=f"loop over samples, {size} px",
            at_least=1.0,
        )
        for size in SIZES
    ),
    unit="views/s",
    amount=SAMPLES,
    rounds=20,
    versions=("torch",),
    check=_same,
)
