"""A view of each sample, in batch: cut, coloured, blurred, with noise; a function of its position.

Every draw is made under the view's name, for all samples at once. Lighting is that of the sample,
so brightness, contrast and grey are the same draws on all its grids.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fm.hardware import full_precision
from fm.models.embed.patches import to_physical
from fm.resample import finest, resample, sizes_of
from fm.rng import CounterRng
from fm.sensors import Band, modality_bands
from pretrain.augment import colour, noise
from pretrain.augment.blur import blurred
from pretrain.augment.crop import cut, draw_box, draw_cut
from pretrain.augment.symmetries import dihedral
from pretrain.augment.view import View
from pretrain.objective import ObjectiveBatch
from pretrain.settings.view import (
    Effects,
    HyperspectralEffects,
    OpticalEffects,
    OtherEffects,
    RadarEffects,
    ViewConfig,
    kind_of,
)

Pixels = dict[str, Tensor]
Masks = dict[str, Tensor]
CACHED = 2
"""Samples that are made at once on a CPU: half the time of sixteen."""
Coloured = OpticalEffects | HyperspectralEffects | OtherEffects


@torch.no_grad()
def draw_view(
    batch: ObjectiveBatch,
    rng: CounterRng,
    name: str,
    config: ViewConfig,
    image: Tensor | None = None,
    *,
    bands: Mapping[str, Sequence[Band]] | None = None,
) -> View:
    """Make one view of each sample of a batch.

    Args:
        batch: images, or series of which one image is shown.
        rng: of the same samples.
        name: of the view: all its random numbers are drawn under it, so that views of other names
            are independent and one of the same name is the same.
        config: see `ViewConfig`.
        image: `[B]` int64, which image of a series; the first if None.
        bands: of each modality, as the model has them; those of the sensors' tables if None.

    Returns:
        physical pixels `[B, C, h, w]`, with what the batch says of them.

    Raises:
        UsageError: grids of other ground, a size that is not whole pixels of all grids, a modality
            that no sensor has where `bands` is None.
    """
    if image is None:
        image = torch.zeros(len(batch.weight), dtype=torch.int64, device=batch.weight.device)
    kinds = {
        modality: config.effects(kind_of((bands or {}).get(modality) or modality_bands(modality)))
        for modality in batch.pixels
    }
    count = len(batch.weight)
    # on a CPU a few samples at a time stay in its caches; nothing else depends on it
    size = CACHED if batch.weight.device.type == "cpu" else max(count, 1)
    with full_precision(batch.weight.device):
        parts = [
            _made(batch, rng, name, config, image, kinds, slice(start, start + size))
            for start in range(0, count, size)
        ]
    pixels, masks = (
        {m: torch.cat([part[which][m] for part in parts]) for m in parts[0][which]}
        for which in (0, 1)
    )
    times = batch.times
    return View(
        pixels=pixels,
        weight=batch.weight,
        scaling=batch.scaling,
        rng=rng,
        image=image,
        valid=masks or None,
        lonlat=batch.lonlat,
        time=batch.time if times is None else times.gather(1, image[:, None])[:, 0],
        times=None,
        labels={
            label: _image_of(value, image) if value.ndim == 3 else value
            for label, value in batch.labels.items()
        },
        step=batch.step,
        clock=batch.clock,
    )


def _made(
    batch: ObjectiveBatch,
    rng: CounterRng,
    name: str,
    config: ViewConfig,
    image: Tensor,
    kinds: Mapping[str, Effects],
    rows: slice,
) -> tuple[Pixels, Masks]:
    """Make the views of some samples: pixels, and the masks of modalities that have one."""
    rng, image = rng.select(rows), image[rows]
    pixels: Pixels = {}
    masks: Masks = {}
    for modality, x in batch.pixels.items():
        chosen = _image_of(x[rows], image)
        pixels[modality] = to_physical(chosen, *batch.scaling.get(modality, (1.0, 0.0)))
        if batch.valid is not None and modality in batch.valid:
            masks[modality] = mask = _image_of(batch.valid[modality][rows], image)
            pixels[modality] = torch.where(mask, pixels[modality], 0.0)
    pixels, masks = _placed(pixels, masks, rng, name, config)
    draws = _Draws(rng, name)
    ground = finest(pixels)[0]
    for modality, x in pixels.items():
        known = masks.get(modality)
        made = _applied(x, known, kinds[modality], draws, modality, x.shape[-2] / ground)
        pixels[modality] = made if known is None else torch.where(known, made, 0.0)
    return pixels, masks


def _image_of(x: Tensor, image: Tensor) -> Tensor:
    """Take one image a sample of `[B, T, ...]` series; single images `[B, C, H, W]` stay."""
    if x.ndim == 4:
        return x
    bits = x.view(torch.int16) if x.dtype == torch.uint16 else x  # uint16 lacks most kernels
    return bits[torch.arange(len(x), device=x.device), image].view(x.dtype)


def _placed(
    pixels: Pixels, masks: Masks, rng: CounterRng, name: str, config: ViewConfig
) -> tuple[Pixels, Masks]:
    """Cut, resample and turn all modalities alike."""
    sizes = sizes_of(pixels, config.size)
    if not config.resize:
        at = draw_cut(rng, name, config, pixels)
        coarsest = min(x.shape[-2] for x in pixels.values())
        factors = {m: x.shape[-2] // coarsest for m, x in pixels.items()}
        pixels = {m: cut(x, at, sizes[m], factors[m]) for m, x in pixels.items()}
        masks = {m: cut(x, at, sizes[m], factors[m]) for m, x in masks.items()}
    elif config.whole:
        if config.flips == "horizontal":
            hit = _Draws(rng, name).hit("flip", 0.5)
            pixels = {m: torch.where(hit, x.flip(-1), x) for m, x in pixels.items()}
            masks = {m: torch.where(hit, x.flip(-1), x) for m, x in masks.items()}
    else:
        box = draw_box(rng, name, config, finest(pixels))
        largest = min(1.0, (config.scale[1] * max(config.ratio[1], 1 / config.ratio[0])) ** 0.5)
        made: Pixels = {}
        known: Masks = {}
        for m, x in pixels.items():
            made[m], mask = resample(x, masks.get(m), box, sizes[m], largest)
            if mask is not None:
                known[m] = mask
        pixels, masks = made, known
    if config.flips == "square":
        purpose = f"{name}:square"
        pixels = dihedral(pixels, rng, purpose)
        masks = dihedral(masks, rng, purpose)
    return pixels, masks


@dataclass(frozen=True)
class _Draws:
    """The draws of a view; the same name gives the same draw on every grid."""

    rng: CounterRng
    name: str

    def uniform(self, what: str) -> Tensor:
        """Draw `[B, 1, 1, 1]` from [0, 1)."""
        return self.rng.uniform(f"{self.name}:{what}", 1)[:, :, None, None]

    def hit(self, what: str, chance: float) -> Tensor:
        """Draw who is hit: `[B, 1, 1, 1]` bool."""
        return self.uniform(what) < chance

    def factor(self, what: str, jitter: float, hit: Tensor) -> Tensor:
        """Draw numbers about 1."""
        return colour.factor(self.uniform(what), jitter, hit)

    def normal(self, what: str, x: Tensor) -> Tensor:
        """Draw a standard normal number for each of x's."""
        return noise.normal_like(self.rng, f"{self.name}:{what}", x)


