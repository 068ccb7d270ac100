"""Which shape each member has in a batch, checked for every sample before the first is read."""

import math

import numpy as np

from fm.errors import FMError, UsageError
from shards.codec import CorruptError, array_bytes
from shards.store import Store


class Layout:
    """Shapes of the members of a batch, and where a centre crop lies in a sample.

    Args:
        store: the index columns of the samples.
        keys: sample keys, for errors.
        members: modalities and masks that are read.
        optional: masks that may be absent (they are filled with the label's `ignore`).
        crop: side of a centre crop in pixels of the finest grid among the members; coarser grids
            get the same ground area. None takes samples whole.

    Attributes:
        shapes: shape of each member in a batch, without the batch axis.

    Raises:
        FMError: a member is absent in a sample, or sizes differ and no crop was given.
        UsageError: the crop does not fit a sample or a grid.
    """

    def __init__(
        self,
        store: Store,
        keys: list[str],
        members: tuple[str, ...],
        optional: tuple[str, ...],
        crop: int | None,
    ) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._crop, self._ratio, self._members = crop, dict.fromkeys(members, 1), members
        for member in members:
            absent = np.flatnonzero(~store.has(member))
            if len(absent) == len(keys) or (len(absent) and member not in optional):
                raise FMError(
                    f"{len(absent)} of {len(keys)} samples have no {member} (the first is "
                    f"{keys[absent[0]]}); filter with where=\"has('{member}')\", or leave it out"
                )
        if crop is None:
            self._whole(store, keys)
        else:
            self._cropped(store, keys, crop)
        for member, shape in self.shapes.items():
            try:
                array_bytes(shape, store.dtype[member])
            except CorruptError as error:
                raise FMError(f"{member}: {error}; the index is damaged") from None

    def _whole(self, store: Store, keys: list[str]) -> None:
        for member in self._members:
            has = np.flatnonzero(store.has(member))
            shapes = store.shapes[member][has]
            other = np.flatnonzero((shapes != shapes[0]).any(axis=1))
            first = store.shape(int(has[0]), member)
            if len(other):
                row = int(has[other[0]])
                raise FMError(
                    f"{member} has shape {first} in sample {keys[has[0]]} but "
                    f"{store.shape(row, member)} in {keys[row]} ({len(other)} of {len(has)} "
                    "differ); filter with where=, such as where='height == 96', or pass crop="
                )
            self.shapes[member] = first

    def _cropped(self, store: Store, keys: list[str], crop: int) -> None:
        full = np.stack([store.shapes[member] for member in self._members], axis=1)
        _, rows = np.unique(full, axis=0, return_index=True)
        ratios: dict[str, int] = {}
        for row in np.sort(rows).tolist():
            sizes = self.sizes(store, row)
            finest = max(size[-1] for size in sizes.values())
            for member, size in sizes.items():
                ratio = max(1, finest // size[-1])
                where = f"sample {keys[row]}: {member} is {size}"
                if any(side * ratio < crop for side in size[-2:]):
                    raise UsageError(f"{where}, too small for crop={crop}; give a smaller crop")
                if finest != size[-1] * ratio or ratios.setdefault(member, ratio) != ratio:
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

    def sizes(self, store: Store, row: int) -> dict[str, tuple[int, ...]]:
        """Return the stored shapes of the members that a sample has."""
        shapes = {member: store.shape(row, member) for member in self._members}
        return {member: shape for member, shape in shapes.items() if shape}

    def window(self, store: Store, row: int, member: str) -> tuple[slice, slice]:
        """Return the crop's rows and columns in a member of a sample, aligned on every grid."""
        assert self._crop is not None
        ratio, step = self._ratio[member], math.lcm(*self._ratio.values())
        result = []
        for side in store.shape(row, member)[-2:]:
            start = (side * ratio - self._crop) // 2 // step * step // ratio
            result.append(slice(start, start + self._crop // ratio))
        return result[0], result[1]
