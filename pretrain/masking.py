"""Which tokens a masked autoencoder sees and which it predicts.

A draw depends on the seed, the epoch and the sample's place in the stream only, so masks do not
change with ranks, micro-batches or a resume.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fm.errors import UsageError
from fm.rng import CounterRng

Kind = Literal["group", "flat", "consistent"]
Where = Literal["anywhere", "window"]


@dataclass(frozen=True)
class Window:
    """A part of each sample's token grid, the same of all groups.

    Attributes:
        start: `[B, 2]` its first row and column.
        size: rows and columns.
        grid: rows and columns of the whole.
    """

    start: Tensor
    size: tuple[int, int]
    grid: tuple[int, int]

    def inside(self) -> Tensor:
        """Say which tokens of the grid lie in it: `[B, rows * columns]` bool."""
        rows, columns = (
            (torch.arange(whole, device=self.start.device) - first[:, None])
            for whole, first in zip(self.grid, self.start.unbind(1), strict=True)
        )
        rows, columns = (
            (rows >= 0) & (rows < self.size[0]),
            (columns >= 0) & (columns < self.size[1]),
        )
        return (rows[:, :, None] & columns[:, None, :]).flatten(1)


@dataclass(frozen=True)
class TokenMasks:
    """Tokens by group. A row of numbers may hold spare ones, where groups share one budget.

    Attributes:
        keep: group to `[B, K]` numbers of tokens to embed.
        predict: group to `[B, M]` numbers of tokens to predict, none of them seen.
        seen: `[B, S]` which of the kept ones, groups one after another, the encoder sees; None
            for all of them.
        asked: `[B, P]` which of the predicted ones are decoded and count; None for all of them.
        window: what the predicted ones lie in; None where they lie anywhere.
    """

    keep: dict[str, Tensor]
    predict: dict[str, Tensor]
    seen: Tensor | None = None
    asked: Tensor | None = None
    window: Window | None = None

    def kept(self) -> dict[str, Tensor]:
        """Say which numbers in `keep` the encoder sees: group to `[B, K]` bool."""
        return _counted(self.keep, self.seen)

    def counted(self) -> dict[str, Tensor]:
        """Say which numbers in `predict` count: group to `[B, M]` bool."""
        return _counted(self.predict, self.asked)


def take(tokens: Tensor, index: Tensor | None) -> Tensor:
    """Take `[B, S]` of the tokens `[B, N, ...]`; all of them when the index is None."""
    if index is None:
        return tokens
    return tokens[torch.arange(len(tokens), device=tokens.device)[:, None], index]


def spread(tokens: Tensor, index: Tensor | None, count: int) -> Tensor:
    """Undo `take`: put `[B, S, D]` at their places among `count`, zeros elsewhere."""
    if index is None:
        return tokens
    result = tokens.new_zeros(len(tokens), count, tokens.shape[-1])
    return result.scatter(1, index[..., None].expand(-1, -1, tokens.shape[-1]), tokens)


def kept_count(tokens: int, mask_ratio: float) -> int:
    """Return how many of `tokens` the encoder sees: at least 1, at most all but one."""
    return min(max(int(tokens * (1 - mask_ratio) + 0.5), 1), max(tokens - 1, 1))


def predicted_count(tokens: int, mask_ratio: float, share: float) -> int:
    """Return how many of the hidden tokens are predicted, at least 1.

    Raises:
        UsageError: there is one token only.
    """
    if tokens < 2:
        raise UsageError("a sample of one token has nothing to predict; make token_m smaller")
    return max(int((tokens - kept_count(tokens, mask_ratio)) * share + 0.5), 1)


def window_size(grids: Mapping[str, tuple[int, int]], share: float) -> tuple[int, int]:
    """Return rows and columns of the window that holds about a share of the tokens.

    Each side is as large a part of the grid's, rounded to tokens.

    Raises:
        UsageError: groups of several token grids, or one token in the window.
    """
    (name, grid), *others = grids.items()
    for other, shape in others:
        if shape != grid:
            raise UsageError(
                f"objective.decoder.where=window needs groups of one token grid; {name} has "
                f"{grid[0]}x{grid[1]}, {other} {shape[0]}x{shape[1]}: make their token_m equal"
            )
    rows, columns = (max(int(side * share**0.5 + 0.5), 1) for side in grid)
    if rows * columns < 2:
        raise UsageError(
            f"objective.decoder.predict={share:g} of {grid[0]}x{grid[1]} tokens is a window of one "
            f"token; make predict larger"
        )
    return rows, columns


def counts(
    grids: Mapping[str, tuple[int, int]],
    kind: Kind,
    mask_ratio: float,
    share: float,
    where: Where = "anywhere",
    images: int = 1,
) -> dict[str, float]:
    """Return how many tokens of each group a sample predicts, under `flat` on average."""
    sizes = {name: rows * columns for name, (rows, columns) in grids.items()}
    if where == "window" and share < 1:
        rows, columns = window_size(grids, share)
        sizes, share = dict.fromkeys(sizes, rows * columns), 1.0
    if kind == "consistent":
        return {
            name: images * predicted_count(size // images, mask_ratio, share)
            for name, size in sizes.items()
        }
    if kind != "flat":
        return {name: predicted_count(size, mask_ratio, share) for name, size in sizes.items()}
    total = sum(sizes.values())
    predicted = predicted_count(total, mask_ratio, share)
    return {name: predicted * size / total for name, size in sizes.items()}


def draw(
    grids: Mapping[str, tuple[int, int]],
    rng: CounterRng,
    kind: Kind,
    mask_ratio: float,
    share: float,
    where: Where = "anywhere",
    images: int = 1,
) -> TokenMasks:
    """Choose tokens to see and tokens to predict.

    Args:
        grids: group to its token grid, the images of a series one below the other.
        rng: of the samples.
        kind: `group`, each group on its own with the ratio in each; `consistent`, groups of equal
            grid alike and all images of a series alike (SatMAE, arXiv 2207.08051, sections 3.2 and
            3.3, consistent masking); `flat`, one draw over all tokens of all groups, so that a
            group's share differs from sample to sample (its independent masking).
        mask_ratio: share of the tokens that are hidden.
        share: share of the hidden tokens that are predicted.
        where: those lie `anywhere`, or they are all the hidden ones of one `window` of about that
            share of the grid, drawn a sample; inside and outside it the ratio is the same. Places
            near the middle lie in more windows than those at borders. A window is of single images.
        images: of a sample.
    """
    window = None
    if where == "window" and share < 1:
        size, grid = window_size(grids, share), next(iter(grids.values()))
        start = []
        for axis, whole, part in zip("rc", grid, size, strict=True):
            # windows that stick out are moved in, so that borders are not left out
            first = rng.integers(f"window:{axis}", 1, whole + part - 1) - (part - 1)
            start.append(first.clamp(0, whole - part))
        window = Window(torch.cat(start, dim=1), size, grid)
    if kind == "flat" and len(grids) > 1:
        return _flat(grids, rng, mask_ratio, share, window)
    keep, predict = {}, {}
    for name, (rows, columns) in grids.items():
        alike = images if kind == "consistent" else 1
        rows //= alike
        purpose = f"mask:{rows}x{columns}" if kind == "consistent" else f"mask:{name}"
        order = rng.permutation(purpose, rows * columns)
        kept, predicted = _cut(order, mask_ratio, share, window, 1)
        keep[name] = _in_all(kept, alike, rows * columns)
        predict[name] = _in_all(predicted, alike, rows * columns)
    return TokenMasks(keep, predict, window=window)


def _in_all(order: Tensor, images: int, tokens: int) -> Tensor:
    """Repeat numbers within one image `[B, K]` for all images of a series: `[B, T * K]`."""
    if images == 1:
        return order
    start = torch.arange(images, device=order.device) * tokens
    return (order[:, None] + start[:, None]).flatten(1)


def _flat(
    grids: Mapping[str, tuple[int, int]],
    rng: CounterRng,
    mask_ratio: float,
    share: float,
    window: Window | None,
) -> TokenMasks:
    sizes = {name: rows * columns for name, (rows, columns) in grids.items()}
    order = rng.permutation("mask:flat", sum(sizes.values()))
    kept, predicted = _cut(order, mask_ratio, share, window, len(sizes))
    keep, seen = _by_group(kept, sizes)
    predict, asked = _by_group(predicted, sizes)
    return TokenMasks(keep, predict, seen, asked, window)


def _cut(
    order: Tensor, mask_ratio: float, share: float, window: Window | None, groups: int
) -> tuple[Tensor, Tensor]:
    """Cut tokens in random order `[B, N]` into those to see and those to predict.

    The order runs over so many groups of one grid where there is a window.
    """
    if window is None:
        kept = kept_count(order.shape[1], mask_ratio)
        last = kept + predicted_count(order.shape[1], mask_ratio, share)
        return order[:, :kept], order[:, kept:last]
    inside = window.inside().repeat(1, groups).gather(1, order)
    order = order.gather(1, inside.to(torch.uint8).argsort(dim=1, stable=True))
    number = window.size[0] * window.size[1] * groups
    outer, inner = order[:, :-number], order[:, -number:]
    kept = kept_count(number, mask_ratio)
    around = outer[:, : kept_count(outer.shape[1], mask_ratio)]
    return torch.cat([around, inner[:, :kept]], dim=1), inner[:, kept:]


def _by_group(chosen: Tensor, sizes: Mapping[str, int]) -> tuple[dict[str, Tensor], Tensor]:
    """Sort numbers among all tokens `[B, S]` by group.

    Widths depend on shapes only: no number is read back from the device.

    Returns:
        group to `[B, min(S, tokens)]` numbers within the group, spare ones (0) behind the chosen;
        and `[B, S]` where the chosen ones lie when the groups are put one after another.
    """
    numbers: dict[str, Tensor] = {}
    real, start = [], 0
    for name, size in sizes.items():
        inside = (chosen >= start) & (chosen < start + size)
        width = min(chosen.shape[1], size)
        first = (~inside).to(torch.uint8).argsort(dim=1, stable=True)[:, :width]
        here = inside.gather(1, first)
        numbers[name] = torch.where(here, chosen.gather(1, first) - start, 0)
        real.append(here)
        start += size
    spare = (~torch.cat(real, dim=1)).to(torch.uint8)
    return numbers, spare.argsort(dim=1, stable=True)[:, : chosen.shape[1]]


def _counted(numbers: Mapping[str, Tensor], chosen: Tensor | None) -> dict[str, Tensor]:
    if chosen is None:
        return {name: torch.ones_like(x, dtype=torch.bool) for name, x in numbers.items()}
    widths = [x.shape[1] for x in numbers.values()]
    flags = torch.zeros(len(chosen), sum(widths), dtype=torch.bool, device=chosen.device)
    flags = flags.scatter(1, chosen, True)
    return dict(zip(numbers, flags.split(widths, dim=1), strict=True))
