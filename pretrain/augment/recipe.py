"""A view of each sample, in batch: cut, coloured, blurred, with noise; a function of its position.

Every draw is made under the view's name, for all samples at once. Lighting is that of the sample,
so brightness, contrast and grey are the same draws on all its grids.

On a CPU the samples are then made a few at a time, large ones one after the other, so that they
stay in the cache through all that is done to them. Of large ones only what is shown becomes
physical, and what none of them is hit by is left out.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from fm.hardware import full_precision
from fm.models.embed.patches import in_units, to_physical
from fm.points import Window
from fm.resample import Resampling, Sizes, finest, sizes_of
from fm.rng import CounterRng
from fm.sensors import Band, modality_bands
from pretrain.augment import colour, noise
from pretrain.augment.blur import blurred
from pretrain.augment.crop import Cut, cut, draw_box, draw_cut
from pretrain.augment.hit import anyone, where_hit
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
Place = dict[str, Resampling] | Cut | None
"""Where views are cut, of each modality; None where they show the whole on its own pixels."""
WHOLE: Window = (slice(None), slice(None))
TOGETHER = 2**16
"""Numbers, of samples and views, that are worked on at once on a CPU: a second-level cache's."""
ONCE = (
    *("flip", "coloured", "brightness", "contrast", "grey", "blur", "blurred", "solarise"),
    *("gain", "speckled", "noisy"),
)
"""What one number a sample decides."""
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
    sizes = sizes_of(batch.pixels, config.size)
    step = _together(batch, sizes)
    with full_precision(batch.weight.device):
        draws = _Draws(rng, name, slice(None))
        place = _place(batch.pixels, draws, config, sizes)
        pixels, masks = _made(batch, draws, place, config, sizes, image, kinds, slice(0, step))
        if step < count:
            pixels, masks = _begun(pixels, count), _begun(masks, count)
        for start in range(step, count, step):
            rows = slice(start, start + step)
            more = _made(batch, draws, place, config, sizes, image, kinds, rows)
            for whole, part in zip((pixels, masks), more, strict=True):
                for m, x in part.items():
                    whole[m][rows] = x
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


