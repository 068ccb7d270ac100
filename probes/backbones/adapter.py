"""Any network as probes need a model: named bands in, features out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fm.card import Card
from fm.errors import UsageError
from fm.models.features import Features
from fm.normalize import Normalisation
from fm.sensors import Band

if TYPE_CHECKING:
    from probes.backbones.feed import ForeignFeed

MODALITY = "image"
"""The one array that a foreign network takes."""


def rgb(*, reverse: bool = False) -> tuple[Band, ...]:
    """Bands of a network trained on colour pictures: R, G, B; with `reverse` B, G, R."""
    table = (("R", 665.0), ("G", 560.0), ("B", 490.0))
    bands = tuple(Band(name, nm, 80.0, 0.0, "dn", None, MODALITY) for name, nm in table)
    return bands[::-1] if reverse else bands


@dataclass(frozen=True)
class Intake:
    """What a network wants of an image.

    Attributes:
        bands: of its channels, in their order. A network whose weights want blue first lists B,
            G, R.
        normalisation: of values in `unit`; None where nobody says.
        unit: what `normalisation` is of: `display` (1 is the full scale of a picture),
            `reflectance`, `dB`; None where nobody says.
        size: (rows, columns) it was trained on; None when not known.
        fixed: it takes no other size.
        multiple: its sides are whole multiples of this.
        declared: the words by which the user named `bands`, where nobody else confirms them.
        doubt: what a reader has to know of that.
    """

    bands: tuple[Band, ...]
    normalisation: Normalisation | None = None
    unit: str | None = None
    size: tuple[int, int] | None = None
    fixed: bool = False
    multiple: int = 1
    declared: str | None = None
    doubt: str = ""

    def __post_init__(self) -> None:
        names = [band.name for band in self.bands]
        if not names or len(set(names)) != len(names):
            raise UsageError(f"bands {', '.join(names) or 'none'}: name each channel once")
        if self.normalisation is not None and len(self.normalisation) != len(names):
            raise UsageError(
                f"the normaliser is of {len(self.normalisation)} bands, the network takes "
                f"{len(names)} ({', '.join(names)})"
            )


@dataclass(frozen=True)
class Output:
    """What a network says of images.

    Attributes:
        pooled: `[B, D]`.
        tokens: `[B, N, E]`, row-major; None where it gives vectors alone.
        grid: rows and columns of `tokens`.
    """

    pooled: Tensor
    tokens: Tensor | None = None
    grid: tuple[int, int] = (0, 0)


class Adapter(nn.Module):
    """A foreign network.

    `encode` takes what benchmarks give: several modalities with their band names. It is put into
    the network's channels by name and wavelength (`probes.backbones.align`), never by position.

    Args:
        network: the module.
        run: (network, image `[B, C, H, W]`) to `Output`.
        intake: what it wants of an image.
        width: D of the pooled features.
        card: name, architecture, provenance.
        source: what the user named it by.
        fresh: seed to the same adapter with random weights; None where that cannot be had.
        pretrained: the weights are trained.

    Attributes:
        bands: `image` to the network's bands.
        feed: how the pixels of the benchmark at hand come in; None until `bind`.
    """

    groups: Mapping[str, Any] = {}
    """No token groups of ours: images are not extended to whole tokens."""

    def __init__(
        self,
        network: nn.Module,
        run: Callable[[nn.Module, Tensor], Output],
        intake: Intake,
        *,
        width: int,
        card: Card,
        source: str,
        fresh: "Callable[[int], Adapter] | None" = None,
        pretrained: bool = True,
    ) -> None:
        super().__init__()
        # convolutions are up to three times as fast on a CPU with channels last
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.run = run
        self.intake = intake
        self.width = width
        self.card = card
        self.source = source
        self.fresh = fresh
        self.pretrained = pretrained
        self.bands = {MODALITY: intake.bands}
        found = intake.normalisation
        self.normalisation = {} if found is None else {MODALITY: found}
        self.scaling: dict[str, tuple[float, float]] = {}
        self.architecture = dict(card.architecture)
        self.feed: ForeignFeed | None = None
        self.eval()

    def bind(self, feed: "ForeignFeed") -> "Adapter":
        """Return the same network for the pixels of one benchmark."""
        other = object.__new__(Adapter)
        other.__dict__.update(self.__dict__)
        other.feed = feed
        return other

    def encode(
        self,
        pixels: Mapping[str, Tensor],
        *,
        bands: Mapping[str, Sequence[str]] | None = None,
        valid: Mapping[str, Tensor] | None = None,
        scaling: Mapping[str, tuple[float, float]] | None = None,
        hidden: bool = False,
    ) -> Features:
        """Encode images; gradients flow if they are enabled.

        Args:
            pixels: modality to `[B, C, H, W]`. Integers are stored numbers, floats physical.
            bands: modality to the band names of the channels; always needed.
            valid: modality to `[B, H, W]` bool; invalid pixels get the mean of the image.
            scaling: modality to (scale, offset) of integers; needed for them.
            hidden: accepted, and nothing is given: foreign blocks have no common form.

        Raises:
            UsageError: bands or scales are not declared, cannot be aligned, or the network does
                not take the size.
        """
        del hidden
        if bands is None:
            raise UsageError(
                f"{self.card.name}: pixels without band names; give bands= (modality to names)"
            )
        feed = self.feed
        if feed is None or not feed.knows(bands, scaling):
            from probes.backbones.feed import ForeignFeed

            dtypes = {m: _stored(x) for m, x in pixels.items()}
            feed = ForeignFeed(self, bands, scaling or {}, where=self.card.name, dtypes=dtypes)
        return self.see(feed.image(pixels, valid))

    def see(self, image: Tensor) -> Features:
        """Encode an image `[B, C, H, W]` that is aligned and normalised.

        Raises:
            UsageError: the network does not take its size.
        """
        self._check_size(image.shape[-2], image.shape[-1])
        made = self.run(self.network, image.contiguous(memory_format=torch.channels_last))
        tokens = made.pooled[:, None] if made.tokens is None else made.tokens
        grid = (1, 1) if made.tokens is None else made.grid
        return Features(tokens=tokens, pooled=made.pooled, grid={MODALITY: grid})

    def forward(self, pixels: Mapping[str, Tensor], **options: Any) -> Features:
        """Same as `encode`."""
        return self.encode(pixels, **options)

    def _check_size(self, height: int, width: int) -> None:
        wants = self.intake
        if wants.fixed and wants.size is not None and (height, width) != wants.size:
            raise UsageError(
                f"{self.card.name}: images of {height}x{width} px, the network takes "
                f"{wants.size[0]}x{wants.size[1]} alone; give --resize {wants.size[0]}"
            )
        step = wants.multiple
        if height % step or width % step:
            near = max(step, round(height / step) * step)
            raise UsageError(
                f"{self.card.name}: images of {height}x{width} px, the network takes multiples "
                f"of {step}; give --resize {near}"
                + (f" (it was trained on {wants.size[0]})" if wants.size else "")
            )


def _stored(x: Tensor) -> Any:
    """The numpy type of a tensor."""
    return torch.empty(0, dtype=x.dtype).numpy().dtype


def renamed(card: Card, seed: int) -> Card:
    """The card of the same network with random weights."""
    name = f"{card.name} (random weights, seed {seed})"
    return replace(card, name=name, parent=None, weights_sha256="", data={}, training={})