def _applied(
    x: Tensor, mask: Tensor | None, effects: Effects, draws: _Draws, modality: str, share: float
) -> Tensor:
    """Apply a kind's effects in their order.

    Args:
        x: `[B, C, h, w]`.
        mask: its validity.
        effects: of its kind.
        draws: of the view.
        modality: whose noise is its own.
        share: its pixels along a side, of the finest grid's.
    """
    match effects:
        case OpticalEffects():
            x = _optical(x, mask, effects, draws)
        case HyperspectralEffects() | OtherEffects():
            x = _lit(x, mask, effects, draws)
            grey = effects.grey if isinstance(effects, OtherEffects) else effects.unsafe_grey
            if grey:
                x = colour.greyed(x, mask, draws.hit("grey", grey))
        case RadarEffects():
            x = _backscatter(x, mask, effects, draws)
    if effects.blur_chance:
        low, high = effects.blur
        sigma = (low + (high - low) * draws.uniform("blur")[:, 0, 0, 0]) * share
        hit = draws.hit("blurred", effects.blur_chance)[:, 0, 0, 0]
        power = isinstance(effects, RadarEffects)
        if power:
            x = torch.where(hit[:, None, None, None], 10.0 ** (x / 10.0), x)
        x = blurred(x, mask, sigma, high * share, hit)
        if power:
            back = 10.0 * torch.log10(x.clamp(min=1e-12))
            x = torch.where(hit[:, None, None, None], back, x)
    if isinstance(effects, OpticalEffects) and effects.solarise:
        below = effects.legacy_solarise_below
        hit = draws.hit("solarise", effects.solarise)
        x = colour.solarised(x, effects.solarise_at, below, hit)
    if isinstance(effects, RadarEffects) and effects.speckle_chance:
        hit = draws.hit("speckled", effects.speckle_chance)
        x = noise.speckled(x, effects.speckle, draws.normal(f"speckle:{modality}", x), hit)
    if isinstance(effects, HyperspectralEffects):
        x = _detected(x, mask, effects, draws, modality)
    return x


