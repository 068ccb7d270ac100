"""Views of images whose place is asked for: cut, turned and blurred, in the units they have.

SatCLIP's published augmentation (Klemmer et al., arXiv 2311.17179, and its code): a random crop of
pixels as they are stored, flips, a Gaussian blur of every image; brightness, contrast and bands
stay, since what a place looks like is told by them.
"""

from typing import Any

from pydantic import model_validator

from pretrain.settings.view import (
    Chance,
    Flips,
    HyperspectralEffects,
    OpticalEffects,
    OtherEffects,
    RadarEffects,
    Ratio,
    Side,
    ViewConfig,
)


class Optical(OpticalEffects):
    """Of reflectance in a few broad bands: blur alone, unless colours are asked for.

    Attributes:
        colour_chance: as of all views.
        grey: as of all views.
        blur_chance: as of all views.
    """

    colour_chance: Chance = 0.0
    grey: Chance = 0.0
    blur_chance: Chance = 1.0


class Hyperspectral(HyperspectralEffects):
    """Of many narrow bands: blur alone, unless light and noise are asked for.

    Attributes:
        colour_chance: as of all views.
        noise_chance: as of all views.
        blur_chance: as of all views.
    """

    colour_chance: Chance = 0.0
    noise_chance: Chance = 0.0
    blur_chance: Chance = 1.0


class Radar(RadarEffects):
    """Of decibels: blur alone, unless speckle is asked for.

    Attributes:
        speckle_chance: as of all views.
        blur_chance: as of all views.
    """

    speckle_chance: Chance = 0.0
    blur_chance: Chance = 1.0


class Other(OtherEffects):
    """Of all other numbers: blur alone, unless colours are asked for.

    Attributes:
        colour_chance: as of all views.
        blur_chance: as of all views.
    """

    colour_chance: Chance = 0.0
    blur_chance: Chance = 1.0


class PlaceView(ViewConfig):
    """How an image is shown: as published where nothing is said.

    Attributes:
        size: pixels that are cut as they are stored; null shows the sample whole. With `scale`,
            `ratio` or `resize` it is the size to which a part is resampled.
        scale: as of all views.
        ratio: as of all views.
        flips: as of all views; `square` has the published flips to both sides, and turns.
        optical: reflectance in a few bands.
        hyperspectral: many narrow bands.
        radar: backscatter in decibels.
        other: all other numbers.
    """

    scale: tuple[Side, Side] = (1.0, 1.0)
    ratio: tuple[Ratio, Ratio] = (1.0, 1.0)
    flips: Flips = "square"
    optical: Optical = Optical()
    hyperspectral: Hyperspectral = Hyperspectral()
    radar: Radar = Radar()
    other: Other = Other()

    @model_validator(mode="before")
    @classmethod
    def _cut_as_stored(cls, values: Any) -> Any:
        resampled = {"resize", "scale", "ratio"}
        if isinstance(values, dict) and values.get("size") and not resampled & values.keys():
            return {"resize": False, **values}
        return values
