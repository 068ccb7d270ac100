"""`view`: how an objective's view of a sample is made, in physical terms for each kind of sensor.

Each kind has effects of its own; the defaults of a kind are its safe set. What would say something
false of a sensor is not offered, or is named `unsafe_*` and off.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from fm.config import Config
from fm.errors import UsageError
from fm.sensors import Band
from pretrain.settings.kinds import Positive

Kind = Literal["optical", "hyperspectral", "radar", "other"]
"""Of a modality: what its numbers are, and so what may be done to them."""
NARROW_BANDS = 30
"""A modality of at least so many bands with wavelengths is hyperspectral."""

Chance = Annotated[float, Field(ge=0, le=1)]
Jitter = Annotated[float, Field(ge=0, lt=1)]

NO_HUE = (
    "reflectance has no hue or saturation: they are of three colours as an eye sees them; "
    "leave it out"
)


def kind_of(bands: Sequence[Band]) -> Kind:
    """Say what the numbers of a modality are.

    Decibels are `radar`, many narrow bands `hyperspectral` in any unit, reflectance `optical`;
    uncalibrated numbers, linear backscatter and mixtures are `other`.
    """
    units = {band.unit for band in bands}
    if units == {"dB"}:
        return "radar"
    if sum(band.wavelength_nm is not None for band in bands) >= NARROW_BANDS:
        return "hyperspectral"
    return "optical" if units == {"reflectance"} else "other"


class Effects(Config):
    """What all kinds have.

    Attributes:
        blur: lowest and highest standard deviation of a Gaussian blur, pixels of the finest grid
            (coarser grids are blurred over the same ground): optics of lower resolution. Of
            decibels it averages power, as more looks do.
        blur_chance: share of the views that are blurred.
    """

    refused: ClassVar[Mapping[str, str]] = {"hue": NO_HUE, "saturation": NO_HUE}

    blur: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0, le=16)]] = (0.1, 2.0)
    blur_chance: Chance = 0.0

    @model_validator(mode="before")
    @classmethod
    def _sensible(cls, values: Any) -> Any:
        for key in values if isinstance(values, dict) else ():
            if key in cls.refused:
                raise ValueError(f"{key}: {cls.refused[key]}")
        return values

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if self.blur[0] > self.blur[1]:
            raise ValueError(f"blur={list(self.blur)}: give [LOWEST, HIGHEST]")
        return self


class OpticalEffects(Effects):
    """Of reflectance in a few broad bands.

    The steps come in this order; the first two happen together or not at all.

    Attributes:
        colour_chance: share of the views whose brightness and contrast change.
        brightness: all bands of a view, on all its grids, are multiplied by one number between
            1 - brightness and 1 + brightness: more or less light, the same spectrum.
        contrast: deviations from each band's mean over the view are multiplied by one number
            between 1 - contrast and 1 + contrast: thicker or thinner haze. Reflectance that was
            not negative does not become so.
        grey: share of the views whose bands are replaced by their mean (over the bands of a
            grid): what is left is texture.
        solarise: share of the views whose reflectance from `solarise_at` on becomes 1 -
            reflectance; nothing in nature does that.
        solarise_at: reflectance.
        legacy_solarise_below: turn what lies below `solarise_at` instead: the dark, which in
            reflectance is nearly everything (SSL4EO-S12).
        legacy_wrap: reflectance is cut to [0, 1] and kept in 256 steps; brightness and contrast
            then begin again at 0 above 255 and at 255 below 0 (SSL4EO-S12, DeCUR).
    """

    colour_chance: Chance = 0.8
    brightness: Jitter = 0.4
    contrast: Jitter = 0.4
    grey: Chance = 0.2
    blur_chance: Chance = 0.5
    solarise: Chance = 0.0
    solarise_at: float = Field(0.5, ge=0, le=1)
    legacy_solarise_below: bool = False
    legacy_wrap: bool = False


class HyperspectralEffects(Effects):
    """Of many narrow bands: the shape of a spectrum stays.

    Attributes:
        colour_chance: as of optical sensors.
        brightness: as of optical sensors.
        contrast: as of optical sensors; off, for it moves the bands against each other.
        noise_chance: share of the views with `band_gain` and `noise`.
        band_gain: standard deviation of one factor a band: calibration that drifts.
        noise: standard deviation of what is added to each value, as a share of its band's mean
            over the view: 0.01 is a signal to noise ratio of 100.
        unsafe_grey: `grey` of optical sensors; takes the whole spectrum away.
    """

    refused: ClassVar[Mapping[str, str]] = {
        **Effects.refused,
        "grey": "the mean of all bands leaves nothing of a spectrum; ask for unsafe_grey",
        "solarise": "turns a spectrum upside down in part of its bands; leave it out",
    }

    colour_chance: Chance = 0.8
    brightness: Jitter = 0.2
    contrast: Jitter = 0.0
    blur_chance: Chance = 0.5
    noise_chance: Chance = 0.5
    band_gain: float = Field(0.01, ge=0, le=0.5)
    noise: float = Field(0.01, ge=0, le=1)
    unsafe_grey: Chance = 0.0


class RadarEffects(Effects):
    """Of backscatter in decibels.

    Attributes:
        speckle_chance: share of the views with more speckle.
        speckle: looks: the power of each pixel and polarisation is multiplied by a draw from a
            gamma distribution of mean 1 and variance 1 / looks (Goodman's speckle).
        gain_db: half-width of one number that is added to a view: a calibration that is off. It
            hides wet from dry, so it must be asked for.
        unsafe_contrast: `contrast` of optical sensors, on decibels: powers of backscatter.
        unsafe_grey: share of the views whose polarisations are replaced by their mean in decibels;
            takes away what tells water, forest and fields apart (DeCUR).
    """

    refused: ClassVar[Mapping[str, str]] = {
        **Effects.refused,
        "brightness": "a share of a number in dB means nothing; ask for gain_db, in dB",
        "contrast": "stretching dB raises backscatter to powers; ask for unsafe_contrast",
        "grey": "the mean of polarisations is no backscatter; ask for unsafe_grey",
        "solarise": "turning dB over means nothing; leave it out",
    }

    speckle_chance: Chance = 0.5
    speckle: float = Field(16.0, ge=4)
    gain_db: float = Field(0.0, ge=0)
    unsafe_contrast: Jitter = 0.0
    unsafe_grey: Chance = 0.0


class OtherEffects(Effects):
    """Of uncalibrated numbers and other units: nothing is known of them, so colours stay.

    Attributes:
        colour_chance: as of optical sensors.
        brightness: as of optical sensors; of numbers that are proportional to light.
        contrast: as of optical sensors.
        grey: as of optical sensors.
    """

    colour_chance: Chance = 0.8
    brightness: Jitter = 0.0
    contrast: Jitter = 0.0
    grey: Chance = 0.0


Side = Annotated[float, Field(gt=0, le=1)]
Ratio = Annotated[float, Field(gt=0)]
Flips = Literal["none", "horizontal", "square"]


class ViewConfig(Config):
    """How a view is made: where it is cut, how it is turned, and what is done to its numbers.

    Randomness is by the sample's position and the view's name alone.

    Attributes:
        size: side of the view in pixels of the sample's finest grid; coarser grids show the same
            ground. Null keeps the sample's.
        scale: smallest and largest share of the sample's area in a view.
        ratio: narrowest and widest ratio of its width to its height.
        resize: false cuts `size` pixels as they are stored, on whole pixels of the coarsest grid,
            so that nothing is interpolated; `scale` and `ratio` are not used then.
        flips: `horizontal`, left and right in half of the views; `square`, one of the eight
            symmetries of the square (four where it is not square). `augment.dihedral` turns all
            views of a sample together before.
        optical: reflectance in a few bands.
        hyperspectral: many narrow bands.
        radar: backscatter in decibels.
        other: all other numbers.
    """

    size: Positive | None = None
    scale: tuple[Side, Side] = (0.2, 1.0)
    ratio: tuple[Ratio, Ratio] = (3 / 4, 4 / 3)
    resize: bool = True
    flips: Flips = "horizontal"
    optical: OpticalEffects = OpticalEffects()
    hyperspectral: HyperspectralEffects = HyperspectralEffects()
    radar: RadarEffects = RadarEffects()
    other: OtherEffects = OtherEffects()

    @model_validator(mode="before")
    @classmethod
    def _has_a_sensor(cls, values: Any) -> Any:
        effects = ("brightness", "contrast", "grey", "blur", "solarise", "noise", "speckle")
        for key in values if isinstance(values, dict) else ():
            if key in Effects.refused:
                raise ValueError(f"{key}: {Effects.refused[key]}")
            if key in effects:
                raise ValueError(
                    f"{key}: say of which sensors, such as optical.{key} or radar.{key}"
                )
        return values

    @model_validator(mode="after")
    def _sound(self) -> Self:
        for key in ("scale", "ratio"):
            low, high = getattr(self, key)
            if low > high:
                raise ValueError(f"{key}={[low, high]}: give [LOWEST, HIGHEST]")
        if not self.resize and self.size is None:
            raise ValueError("resize=false has nothing to cut; give size=PIXELS")
        return self

    @property
    def whole(self) -> bool:
        """Views show the whole sample on its own pixels."""
        plain = self.size is None and self.scale == (1.0, 1.0) and self.ratio == (1.0, 1.0)
        return plain and self.resize

    def without_effects(self) -> Self:
        """Return views that are cut alike, neither turned nor changed otherwise."""
        still = {
            "optical": OpticalEffects(colour_chance=0.0, grey=0.0, blur_chance=0.0),
            "hyperspectral": HyperspectralEffects(
                colour_chance=0.0, blur_chance=0.0, noise_chance=0.0
            ),
            "radar": RadarEffects(speckle_chance=0.0),
            "other": OtherEffects(colour_chance=0.0),
        }
        return self.model_copy(update={"flips": "none", **still})

    def effects(self, kind: Kind) -> Effects:
        """Return what is done to a kind of sensor."""
        found: Effects = getattr(self, kind)
        return found

    def check(self, bands: Mapping[str, Sequence[Band]], where: str) -> None:
        """Refuse effects that are set for sensors that are not there.

        Args:
            bands: of each modality that the model takes.
            where: the key this config is written under, for errors.

        Raises:
            UsageError: in one line.
        """
        kinds = {kind_of(own) for own in bands.values()}
        for kind in self._set():
            if kind not in kinds:
                told = ", ".join(f"{name} ({kind_of(own)})" for name, own in bands.items())
                raise UsageError(
                    f"{where}.{kind} is set, and no modality is {kind}: {told}; leave it out"
                )

    def _set(self) -> Iterator[Kind]:
        kinds: tuple[Kind, ...] = ("optical", "hyperspectral", "radar", "other")
        for kind in kinds:
            if self.effects(kind).model_fields_set:
                yield kind
