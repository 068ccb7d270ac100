"""What every backbone is: bands in, features out."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fm.errors import UsageError, suggest
from fm.models.features import Features
from fm.models.inputs import Inputs, Scaling, check_scaling, normalisation_at
from fm.models.intake import Intake
from fm.models.layout import Member
from fm.models.metadata import check_known
from fm.models.series import images_in, strip
from fm.normalize import Normalisation
from fm.sensors import Band

if TYPE_CHECKING:
    from fm.card import Card
    from fm.models.embed.basis import SpectralBasis


class Backbone(nn.Module, ABC):
    """Base of the backbones.

    Args:
        intake: what it takes; the attributes `groups` (by name), `bands`, `normalisation` and
            `scaling` are of it.

    Attributes:
        architecture: the arguments of `fm.create_model`, which puts them here; stored in the card.
        width: D of the tokens.
        metric: positions are in metres, so that images of another sampling distance may be given.
        series: a sample may be several images, each with its time.
    """

    width: int
    metric: bool = False
    series: bool = False

    def __init__(self, intake: Intake) -> None:
        super().__init__()
        check_scaling(intake.scaling, "")
        self.groups = {group.name: group for group in intake.groups}
        self.bands = dict(intake.bands)
        self.normalisation = dict(intake.normalisation)
        self.scaling = dict(intake.scaling)
        self.architecture: dict[str, Any] = {}
        self.card: Card | None = None

    def takes_other_bands(self, modality: str) -> bool:
        """Say whether `modality` may come with bands the model was not built with."""
        del modality
        return False

    def bases(self) -> list[tuple[Member, "SpectralBasis"]]:
        """Return the spectral bases that unlabelled pixels must fit before training."""
        return []

    def block_modules(self) -> list[nn.Module]:
        """Return the modules that the trunk is made of, which take most of the weights and memory.

        Each is used by calling it alone, with tensors first among its arguments and as its result:
        so it may be compiled, computed again in the backward pass, and its weights may be brought
        to the device for it only.
        """
        return []

    @abstractmethod
    def _encode(self, inputs: Inputs, hidden: bool) -> Features:
        """Encode checked inputs."""

    def encode(
        self,
        pixels: Mapping[str, Tensor],
        *,
        bands: Mapping[str, Sequence[Band | str]] | None = None,
        valid: Mapping[str, Tensor] | None = None,
        lonlat: Tensor | None = None,
        time: Tensor | None = None,
        times: Tensor | None = None,
        gsd: Mapping[str, float] | None = None,
        scaling: Scaling | None = None,
        normalisation: Mapping[str, Normalisation] | None = None,
        hidden: bool = False,
    ) -> Features:
        """Encode images.

        Args:
            pixels: modality to `[B, C, H, W]`, or `[B, T, C, H, W]` where the model takes series,
                all modalities with the same T. Integer tensors are stored numbers and are scaled
                with the model's (or the given) scale and offset; floating ones are physical
                already (reflectance as a fraction, dB).
            bands: modality to the bands of the channels as given. Names are put into the model's
                order. A model that is a function of its bands also takes `Band`s it has never
                seen. None says that they are the model's, in its order.
            valid: modality to `[B, H, W]` or `[B, C, H, W]` bool, of series with T after B; invalid
                values are not used, and tokens without a valid pixel are left out of attention and
                pooling.
            lonlat: `[B, 2]` degrees, NaN where unknown; used by models with location metadata.
            time: `[B]` seconds since 1970 UTC, NaN where unknown; used likewise, and as the time of
                a single image by models that take series.
            times: `[B, T]` likewise, of each image of a series; must be given with one.
            gsd: modality to metres; must be the model's own unless its positions are in metres.
                That of `Band`s that the model has never seen when None.
            scaling: modality to (scale, offset) of integer pixels, where it is not the model's.
            normalisation: modality to the normalisation of the given bands, where it is not the
                model's (interpolated in wavelength for bands it does not know).
            hidden: also return the tokens after each block.

        Raises:
            UsageError: modalities, bands, sizes or sampling distance do not fit the model.
        """
        inputs = self.inputs(
            pixels,
            bands=bands,
            valid=valid,
            lonlat=lonlat,
            time=time,
            times=times,
            gsd=gsd,
            scaling=scaling,
            normalisation=normalisation,
        )
        return self._encode(inputs, hidden)

    def forward(self, pixels: Mapping[str, Tensor], **options: Any) -> Features:
        """Same as `encode`."""
        return self.encode(pixels, **options)

    def inputs(
        self,
        pixels: Mapping[str, Tensor],
        *,
        bands: Mapping[str, Sequence[Band | str]] | None = None,
        valid: Mapping[str, Tensor] | None = None,
        lonlat: Tensor | None = None,
        time: Tensor | None = None,
        times: Tensor | None = None,
        gsd: Mapping[str, float] | None = None,
        scaling: Scaling | None = None,
        normalisation: Mapping[str, Normalisation] | None = None,
    ) -> Inputs:
        """Check a batch and put its channels into order; arguments and errors as `encode`."""
        if not isinstance(pixels, Mapping):
            raise UsageError(
                f"pixels: expected a dict of modality to tensor, got {type(pixels).__name__}; the "
                f"model takes {', '.join(self.bands)}"
            )
        unknown = sorted(set(pixels) - set(self.bands))
        if unknown:
            raise UsageError(
                f"the model does not take {', '.join(unknown)}; it takes {', '.join(self.bands)}"
            )
        if not pixels:
            raise UsageError(f"no pixels given; the model takes {', '.join(self.bands)}")
        named = {"bands": bands, "valid": valid, "gsd": gsd, "scaling": scaling}
        for what, given_for in (named | {"normalisation": normalisation}).items():
            if extra := sorted(set(given_for or {}) - set(self.bands)):
                raise UsageError(
                    f"{what} names {', '.join(extra)}, which the model does not take; "
                    f"{suggest(extra[0], self.bands)}"
                )
        self._check_kinds(pixels, lonlat, time, times)
        self._check_metadata(next(iter(pixels.values())).shape[0], lonlat, time)
        check_known(lonlat, time if times is None else times)
        check_scaling(scaling or {}, "encode: ")
        self._check_series(pixels, valid, times)
        arrays, masks = dict(pixels), dict(valid) if valid is not None else None
        images = images_in(arrays)
        if times is not None:
            arrays = {name: strip(x) for name, x in arrays.items()}
            if masks is not None:
                masks = {name: strip(x) for name, x in masks.items() if name in arrays}
        chosen: dict[str, tuple[Band, ...]] = {}
        used: dict[str, Normalisation] = {}
        calibrated = set(pixels)
        distances = dict(gsd or {})
        for modality in pixels:
            given = (bands or {}).get(modality)
            own = self.bands[modality]
            chosen[modality], order = self._match(modality, given, arrays[modality])
            if modality not in distances and chosen[modality] != own:
                metres = _distance(modality, chosen[modality])
                if {metres} != {band.gsd_m for band in own}:
                    distances[modality] = metres
            if order is not None:
                arrays[modality] = arrays[modality][:, order]
                if masks is not None and modality in masks and masks[modality].ndim == 4:
                    masks[modality] = masks[modality][:, order]
            if normalisation is not None and modality in normalisation:
                found = normalisation[modality]
                if len(found) != len(chosen[modality]):
                    raise UsageError(
                        f"normalisation[{modality!r}] is of {len(found)} bands, the pixels have "
                        f"{len(chosen[modality])}"
                    )
                used[modality] = found.select(order) if order is not None else found
            elif chosen[modality] == own:
                used[modality] = self.normalisation[modality]
            else:
                used[modality], exact = normalisation_at(
                    self.normalisation[modality], own, chosen[modality], modality
                )
                if not exact:
                    calibrated.discard(modality)
            self._check_shape(modality, arrays[modality], chosen[modality], masks)
        self._check_gsd(distances)
        return Inputs(
            pixels=arrays,
            bands=chosen,
            scaling={m: (scaling or {}).get(m, self.scaling[m]) for m in pixels},
            normalisation=used,
            calibrated=frozenset(calibrated),
            valid=masks,
            gsd=distances or None,
            lonlat=lonlat,
            time=time,
            images=images,
            times=times,
        )

    def grids(self, pixels: Mapping[str, Tensor]) -> dict[str, tuple[int, int]]:
        """Return the token grid of each group that is present.

        Raises:
            UsageError: sizes that do not fit the tokens, or no known modality.
        """
        grids = {name: group.grid(pixels) for name, group in self.groups.items()}
        present = {name: grid for name, grid in grids.items() if grid is not None}
        if not present:
            raise UsageError(f"no pixels given; the model takes {', '.join(self.bands)}")
        return present

    def _check_shape(
        self,
        modality: str,
        x: Tensor,
        bands: tuple[Band, ...],
        valid: Mapping[str, Tensor] | None,
    ) -> None:
        if x.ndim != 4 or x.shape[1] != len(bands):
            raise UsageError(
                f"{modality}: expected [B, {len(bands)}, H, W] for bands "
                f"{', '.join(b.name for b in bands)}; got {list(x.shape)}"
            )
        mask = (valid or {}).get(modality)
        if mask is not None:
            shapes = [list(x.shape), [x.shape[0], *x.shape[-2:]]]
            if list(mask.shape) not in shapes or mask.dtype != torch.bool:
                raise UsageError(
                    f"valid[{modality!r}]: expected bool {shapes[1]} or {shapes[0]}, got "
                    f"{str(mask.dtype).removeprefix('torch.')} {list(mask.shape)}"
                )

    def _check_kinds(self, pixels: Mapping[str, Tensor], *told: Tensor | None) -> None:
        for name, x in pixels.items():
            if not isinstance(x, Tensor):
                raise UsageError(f"{name}: expected a torch tensor, got {type(x).__name__}")
            if not x.ndim:
                raise UsageError(f"{name}: expected [B, C, H, W], got a single number")
            if x.dtype == torch.bool or x.is_complex():
                raise UsageError(f"{name}: {x.dtype} is no pixel; give integers or floats")
        count = next(iter(pixels.values())).shape[0]
        for name, x in pixels.items():
            if x.shape[0] != count:
                raise UsageError(
                    f"{name}: {x.shape[0]} samples, {next(iter(pixels))} has {count}; every "
                    f"modality has the same samples"
                )
        for value in told:
            if value is not None and not isinstance(value, Tensor):
                raise UsageError(
                    f"lonlat, time and times are torch tensors, not {type(value).__name__}"
                )

    def _check_metadata(self, count: int, lonlat: Tensor | None, time: Tensor | None) -> None:
        for name, value, shape in (("lonlat", lonlat, [count, 2]), ("time", time, [count])):
            if value is not None and list(value.shape) != shape:
                raise UsageError(
                    f"{name}: expected {shape} for {count} samples, got {list(value.shape)}"
                )

    def _check_series(
        self,
        pixels: Mapping[str, Tensor],
        valid: Mapping[str, Tensor] | None,
        times: Tensor | None,
    ) -> None:
        name, first = next(iter(pixels.items()))
        several = False
        for modality, image in pixels.items():
            if image.ndim == 5:
                name, first, several = modality, image, True
                break
        if several and not self.series:
            raise UsageError(
                f"{name}: series of images {list(first.shape)}, the model takes single ones; build "
                f"a ViT with time_code_width, or give [B, C, H, W]"
            )
        if not several:
            if times is not None:
                raise UsageError("times: the pixels are single images; give [B, T, C, H, W]")
            return
        shape = [len(first), images_in(pixels)]
        if times is None or list(times.shape) != shape:
            got = "none" if times is None else list(times.shape)
            raise UsageError(
                f"times: expected {shape}, the seconds since 1970 UTC of each image (NaN where "
                f"unknown); got {got}"
            )
        self.grids(pixels)  # each image is whole tokens, not only all of them together
        for modality, mask in (valid or {}).items():
            x = pixels.get(modality)
            if x is not None and list(mask.shape) not in (list(x.shape), [*shape, *x.shape[-2:]]):
                raise UsageError(
                    f"valid[{modality!r}]: expected {[*shape, *x.shape[-2:]]} or {list(x.shape)}, "
                    f"got {list(mask.shape)}"
                )

    def _check_gsd(self, gsd: Mapping[str, float]) -> None:
        for modality, metres in gsd.items():
            own = {band.gsd_m for band in self.bands.get(modality, ())}
            if own and own != {metres} and not self.metric:
                raise UsageError(
                    f"{modality}: pixels of {metres:g} m, the model takes {own.pop():g} m; "
                    f"resample them first"
                )

    def _match(
        self, modality: str, given: Sequence[Band | str] | None, pixels: Tensor
    ) -> tuple[tuple[Band, ...], list[int] | None]:
        """Return the bands of the channels and, where they must be reordered, how."""
        own = self.bands[modality]
        if given is None:
            return own, None
        have = [band if isinstance(band, str) else band.name for band in given]
        want = [band.name for band in own]
        if len(set(have)) != len(have) or pixels.ndim != 4 or len(have) != pixels.shape[1]:
            raise UsageError(
                f"{modality}: {pixels.shape[1] if pixels.ndim > 1 else 0} channels with the band "
                f"list {', '.join(have)}; name each channel once"
            )
        flexible = self.takes_other_bands(modality)
        if flexible and all(isinstance(band, Band) for band in given):
            listed = tuple(band for band in given if isinstance(band, Band))
            if set(listed) != set(own):
                return listed, None
        _check_places(modality, given, {band.name: band for band in own})
        if set(have) == set(want):
            return own, None if have == want else [have.index(name) for name in want]
        missing = [name for name in want if name not in have]
        extra = [name for name in have if name not in want]
        if flexible and not extra:
            table = {band.name: band for band in own}
            return tuple(table[name] for name in have), None
        hint = (
            "give them as Bands with wavelengths"
            if flexible
            else "give the model's bands or adapt it with fm.adapt.to_bands"
        )
        raise UsageError(
            f"{modality}: the bands do not match the model's: "
            f"missing {', '.join(missing) or 'none'}; "
            f"not known {', '.join(extra) or 'none'}; {hint}"
        )


NEAR_NM = 20.0
"""Centres of bands of one name may differ this far: Sentinel-2A and 2B, recalibrated sensors."""


def _check_places(modality: str, given: Sequence[Band | str], table: Mapping[str, Band]) -> None:
    """Refuse `Band`s that have the name of one of the model's and lie elsewhere.

    Raises:
        UsageError: the centres are further apart than `NEAR_NM` and than half the wider band.
    """
    for band in given:
        own = None if isinstance(band, str) else table.get(band.name)
        if isinstance(band, str) or own is None:
            continue
        if band.wavelength_nm is None or own.wavelength_nm is None:
            continue
        allowed = max(NEAR_NM, (band.fwhm_nm or 0.0) / 2, (own.fwhm_nm or 0.0) / 2)
        if abs(band.wavelength_nm - own.wavelength_nm) > allowed:
            raise UsageError(
                f"{modality}: band {band.name} is given at {band.wavelength_nm:g} nm, the model's "
                f"lies at {own.wavelength_nm:g} nm; check the band list"
            )


def _distance(modality: str, bands: Sequence[Band]) -> float:
    """Return the sampling distance that bands share.

    Raises:
        UsageError: they lie on several grids.
    """
    found = sorted({band.gsd_m for band in bands})
    if len(found) > 1:
        raise UsageError(
            f"{modality}: bands on different grids {found} m; the channels of one array share one: "
            f"split them, or resample them and give Bands that say so"
        )
    return found[0]