def _together(batch: ObjectiveBatch, sizes: Sizes) -> int:
    """Return how many samples are made at once."""
    if batch.weight.device.type != "cpu":
        return max(len(batch.weight), 1)
    numbers = 0
    for modality, x in batch.pixels.items():
        bands, height, width = x.shape[-3:]
        numbers += bands * (height * width + sizes[modality][0] * sizes[modality][1])
    return max(TOGETHER // numbers, 1)


def _begun(part: dict[str, Tensor], count: int) -> dict[str, Tensor]:
    """Return room for all samples that begins with the first of them."""
    made = {m: x.new_empty(count, *x.shape[1:]) for m, x in part.items()}
    for m, x in part.items():
        made[m][: len(x)] = x
    return made


def _made(
    batch: ObjectiveBatch,
    draws: "_Draws",
    place: Place,
    config: ViewConfig,
    sizes: Sizes,
    image: Tensor,
    kinds: Mapping[str, Effects],
    rows: slice,
) -> tuple[Pixels, Masks]:
    """Make the views of some samples: pixels, and the masks of modalities that have one."""
    draws, image = draws.select(rows), image[rows]
    seen: dict[str, Window] = {}
    if isinstance(place, Cut):
        place = place.select(rows)
    elif place is not None:
        place = {modality: resampling.select(rows) for modality, resampling in place.items()}
        seen = {modality: resampling.window() for modality, resampling in place.items()}
    pixels: Pixels = {}
    masks: Masks = {}
    for modality, x in batch.pixels.items():
        part = (..., *seen.get(modality, WHOLE))
        pixels[modality] = _image_of(x[rows][part], image)
        if batch.valid is not None and modality in batch.valid:
            masks[modality] = _image_of(batch.valid[modality][rows][part], image)
    pixels, masks = _placed(pixels, masks, batch.scaling, draws, place, config, sizes, seen)
    for modality, mask in masks.items():
        pixels[modality] = torch.where(mask, pixels[modality], 0.0)
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


def _place(
    pixels: Mapping[str, Tensor], draws: "_Draws", config: ViewConfig, sizes: Sizes
) -> Place:
    """Draw where the views of all samples are cut."""
    if not config.resize:
        return draw_cut(draws.rng, draws.name, config, pixels)
    if config.whole:
        return None
    box = draw_box(draws.rng, draws.name, config, finest(pixels))
    largest = min(1.0, (config.scale[1] * max(config.ratio[1], 1 / config.ratio[0])) ** 0.5)
    return {
        modality: Resampling.of(box, (x.shape[-2], x.shape[-1]), sizes[modality], largest)
        for modality, x in pixels.items()
    }


def _placed(
    pixels: Pixels,
    masks: Masks,
    scaling: Mapping[str, tuple[float, float]],
    draws: "_Draws",
    place: Place,
    config: ViewConfig,
    sizes: Sizes,
    seen: Mapping[str, Window],
) -> tuple[Pixels, Masks]:
    """Cut, resample and turn all modalities alike, of which windows may have been taken already.

    What is stored becomes physical once there is least of it.
    """
    scales = {m: scaling.get(m, (1.0, 0.0)) for m in pixels}
    if isinstance(place, Cut):
        coarsest = min(x.shape[-2] for x in pixels.values())
        factors = {m: x.shape[-2] // coarsest for m, x in pixels.items()}
        cuts = {m: cut(x, place, sizes[m], factors[m]) for m, x in pixels.items()}
        pixels = {m: to_physical(x, *scales[m]) for m, x in cuts.items()}
        masks = {m: cut(x, place, sizes[m], factors[m]) for m, x in masks.items()}
    elif place is None:
        pixels = {m: to_physical(x, *scales[m]) for m, x in pixels.items()}
        if config.flips == "horizontal" and anyone(hit := draws.hit("flip", 0.5)):
            pixels = {m: where_hit(hit, x.flip(-1), x) for m, x in pixels.items()}
            masks = {m: where_hit(hit, x.flip(-1), x) for m, x in masks.items()}
    else:
        made: Pixels = {}
        known: Masks = {}
        for m, x in pixels.items():
            means, mask = place[m].of_pixels(x, masks.get(m), seen[m])
            made[m] = means if x.is_floating_point() else in_units(means, *scales[m])
            if mask is not None:
                known[m] = mask
        pixels, masks = made, known
    if config.flips == "square":
        purpose = f"{draws.name}:square"
        pixels = dihedral(pixels, draws.own, purpose)
        if masks:
            masks = dihedral(masks, draws.own, purpose)
    return pixels, masks


Chance = tuple[str, float]
"""A draw, and below which number it hits."""


@dataclass(frozen=True)
class _Draws:
    """The draws of a view; the same name gives the same draw on every grid.

    What one number a sample decides is made once for all samples, and shared by all selections.

    Attributes:
        rng: of all samples.
        name: of the view.
        rows: whose draws are given.
        made: of all samples, by what it is, from when it is first asked for.
    """

    rng: CounterRng
    name: str
    rows: slice
    made: dict[object, Tensor] = field(default_factory=dict)

    def select(self, rows: slice) -> "_Draws":
        """Return the draws of some of the samples."""
        return replace(self, rows=rows)

    @property
    def own(self) -> CounterRng:
        """The generator of these samples."""
        return self.rng.select(self.rows)

    def uniform(self, what: str) -> Tensor:
        """Draw `[B, 1, 1, 1]` from [0, 1); `what` is one of `ONCE`."""
        return self._uniform(what)[self.rows]

    def hit(self, what: str, chance: float) -> Tensor:
        """Draw who is hit: `[B, 1, 1, 1]` bool."""
        return self._hit((what, chance))[self.rows]

    def factor(self, what: str, jitter: float, among: Chance | None = None) -> Tensor:
        """Draw numbers about 1, `[B, 1, 1, 1]`; 1 for samples that are not hit."""

        def make() -> Tensor:
            draw = self._uniform(what)
            hit = torch.ones_like(draw, dtype=torch.bool) if among is None else self._hit(among)
            return colour.factor(draw, jitter, hit)

        return self._kept((what, jitter, among), make)[self.rows]

    def between(self, what: str, low: float, high: float) -> Tensor:
        """Draw numbers from `low` to `high`: `[B]`."""

        def make() -> Tensor:
            return low + (high - low) * self._uniform(what)[:, 0, 0, 0]

        return self._kept((what, low, high), make)[self.rows]

    def normal(self, what: str, x: Tensor) -> Tensor:
        """Draw a standard normal number for each of x's."""
        return noise.normal_like(self.own, f"{self.name}:{what}", x)

    def _uniform(self, what: str) -> Tensor:
        if not self.made:
            purposes = [f"{self.name}:{one}" for one in ONCE]
            drawn = self.rng.uniform_of_each(purposes, 1)[..., None, None]
            self.made.update(zip(ONCE, drawn.unbind(), strict=True))
        return self.made[what]

    def _hit(self, of: Chance) -> Tensor:
        return self._kept(of, lambda: self._uniform(of[0]) < of[1])

    def _kept(self, what: object, make: Callable[[], Tensor]) -> Tensor:
        if what not in self.made:
            self.made[what] = make()
        return self.made[what]


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
        sigma = draws.between("blur", low, high) * share
        each = draws.hit("blurred", effects.blur_chance)
        power = isinstance(effects, RadarEffects) and anyone(each)
        if power:
            x = where_hit(each, 10.0 ** (x / 10.0), x)
        x = blurred(x, mask, sigma, high * share, each.view(-1))
        if power:
            x = where_hit(each, 10.0 * torch.log10(x.clamp(min=1e-12)), x)
    if isinstance(effects, OpticalEffects) and effects.solarise:
        below = effects.legacy_solarise_below
        hit = draws.hit("solarise", effects.solarise)
        x = colour.solarised(x, effects.solarise_at, below, hit)
    if isinstance(effects, RadarEffects) and effects.speckle_chance:
        hit = draws.hit("speckled", effects.speckle_chance)
        if anyone(hit):
            x = noise.speckled(x, effects.speckle, draws.normal(f"speckle:{modality}", x), hit)
    if isinstance(effects, HyperspectralEffects):
        x = _detected(x, mask, effects, draws, modality)
    return x


def _lit(x: Tensor, mask: Tensor | None, effects: Coloured, draws: _Draws) -> Tensor:
    """Change the light and the haze."""
    among = ("coloured", effects.colour_chance)
    if not anyone(draws.hit(*among)):
        return x
    if effects.brightness:
        x = x * draws.factor("brightness", effects.brightness, among)
    if effects.contrast:
        by = draws.factor("contrast", effects.contrast, among)
        x = colour.not_below_zero(colour.stretched(x, mask, by), x)
    return x


def _optical(x: Tensor, mask: Tensor | None, effects: OpticalEffects, draws: _Draws) -> Tensor:
    if effects.legacy_wrap:
        among = ("coloured", effects.colour_chance)
        hit = draws.hit(*among)
        brightness = draws.factor("brightness", effects.brightness, among)
        contrast = draws.factor("contrast", effects.contrast, among)
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
        x = colour.stretched(x, mask, draws.factor("contrast", effects.unsafe_contrast))
    if effects.unsafe_grey:
        x = colour.greyed(x, mask, draws.hit("grey", effects.unsafe_grey))
    return x


def _detected(
    x: Tensor, mask: Tensor | None, effects: HyperspectralEffects, draws: _Draws, modality: str
) -> Tensor:
    """Let calibration drift and add what a detector adds."""
    hit = draws.hit("noisy", effects.noise_chance)
    if not anyone(hit):
        return x
    if effects.noise:
        means = colour.band_means(x, mask)
        x = noise.noisy(x, means, effects.noise, draws.normal(f"noise:{modality}", x), hit)
    if effects.band_gain:
        gain = draws.normal(f"gain:{modality}", x[..., :1, :1])
        x = noise.drifted(x, effects.band_gain, gain, hit)
    return x
