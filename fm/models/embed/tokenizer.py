"""What turns the normalised pixel values of a token into a vector."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fm.errors import UsageError
from fm.models.embed.patch_size import How
from fm.models.layout import Member
from fm.sensors import Band


class Tokenizer(nn.Module, ABC):
    """One member's tokens: built as `cls(member, width, **options)`.

    Attributes:
        flexible: a function of the band list, so that other bands than those it was built with may
            be given; it is then permutation-equivariant in (bands, channels).
        shift: pixels by which it reads its tokens further up and left, zeros (after normalising)
            outside the image; what a convolution with padding does.
    """

    flexible: bool = False
    shift: int = 0

    @abstractmethod
    def forward(self, patches: Tensor, bands: Sequence[Band]) -> Tensor:
        """Embed tokens.

        Args:
            patches: `[B, K, C, p, p]` normalised values.
            bands: of the C channels; the member's own unless the tokenizer is flexible.

        Returns:
            `[B, K, D]`.
        """

    def select(self, channels: list[int], member: Member) -> "Tokenizer":
        """Return a tokenizer of some of the channels, with their weights.

        Raises:
            UsageError: this kind is tied to its own band list.
        """
        raise UsageError(
            f"{member.modality}: the tokenizer {type(self).__name__} cannot take {len(channels)} "
            f"chosen bands; it is tied to its own band list"
        )

    def resized(self, old: int, new: int, how: How) -> "Tokenizer":
        """Return a tokenizer of tokens with another number of pixels (`patch_size`).

        Args:
            old: pixels along one side of a token.
            new: wanted.
            how: what happens to the image.

        Raises:
            UsageError: this kind has no weights a pixel.
        """
        raise UsageError(
            f"the tokenizer {type(self).__name__} cannot take tokens of {new} px instead of {old}"
        )

    @torch.no_grad()
    def add_constant(self, vector: Tensor) -> None:
        """Add `[D]` to every token from now on, by way of the bias of the last projection.

        Raises:
            UsageError: this kind has no such bias.
        """
        last = getattr(self, "proj", None)
        if not isinstance(last, nn.Linear) or last.bias is None:
            raise UsageError(
                f"the tokenizer {type(self).__name__} has no bias that a group's code could join; "
                f"keep two groups"
            )
        last.bias.add_(vector)
