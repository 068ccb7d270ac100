"""Band lists that an export leaves open."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fm.sensors import Band, wavelengths


class OpenBands(tuple[Band, ...]):
    """Bands of which nothing is known but a tensor of wavelengths: what an exported graph is given.

    Attributes:
        centres: `[C]` float64 nanometres.
    """

    centres: Tensor

    @classmethod
    def at(cls, centres: Tensor) -> "OpenBands":
        """Make bands at `[C]` wavelengths."""
        made = cls()
        made.centres = centres
        return made


def centres_of(bands: Sequence[Band], device: torch.device) -> Tensor:
    """Return the centre wavelengths of bands, `[C]` float64 nanometres.

    Raises:
        UsageError: a band without one.
    """
    if isinstance(bands, OpenBands):
        return bands.centres.to(device)
    return torch.tensor(wavelengths(bands), dtype=torch.float64, device=device)
