"""A model as one function of tensors, scaling and normalisation inside, sizes left open."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fm.errors import UsageError, suggest
from fm.models import Backbone
from fm.models.layout import Group, Member
from fm.normalize import CLIPPED

Values = Literal["physical", "stored"]
METADATA = {"lonlat": ("batch", 2), "time": ("batch",)}
"""Inputs beside pixels, and their shapes: degrees and seconds since 1970 UTC, NaN where unknown."""


class Graph(nn.Module):
    """Tensors in, tensors out: what exporters trace.

    Args:
        model: in `eval()`.
        stored: pixels are stored integers, scaled inside; physical floats otherwise.
    """

    def __init__(self, model: Backbone, *, stored: bool) -> None:
        super().__init__()
        self.model, self.stored = model, stored

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Encode.

        Args:
            inputs: modality to `[B, C, H, W]`, float32 or int32; `lonlat` and `time` where the
                model uses them.

        Returns:
            `pooled` `[B, D]` and `tokens` `[B, N, D]`.
        """
        told: dict[str, Any] = {name: inputs[name] for name in METADATA if name in inputs}
        pixels = {name: x for name, x in inputs.items() if name not in METADATA}
        features = self.model.encode(pixels, **told)
        return {"pooled": features.pooled, "tokens": features.tokens}


