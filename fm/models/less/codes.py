"""What tells cells apart: place and wavelength, added to them or turning queries and keys."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from fm.errors import UsageError
from fm.models.less.attention import Context
from fm.models.less.axis import Axis
from fm.models.less.mask import perception_field
from fm.models.less.positions import place_code, wavelength_code
from fm.models.less.rope import (
    Turn,
    WavelengthAxis,
    grid_coordinates,
    spatial_angles,
    spectral_angles,
)
from fm.sensors import Band, wavelengths

KINDS = ("rope", "sum")


@dataclass(frozen=True)
class CodeSettings:
    """How cells are coded, the same in the encoder and in a decoder.

    Attributes:
        kind: `rope` rotates queries and keys (v2), `sum` adds codes at the input (v1).
        axis: the wavelength axis of `rope`.
        finer: see `spectral_angles`.
        legacy_positions: the published `sum` counts one pixel's metres a token, whatever the
            patch; False counts the token's.
        radar_wavelengths: polarisation to the wavelength in nanometres that stands for it, as
            published; None learns a code of each polarisation instead.
        perception_m: radius of the perception field, metres; None sees everything.
    """

    kind: str = "rope"
    axis: WavelengthAxis = field(default_factory=WavelengthAxis)
    finer: bool = False
    legacy_positions: bool = False
    radar_wavelengths: Mapping[str, float] | None = None
    perception_m: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"codes={self.kind!r}: give one of {', '.join(KINDS)}")
        if self.perception_m is not None and self.perception_m <= 0:
            raise UsageError(f"perception_m={self.perception_m:g} must be positive")


@dataclass(frozen=True)
class Codes:
    """The codes of C channels and N positions, without the class index.

    Attributes:
        position: `[B or 1, N, D]` to be added, None when nothing is.
        channel: `[B or 1, C, D]` to be added.
        spatial_angle: `[B or 1, h or 1, N, s / 2]`.
        channel_angle: `[B or 1, h or 1, C, c / 2]`.
        near: `[B or 1, 1 + N, 1 + N]` bool, the class index first.
    """

    position: Tensor | None = None
    channel: Tensor | None = None
    spatial_angle: Tensor | None = None
    channel_angle: Tensor | None = None
    near: Tensor | None = None

    def take(self, channels: Tensor, positions: Tensor) -> "Codes":
        """Keep `channels` `[B, L]` and `positions` `[B, K]`, each sample its own."""
        kept = functional.pad(positions + 1, (1, 0))
        position, channel = self.position, self.channel
        spatial, spectral, near = self.spatial_angle, self.channel_angle, self.near
        return Codes(
            position=None if position is None else position[0, positions],
            channel=None if channel is None else channel[0, channels],
            spatial_angle=None if spatial is None else spatial[0, :, positions].transpose(0, 1),
            channel_angle=None if spectral is None else spectral[0, :, channels].transpose(0, 1),
            near=None if near is None else near[0, kept[:, :, None], kept[:, None]],
        )

    def added(self) -> Tensor | None:
        """Return what is added to the cells: `[B or 1, 1 + C, 1 + N, D]`.

        The class row has no wavelength and the class column no place: there they add 0.
        """
        parts = []
        if self.channel is not None:
            parts.append(functional.pad(self.channel, (0, 0, 1, 0))[:, :, None])
        if self.position is not None:
            parts.append(functional.pad(self.position, (0, 0, 1, 0))[:, None])
        return sum(parts[1:], parts[0]) if parts else None

    def context(self, cells: Tensor | None = None) -> Context:
        """Return what the attentions take; the class index is not rotated."""
        turns = [
            None if angle is None else Turn.by(functional.pad(angle, (0, 0, 1, 0))[:, None])
            for angle in (self.channel_angle, self.spatial_angle)
        ]
        return Context(turns[0], turns[1], self.near, cells)


class PositionChannelCode(nn.Module):
    """Codes at one width; only the codes of polarisations are learned.

    Args:
        width: D of what is coded.
        heads: h of its attentions.
        channel_dim: c, see `AttentionShape`.
        settings: see `CodeSettings`.
        polarisations: that get a learned code.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        channel_dim: int,
        settings: CodeSettings,
        polarisations: Sequence[str] = (),
    ) -> None:
        super().__init__()
        spatial_dim = width // heads // channel_dim
        if settings.kind == "rope" and (channel_dim % 2 or spatial_dim % 4):
            raise UsageError(
                f"codes=rope needs an even channel_dim and a spatial one that is a multiple of 4; "
                f"a head of {width // heads} with channel_dim {channel_dim} leaves {spatial_dim}"
            )
        if width % 4:
            raise UsageError(f"width {width} must be a multiple of 4")
        self.width, self.heads, self.settings = width, heads, settings
        self.channel_dim, self.spatial_dim = channel_dim, spatial_dim
        learned = polarisations if settings.radar_wavelengths is None else ()
        self.polarisation = nn.ParameterDict(
            {name: nn.Parameter(torch.randn(width) * 0.02) for name in learned}
        )

    def _wavelength(self, band: Band) -> float | None:
        """Return a band's wavelength; None for a radar band, which has a learned code."""
        if band.polarisation is None:
            return wavelengths((band,))[0]
        table = self.settings.radar_wavelengths
        known = self.polarisation if table is None else table
        if band.polarisation not in known:
            raise UsageError(
                f"band {band.name}: the model knows no polarisation {band.polarisation}, only "
                f"{', '.join(known) or 'optical bands'}"
            )
        return None if table is None else float(table[band.polarisation])

    def forward(self, axis: Axis, device: torch.device) -> Codes:
        """Make the codes of all channels and positions of a call."""
        settings, (rows, columns) = self.settings, axis.grid
        known = [self._wavelength(band) for band in axis.bands]
        at = torch.tensor([nm or 0.0 for nm in known], dtype=torch.float64, device=device)
        optical = torch.tensor([nm is not None for nm in known], device=device)
        near = None
        if settings.perception_m is not None:
            near = perception_field(rows, columns, axis.token_m, settings.perception_m, device)
            near = near[None]
        learned = None
        if not all(nm is not None for nm in known):
            zero = torch.zeros(self.width, device=device)
            learned = torch.stack(
                [
                    self.polarisation[str(band.polarisation)] if nm is None else zero
                    for band, nm in zip(axis.bands, known, strict=True)
                ]
            )
        if settings.kind == "sum":
            step = axis.pixel_m if settings.legacy_positions else axis.token_m
            code = wavelength_code(self.width, at).float() * optical[:, None]
            channel = code if learned is None else code + learned
            position = place_code(self.width, rows, columns, step, device)
            return Codes(position=position[None], channel=channel[None], near=near)
        places = grid_coordinates(rows, columns, device)
        spectral = spectral_angles(
            settings.axis.coordinate(at.clamp(min=1.0)),
            self.channel_dim,
            self.heads,
            settings.finer,
        )
        return Codes(
            channel=None if learned is None else learned[None],
            spatial_angle=spatial_angles(places, self.spatial_dim, self.heads, settings.finer)[
                None
            ],
            channel_angle=(spectral * optical[:, None])[None],
            near=near,
        )
