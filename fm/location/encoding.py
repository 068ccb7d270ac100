"""What every encoding of places promises."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from fm.errors import FMError
from fm.hardware import full_precision

_BLOCK_BYTES = 24 << 20
"""Features made at a time on a CPU: what the allocator gives back without asking the system."""
_DEVICE_BYTES = 256 << 20


class Encoding(nn.Module):
    """Turns places into features.

    Features are float32 whatever the autocast and also after `.half()` or `.bfloat16()`, which
    would lose the fine frequencies; after `.double()` they are float64. Angles are float64 inside,
    so give coordinates as float64 where they are known to better than a metre.

    Attributes:
        dim: D, features of a place.
        fixed: no feature depends on a parameter, so features can be made again at no loss.
    """

    dim: int
    fixed = True
    anchor: Tensor

    def __init__(self) -> None:
        super().__init__()
        # follows .to(): tells which device and precision are asked for
        self.register_buffer("anchor", torch.zeros(0), persistent=False)

    @property
    def dtype(self) -> torch.dtype:
        """Of the features."""
        return torch.float64 if self.anchor.dtype == torch.float64 else torch.float32

    def forward(self, lonlat: Tensor) -> Tensor:
        """Encode places.

        Args:
            lonlat: `[N, 2]` longitude and latitude in degrees, in this order.

        Returns:
            `[N, dim]`.

        Raises:
            FMError: another shape, or (looked at on the CPU only) a latitude beyond the poles.
        """
        check(lonlat)
        with full_precision(lonlat.device):
            return self.encode(lonlat.to(self.anchor.device, torch.float64))

    def encode(self, lonlat: Tensor) -> Tensor:
        """Encode `[N, 2]` float64 degrees; `forward` has checked them."""
        raise NotImplementedError

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Encoding":
        def kept(value: Tensor) -> Tensor:
            moved = fn(value)
            short = moved.is_floating_point() and moved.dtype.itemsize < 4
            fixed = short and not isinstance(value, nn.Parameter)
            return value.to(moved.device) if fixed else moved

        super()._apply(kept, recurse)
        self.rebuild()
        return self

    def rebuild(self) -> None:
        """Make constants anew from float64 for the present device and precision."""


def block_of(encoding: Encoding) -> int:
    """Return how many places are encoded at a time."""
    bytes_each = encoding.dim * encoding.dtype.itemsize
    if encoding.anchor.device.type != "cpu":
        return max(1024, _DEVICE_BYTES // bytes_each)
    return max(256, min(4096, _BLOCK_BYTES // bytes_each))


def check(lonlat: Tensor) -> None:
    """Refuse what are no places.

    Raises:
        FMError: see `Encoding.forward`.
    """
    if not isinstance(lonlat, Tensor):
        raise FMError(f"places are a torch tensor [N, 2], not {type(lonlat).__name__}")
    if lonlat.ndim != 2 or lonlat.shape[1] != 2:
        raise FMError(f"places are [N, 2] longitude and latitude, not {list(lonlat.shape)}")
    if lonlat.device.type != "cpu" or torch.compiler.is_compiling() or not len(lonlat):
        return  # a look at the values would make the device wait
    # not by the largest: that of a batch with an unknown place is NaN, which exceeds nothing
    if bool((lonlat.detach()[:, 1].abs() > 90 + 1e-6).any()):
        raise FMError("a latitude lies beyond the poles; coordinates are (lon, lat) in degrees")


def wrapped(lon: Tensor) -> Tensor:
    """Bring longitudes in degrees to -180 to 180; both ends stay what they are."""
    return lon - 360 * torch.round(lon.detach() / 360)


def spherical(lonlat: Tensor) -> tuple[Tensor, Tensor]:
    """Return longitude `[N]`, wrapped, and latitude `[N]` in radians."""
    lon, lat = lonlat.unbind(1)
    return torch.deg2rad(wrapped(lon)), torch.deg2rad(lat)


def unit_vector(lonlat: Tensor) -> Tensor:
    """Return `[N, 3]` x to (0 E, 0 N), y to (90 E, 0 N), z to the north pole."""
    lon, lat = spherical(lonlat)
    return torch.stack([lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()], dim=1)