def _lit(x: Tensor, mask: Tensor | None, effects: Coloured, draws: _Draws) -> Tensor:
    """Change the light and the haze."""
    hit = draws.hit("coloured", effects.colour_chance)
    if effects.brightness:
        x = x * draws.factor("brightness", effects.brightness, hit)
    if effects.contrast:
        by = draws.factor("contrast", effects.contrast, hit)
        x = colour.not_below_zero(colour.stretched(x, mask, by), x)
    return x


def _optical(x: Tensor, mask: Tensor | None, effects: OpticalEffects, draws: _Draws) -> Tensor:
    if effects.legacy_wrap:
        hit = draws.hit("coloured", effects.colour_chance)
        brightness = draws.factor("brightness", effects.brightness, hit)
        contrast = draws.factor("contrast", effects.contrast, hit)
        x = colour.counts(x)
        x = torch.where(hit, colour.wrapped(x * brightness), x)
        x = torch.where(hit, colour.wrapped(colour.stretched(x, mask, contrast)), x) / 255.0
    else:
        x = _lit(x, mask, effects, draws)
    if effects.grey:
        x = colour.greyed(x, mask, draws.hit("grey", effects.grey))
    return x


def _backscatter(x: Tensor, mask: Tensor | None, effects: RadarEffects, draws: _Draws) -> Tensor:
    if effects.gain_db:
        x = x + effects.gain_db * (2.0 * draws.uniform("gain") - 1.0)
    if effects.unsafe_contrast:
        always = torch.ones((), dtype=torch.bool, device=x.device)
        x = colour.stretched(x, mask, draws.factor("contrast", effects.unsafe_contrast, always))
    if effects.unsafe_grey:
        x = colour.greyed(x, mask, draws.hit("grey", effects.unsafe_grey))
    return x


def _detected(
    x: Tensor, mask: Tensor | None, effects: HyperspectralEffects, draws: _Draws, modality: str
) -> Tensor:
    """Let calibration drift and add what a detector adds."""
    hit = draws.hit("noisy", effects.noise_chance)
    if effects.noise:
        means = colour.band_means(x, mask)
        x = noise.noisy(x, means, effects.noise, draws.normal(f"noise:{modality}", x), hit)
    if effects.band_gain:
        gain = draws.normal(f"gain:{modality}", x[..., :1, :1])
        x = noise.drifted(x, effects.band_gain, gain, hit)
    return x