@dataclass(frozen=True)
class Signature:
    """What an exported graph takes.

    Attributes:
        model: the model.
        values: `physical` float32 or `stored` int32.
        modalities: that are given, in order.
        tokens: rows and columns of the smallest tokens, when the image size is fixed.
    """

    model: Backbone
    values: Values
    modalities: tuple[str, ...]
    tokens: tuple[int, int] | None

    @classmethod
    def of(
        cls,
        model: Backbone,
        values: str | None,
        modalities: Sequence[str] | None = None,
        tokens: tuple[int, int] | None = None,
    ) -> "Signature":
        """Check what was asked for.

        Raises:
            UsageError: `values` is missing or unknown, a modality is not the model's, or the
                tokens do not fit all groups.
        """
        if values not in ("physical", "stored"):
            raise UsageError(
                f"values={values}: say what the pixels will be: --values physical (reflectance "
                f"as a fraction, dB) or --values stored (the integers of the product)"
            )
        for name in modalities or ():
            if name not in model.bands:
                raise UsageError(f"the model takes no {name!r}; {suggest(name, model.bands)}")
        chosen = tuple(m for m in model.bands if modalities is None or m in modalities)
        made = cls(model, "stored" if values == "stored" else "physical", chosen, tokens)
        if tokens is not None:
            made.pixels(tokens)
        return made

    def members(self) -> list[tuple[Group, Member]]:
        """Return the members that the given modalities fill, with their groups."""
        return [
            (group, member)
            for group in self.model.groups.values()
            for member in group.members
            if member.modality in self.modalities
        ]

    def metadata(self) -> tuple[str, ...]:
        """Return the inputs beside pixels."""
        kinds = getattr(getattr(self.model, "metadata", None), "kinds", ())
        series = ("time",) if self.model.series else ()
        return tuple(name for name in METADATA if name in (*kinds, *series))

    def _share(self, group: Group) -> Fraction:
        """Return how many of the smallest tokens lie along one of the group's."""
        least = min(group.token_m for group, _ in self.members())
        return Fraction(group.token_m).limit_denominator(1000) / Fraction(least).limit_denominator(
            1000
        )

    def unit(self) -> int:
        """Return the least number of smallest tokens along a side that every group divides."""
        return lcm(*(self._share(group).numerator for group, _ in self.members()))

    def pixels(self, tokens: tuple[int, int]) -> dict[str, tuple[int, int]]:
        """Return modality to height and width of an image of so many of the smallest tokens.

        Raises:
            UsageError: they are not whole tokens of another group.
        """
        result = {}
        for group, member in self.members():
            sides = [Fraction(side) / self._share(group) for side in tokens]
            if any(side.denominator > 1 for side in sides):
                raise UsageError(
                    f"{tokens[0]}x{tokens[1]} tokens are not whole tokens of {group.name} "
                    f"({group.token_m:g} m); give a multiple of {self._share(group)}"
                )
            result[member.modality] = (int(sides[0]) * member.patch, int(sides[1]) * member.patch)
        return result

    def dims(self) -> dict[str, dict[int, Any]]:
        """Return input to what varies of it, for `torch.export`; groups share rows and columns."""
        from torch.export import Dim

        batch = Dim("batch")
        made: dict[str, dict[int, Any]] = {name: {0: batch} for name in self.metadata()}
        sides: dict[Fraction, tuple[Any, Any]] = {}
        for group, member in self.members():
            made[member.modality] = {0: batch}
            if self.tokens is None:
                share = self._share(group)
                behind = "" if share == 1 else f"_{group.token_m:g}".replace(".", "_")
                rows, columns = sides.setdefault(
                    share, (Dim(f"rows{behind}"), Dim(f"columns{behind}"))
                )
                patch = member.patch
                made[member.modality] |= {
                    axis: dim if patch == 1 else patch * dim
                    for axis, dim in ((2, rows), (3, columns))
                }
        return {name: made[name] for name in self.names()}

    def names(self) -> list[str]:
        """Return the inputs in their order: modalities, then metadata."""
        return [*self.modalities, *self.metadata()]

    def shapes(self) -> dict[str, list[str | int]]:
        """Return input to its shape in words, such as `["batch", 4, "12*rows", "12*columns"]`."""
        made: dict[str, list[str | int]] = {m: list(METADATA[m]) for m in self.metadata()}
        fixed = None if self.tokens is None else self.pixels(self.tokens)
        for group, member in self.members():
            name, share = member.modality, self._share(group)
            behind = "" if share == 1 else f"_{group.token_m:g}".replace(".", "_")
            sides: list[str | int] = [
                f"{member.patch}*{side}{behind}" if member.patch > 1 else side + behind
                for side in ("rows", "columns")
            ]
            if fixed is not None:
                sides = list(fixed[name])
            made[name] = ["batch", len(self.model.bands[name]), *sides]
        return {name: made[name] for name in self.names()}

    def sample(self, batch: int, tokens: tuple[int, int], seed: int) -> dict[str, Tensor]:
        """Make plausible inputs: values spread as the normalisation says, and past what it clips.

        Args:
            batch: B.
            tokens: rows and columns of the smallest tokens.
            seed: of the values.
        """
        generator = torch.Generator().manual_seed(seed)
        made: dict[str, Tensor] = {}
        for name, (height, width) in self.pixels(tokens).items():
            normal = self.model.normalisation[name]
            shape = (batch, len(normal), height, width)
            shift, scale = (
                torch.tensor(numbers, dtype=torch.float64)[:, None, None]
                for numbers in (normal.shift, normal.scale)
            )
            draw = torch.randn if normal.kind == "zscore" else torch.rand
            spread = draw(shape, generator=generator, dtype=torch.float64)
            if normal.kind in CLIPPED:  # beyond both ends, so that a clip left out is seen
                spread = 1.5 * spread - 0.25
            physical = shift + scale * spread
            made[name] = physical.float()
            if self.values == "stored":
                factor, offset = self.model.scaling[name]
                made[name] = ((physical - offset) / factor).round().to(torch.int32)
        turn = torch.rand((batch, 3), generator=generator, dtype=torch.float64)
        extra = {
            "lonlat": turn[:, :2] * torch.tensor([360.0, 170.0]) - torch.tensor([180.0, 85.0]),
            "time": 1.4e9 + 3e8 * turn[:, 2],
        }
        extra["lonlat"][-1] = extra["time"][-1] = torch.nan
        made |= {name: extra[name] for name in self.metadata()}
        return {name: made[name] for name in self.names()}

    def trials(self) -> Mapping[str, dict[str, Tensor]]:
        """Return the inputs that an export is judged on, by their description.

        Other batches than the traced one, one image alone, and where sizes vary other sizes, the
        grid of a learned table among them.
        """
        unit = self.unit()
        sizes = [self.tokens] if self.tokens is not None else [(2, 3), (4, 2)]
        side = self.model.architecture.get("grid")
        if self.tokens is None and side:
            sizes.append((int(side), int(side)))
        made = {}
        for number, size in enumerate(sizes):
            assert size is not None
            rows, columns = size if self.tokens is not None else (unit * size[0], unit * size[1])
            for batch in (1, 3) if number == 0 else (2,):
                words = f"{batch} x {rows}x{columns} tokens, seed {number}"
                made[words] = self.sample(batch, (rows, columns), number)
        return made

    def traced(self) -> dict[str, Tensor]:
        """Return the inputs that an exporter traces."""
        unit = self.unit()
        return self.sample(2, self.tokens or (3 * unit, 5 * unit), 1000)
