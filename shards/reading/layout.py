"""Which shape each member has in a batch, checked for every sample before the first is read."""

import math

import numpy as np

from fm.errors import FMError, UsageError
from shards.codecs.codec import CorruptError, array_bytes
from shards.index.columns import Columns

Shape = tuple[int, ...]


class Layout:
    """Shapes of the members of a batch, and where a crop lies in a sample.

    Args:
        columns: the index.
        rows: of the samples in it; None for all.
        members: modalities and masks that are read.
        dtypes: of the members.
        optional: masks that may be absent (they are filled with the label's `ignore`).
        crop: side of a crop in pixels of the finest grid among the members; coarser grids get the
            same ground area: the grids of a sample are taken to cover the same ground, so their
            sizes must nest on both axes. None takes samples whole.

    Attributes:
        shapes: shape of each member in a batch, without the batch axis, before bands are chosen.
        alike: whether every sample has all members, and in one shape each.

    Raises:
        FMError: a member is absent in a sample, or sizes differ and no crop was given.
        UsageError: the crop does not fit a sample or a grid.
    """

    def __init__(
        self,
        columns: Columns,
        rows: np.ndarray | None,
        members: tuple[str, ...],
        dtypes: dict[str, str],
        optional: tuple[str, ...],
        crop: int | None,
    ) -> None:
        self.shapes: dict[str, Shape] = {}
        self._crop, self._ratio, self._members = crop, dict.fromkeys(members, 1), members
        self._columns = columns
        names = [(), *(tuple(shape) for shape in columns.header["shapes"])]
        numbers, counts, first = columns.kinds(members, rows)
        kinds = [
            ([names[n] for n in kind], count, row)
            for kind, count, row in zip(
                numbers.tolist(), counts.tolist(), first.tolist(), strict=True
            )
        ]
        self.alike = len(kinds) == 1 and all(kinds[0][0])
        total = int(counts.sum())
        for place, member in enumerate(members):
            absent = [(count, row) for kind, count, row in kinds if not kind[place]]
            missing = sum(count for count, _ in absent)
            if missing == total or (missing and member not in optional):
                raise FMError(
                    f"{missing} of {total} samples have no {member} (the first is "
                    f"{self._key(absent[0][1])}); filter with where=\"has('{member}')\", or leave "
                    "it out"
                )
        if crop is None:
            self._whole(kinds)
        else:
            self._cropped(kinds, crop)
        for member, shape in self.shapes.items():
            try:
                array_bytes(shape, dtypes[member])
            except CorruptError as error:
                raise FMError(f"{member}: {error}; the index is damaged") from None

    def _key(self, row: int) -> str | None:
        return self._columns.text("key", np.array([row]))[0]

    def _whole(self, kinds: list[tuple[list[Shape], int, int]]) -> None:
        for place, member in enumerate(self._members):
            has = [(kind[place], count, row) for kind, count, row in kinds if kind[place]]
            shape, _, first = has[0]
            others = [(found, row) for found, _, row in has if found != shape]
            if others:
                count = sum(n for found, n, _ in has if found != shape)
                raise FMError(
                    f"{member} has shape {shape} in sample {self._key(first)} but {others[0][0]} "
                    f"in {self._key(others[0][1])} ({count} of {sum(n for _, n, _ in has)} "
                    "differ); filter with where=, such as where='height == 96', or pass crop="
                )
            self.shapes[member] = shape

    def _cropped(self, kinds: list[tuple[list[Shape], int, int]], crop: int) -> None:
        ratios: dict[str, int] = {}
        for kind, _, row in kinds:
            sizes = {m: shape for m, shape in zip(self._members, kind, strict=True) if shape}
            finest = max((size[-2:] for size in sizes.values()), key=lambda size: size[1])
            for member, size in sizes.items():
                ratio = max(1, finest[1] // size[-1])
                nests = finest == tuple(side * ratio for side in size[-2:])
                where = f"sample {self._key(row)}: {member} is {size}"
                if any(side * ratio < crop for side in size[-2:]):
                    raise UsageError(f"{where}, too small for crop={crop}; give a smaller crop")
                if not nests or ratios.setdefault(member, ratio) != ratio:
                    raise FMError(f"{where}, its grids do not nest as in the others; use where=")
                if crop < 1 or crop % ratio:
                    raise UsageError(f"crop={crop} is no multiple of {ratio}, as {member} needs")
                shape = (*size[:-2], crop // ratio, crop // ratio)
                if self.shapes.setdefault(member, shape) != shape:
                    raise FMError(
                        f"{where}, but {self.shapes[member][:-2]} before its pixel axes in other "
                        "samples; filter with where="
                    )
        self._ratio = ratios

    def window(
        self, shape: Shape, member: str, chance: tuple[float, float] | None
    ) -> tuple[slice, slice]:
        """Return the crop's rows and columns in a member, the same ground on every grid.

        Args:
            shape: of the member as stored.
            member: its name.
            chance: two numbers in [0, 1) that place the crop; None puts it in the centre.
        """
        assert self._crop is not None
        ratio, step = self._ratio[member], math.lcm(*self._ratio.values())
        result = []
        for axis, side in enumerate(shape[-2:]):
            free = side * ratio - self._crop
            if chance is None:
                start = free // 2 // step * step
            else:
                start = int(chance[axis] * (free // step + 1)) * step
            result.append(slice(start // ratio, (start + self._crop) // ratio))
        return result[0], result[1]
