"""k nearest neighbours: one rule for classes, labels and numbers, a grid of k in one pass.

The prediction for a sample is the mean of its neighbours' target vectors (one-hot classes, labels
of 0 and 1, or numbers), weighted either alike, or by exp(s / T) for a neighbour with cosine s (Wu
et al., Unsupervised Feature Learning via Non-Parametric Instance Discrimination, CVPR 2018, section
3.4; T = 0.07 there). The weights of the k neighbours sum to 1. DINOv2 takes the softmax over the
largest k of its grid and cuts the others out of it: once the cut is made to sum to 1 again, which
numbers and labels need and classes do not notice, it is this rule.

Neighbours are found by one matrix product of the type asked for. Rounding must not decide who is a
neighbour: where the first k and the rest lie closer together than the product's error, those pairs
are measured again, one by one, in float64 (`_settle`). Neighbours at the same distance are taken in
the order of the training set. So the neighbours depend neither on the type nor on how the work is
cut into pieces.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fm.errors import FMError

Metric = Literal["cosine", "euclidean"]
CELLS = 1 << 25
"""Similarities held at once: a piece of float32 ones is 128 MiB."""
PAIRS = 1 << 24
"""Numbers of pairs measured again at once."""
STRIP = 1024
"""Rows made ready at once, so that they stay in the processor's cache."""
SHORTEST = 1e-12
"""Shorter features are not brought to length 1."""


@dataclass(frozen=True)
class Neighbours:
    """The nearest training samples of M samples, nearest first.

    Attributes:
        index: [M, k] places in the training set.
        similarity: [M, k] float64: the cosine, or minus the squared distance.
    """

    index: Tensor
    similarity: Tensor


def scores(
    train: np.ndarray,
    targets: np.ndarray,
    test: np.ndarray,
    ks: Sequence[int],
    *,
    classes: int | None = None,
    metric: Metric = "cosine",
    temperature: float | None = 0.07,
    center: bool = True,
    chunk: int | None = None,
    dtype: torch.dtype = torch.float64,
    device: str | torch.device = "cpu",
) -> np.ndarray:
    """Predict from the neighbours for each k.

    Args:
        train: [N, D] features.
        targets: [N] class numbers; or [N, K] labels of 0 and 1, or numbers, NaN where not known:
            such a neighbour does not count for that target.
        test: [M, D] features.
        ks: numbers of neighbours; one above N uses all N.
        classes: number of classes K, where targets are class numbers.
        metric: `cosine`, or `euclidean` distance.
        temperature: T of the weights; None weighs all k alike.
        center: subtract the training mean from both sides first. No Euclidean distance changes.
        chunk: test rows handled at once; None chooses by memory.
        dtype: of the matrix product.
        device: where it runs.

    Returns:
        [len(ks), M, K] float64. A target that no neighbour knows gets the training mean.

    Raises:
        FMError: features are not finite, or none; a temperature with Euclidean distances.
    """
    if temperature is not None and metric == "euclidean":
        raise FMError("knn: a temperature needs cosines; take metric cosine or the uniform vote")
    votes = _vectors(targets, classes, device)
    found = neighbours(
        train,
        test,
        max(ks),
        boundaries=ks,
        metric=metric,
        center=center,
        chunk=chunk,
        dtype=dtype,
        device=device,
    )
    unknown = torch.isnan(votes)
    votes, known = votes.nan_to_num(), (~unknown).to(votes)
    mean = votes.sum(0) / known.sum(0)
    out = np.empty((len(ks), len(test), votes.shape[1]))
    rows = max(1, PAIRS // max(1, found.index.shape[1] * votes.shape[1]))
    for start in range(0, len(test), rows):
        index = found.index[start : start + rows]
        similar = found.similarity[start : start + rows]
        weight = torch.ones_like(similar)
        if temperature is not None:
            # relative to the nearest neighbour, so that no exponent overflows
            weight = torch.exp((similar - similar[:, :1]) / temperature)
        for i, k in enumerate(ks):
            part, w = index[:, :k], weight[:, :k, None]
            top = (w * votes[part]).sum(1)
            if unknown.any():
                total = (w * known[part]).sum(1)
                value = torch.where(total > 0, top / total, mean)
            else:
                value = top / w.sum(1)
            out[i, start : start + rows] = value.cpu().numpy()
    return out


def _vectors(targets: np.ndarray, classes: int | None, device: str | torch.device) -> Tensor:
    values = torch.from_numpy(np.ascontiguousarray(targets)).to(device)
    if values.ndim == 1:
        values = torch.nn.functional.one_hot(values.long(), classes or -1)
    return values.to(torch.float64)


def neighbours(
    train: np.ndarray,
    test: np.ndarray,
    k: int,
    *,
    boundaries: Sequence[int] = (),
    metric: Metric = "cosine",
    center: bool = True,
    chunk: int | None = None,
    dtype: torch.dtype = torch.float64,
    device: str | torch.device = "cpu",
) -> Neighbours:
    """Find the k nearest training samples (all, where there are fewer).

    Args:
        train: [N, D] features.
        test: [M, D] features.
        k: how many.
        boundaries: numbers up to k; the nearest of each number are exact as a set. k is always.
        metric: see `scores`.
        center: see `scores`.
        chunk: see `scores`.
        dtype: see `scores`.
        device: see `scores`.

    Raises:
        FMError: no training sample, or features that are not finite.
    """
    if not len(train):
        raise FMError("knn: there are no features; check the training split")
    mean = train.mean(0, dtype=np.float64) if center or metric == "euclidean" else None
    x, q = (_Rows(a, mean, metric, device) for a in (train, test))
    search = _Search(x, q, dtype)
    most = min(k, len(x))
    edges = sorted({min(b, most) for b in (*boundaries, k)})
    rows = chunk or max(16, CELLS // len(x))
    index = torch.empty(len(q), most, dtype=torch.long, device=device)
    similar = torch.empty(len(q), most, dtype=torch.float64, device=device)
    for start in range(0, len(q), rows):
        part = slice(start, min(start + rows, len(q)))
        index[part], similar[part] = search.nearest(part, most, edges)
    return Neighbours(index, similar)


def _largest(table: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` largest numbers of each row of [R, N], falling, and their places.

    One pass takes the maximum of every so many columns; the largest numbers lie among the `count`
    groups with the largest maxima.
    """
    rows, columns = table.shape
    width = 1 << max(0, round(math.log2(max(1, columns / count)) / 2))
    groups = columns // width
    if width < 4 or groups < 2 * count:
        return torch.topk(table, count, dim=1)
    body = table[:, : groups * width].view(rows, width, groups)
    chosen = torch.topk(body.amax(1), count, dim=1, sorted=False).indices
    some = body.gather(2, chosen[:, None].expand(-1, width, -1)).flatten(1)
    step = torch.arange(width, device=table.device)[:, None] * groups
    where = (chosen[:, None] + step).flatten(1)
    rest = torch.arange(groups * width, columns, device=table.device)
    some = torch.cat([some, table[:, groups * width :]], 1)
    where = torch.cat([where, rest.expand(rows, -1)], 1)
    value, place = torch.topk(some, count, dim=1)
    return value, where.gather(1, place)


class _Rows:
    """Samples [N, D] as they are measured, in float64: less the mean, and of length 1 for cosines.

    Only their copies in the product's type are kept, and made some rows at a time: fresh memory
    costs more than the arithmetic. The few rows that are measured again are made again.

    Args:
        source: [N, D] of any type.
        mean: [D] to subtract, or None; small numbers lose fewer digits.
        metric: see `scores`.
        device: where they are made.
    """

    def __init__(
        self,
        source: np.ndarray,
        mean: np.ndarray | None,
        metric: Metric,
        device: str | torch.device,
    ) -> None:
        self.source = torch.from_numpy(np.ascontiguousarray(source))
        self.mean = None if mean is None else torch.from_numpy(mean).to(device)
        self.metric, self.device = metric, device
        self.lengths = torch.empty(len(source), dtype=torch.float64, device=device)

    def __len__(self) -> int:
        return len(self.source)

    def low(self, dtype: torch.dtype) -> Tensor:
        """Measure all lengths, which `exact` and `reach` need, and return the copies in a type.

        Raises:
            FMError: features are not finite.
        """
        count, width = self.source.shape
        made = torch.empty(count, width, dtype=dtype, device=self.device)
        for start in range(0, count, STRIP):
            rows = self._centred(self.source[start : start + STRIP])
            lengths = torch.linalg.vector_norm(rows, dim=1)
            if not lengths.isfinite().all():
                raise FMError("knn: the features hold NaN or infinity; check the model")
            self.lengths[start : start + STRIP] = lengths
            if self.metric == "cosine":
                rows /= lengths.clamp_min(SHORTEST)[:, None]
            made[start : start + STRIP] = rows
        return made

    def exact(self, which: Tensor) -> Tensor:
        """Return some rows [R, D] in float64."""
        rows = self._centred(self.source[which.to(self.source.device)])
        if self.metric == "cosine":
            rows /= self.lengths[which].clamp_min(SHORTEST)[:, None]
        return rows

    def reach(self) -> Tensor:
        """Return the lengths [N] of the rows as they are measured."""
        return torch.ones_like(self.lengths) if self.metric == "cosine" else self.lengths

    def _centred(self, rows: Tensor) -> Tensor:
        rows = rows.to(self.device, torch.float64)
        return rows.clone() if self.mean is None else rows - self.mean


class _Search:
    """Training samples x [N, D] and samples q [M, D], and their copies in `dtype`."""

    def __init__(self, x: _Rows, q: _Rows, dtype: torch.dtype) -> None:
        self.x, self.q = x, q
        self.low_x, self.low_q = (rows.low(dtype) for rows in (x, q))
        euclidean = x.metric == "euclidean"
        self.table = self.low_q.new_empty(0, 0)
        lengths = x.reach()
        self.half = (0.5 * lengths**2).to(dtype) if euclidean else None
        # What the product can be wrong by (Higham, Accuracy and Stability of Numerical Algorithms,
        # 2nd ed., section 3.1: D roundings, and those of the copies), for each row of q.
        unit = torch.finfo(dtype).eps / 2
        longest = lengths.max()
        self.known: dict[bytes, tuple[Tensor, Tensor]] = {}
        reach = q.reach() * longest
        if euclidean:
            reach = reach + longest**2
        self.error = (x.source.shape[1] + 4) * unit * reach

    def nearest(self, part: slice, k: int, edges: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Find the k nearest of some rows; see `neighbours`."""
        shape = (part.stop - part.start, len(self.low_x))
        if self.table.shape != shape:
            self.table = self.low_q.new_empty(shape)
        table = torch.mm(self.low_q[part], self.low_x.T, out=self.table)
        if self.half is not None:
            table -= self.half  # the order of distances: q.x - |x|^2 / 2
        spare = min(table.shape[1], k + max(100, k // 4))
        raw, index = _largest(table, spare)
        value = raw.double()
        if self.half is not None:
            value = 2 * value - (self.q.lengths[part] ** 2)[:, None]
        slack = (4 if self.half is not None else 2) * self.error[part]
        lost = self._settle(part, index, value, slack, edges, whole=spare == table.shape[1])
        for row in lost:
            # in the table's own numbers half of a distance: the same slack is more than enough
            may = table[row] >= raw[row, k - 1] - slack[row]
            self._again(part.start + row, may, index[row], value[row])
        return index[:, :k], value[:, :k]

    def _settle(
        self,
        part: slice,
        index: Tensor,
        value: Tensor,
        slack: Tensor,
        edges: Sequence[int],
        *,
        whole: bool,
    ) -> list[int]:
        """Measure again, in float64, what lies too close to an edge to tell; in place.

        Args:
            part: the rows of q.
            index: [R, S] candidates by falling `value`.
            value: [R, S].
            slack: [R], how far two values can be apart and yet be in the wrong order.
            edges: the first so many have to be right as a set.
            whole: every training sample is a candidate.

        Returns:
            the rows left as they are: more lie too close than there are candidates.
        """
        doubtful = torch.zeros_like(value, dtype=torch.bool)
        for edge in edges:
            if edge == value.shape[1]:
                continue
            last, first = value[:, edge - 1 : edge], value[:, edge : edge + 1]
            close = (last - first) <= slack[:, None]
            # whoever may lie on either side of the edge
            near = (value <= last + slack[:, None]) & (value >= first - slack[:, None])
            doubtful |= close & near
        rows, lost = doubtful.any(1), []
        if not whole:
            # the list may end among those that cannot be told apart from its last wanted ones
            beyond = rows & doubtful[:, -1]
            lost = beyond.nonzero().flatten().tolist()
            rows &= ~beyond
        places = rows.nonzero().flatten()
        if not len(places):
            return lost
        asked = doubtful[places]
        which = index[places]
        pairs = asked.nonzero()
        measured = torch.empty(len(pairs), dtype=torch.float64, device=value.device)
        step = max(1, PAIRS // self.x.source.shape[1])
        for start in range(0, len(pairs), step):
            row, column = pairs[start : start + step].T
            q = self.q.exact(part.start + places[row])
            measured[start : start + step] = self._measure(q, self.x.exact(which[row, column]))
        better = value[places]
        better[asked] = measured
        # by place in the training set first, then stably by value: equal ones keep that order
        which, order = which.sort(dim=1)
        better, best = better.gather(1, order).sort(dim=1, descending=True, stable=True)
        index[places], value[places] = which.gather(1, best), better
        return lost

    def _again(self, row: int, may: Tensor, index: Tensor, value: Tensor) -> None:
        """Measure one row against those training samples that may be wanted, in place.

        So many that lie so close are copies as a rule, such as pictures of nothing but cloud, and
        so are those that they are close to: each is measured once.
        """
        step = max(1, PAIRS // self.x.source.shape[1])
        name = self.q.source[row].numpy().tobytes()
        if name in self.known:
            order, best = self.known[name]
            index[: len(order)], value[: len(best)] = order, best
            return
        q = self.q.exact(torch.tensor([row], device=may.device))
        which = may.nonzero().flatten()
        several, place = self._copies[which].unique(return_inverse=True)
        full = torch.cat(
            [
                self._measure(q, self.x.exact(several[at : at + step]))
                for at in range(0, len(several), step)
            ]
        )[place]
        best, order = full.sort(descending=True, stable=True)
        best, order = best[: len(index)], which[order[: len(index)]]
        index[: len(order)], value[: len(best)] = order, best
        self.known[name] = order, best

    @cached_property
    def _copies(self) -> Tensor:
        """For each training sample one that is the same, bit by bit, and stands for all of them."""
        source = self.x.source
        odd = (
            np.random.default_rng(0).integers(1 << 62, size=source.shape[1], dtype=np.uint64) * 2
            + 1
        )
        sums = np.concatenate(
            [
                (part.to(torch.float64).numpy().view(np.uint64) * odd).sum(1)
                for part in source.split(STRIP)
            ]
        )
        _, first, place = np.unique(sums, return_index=True, return_inverse=True)
        stands = torch.from_numpy(first[place])
        other = (stands != torch.arange(len(stands))).nonzero().flatten()
        for part in other.split(STRIP):  # two samples may have the same sum
            wrong = (source[part] != source[stands[part]]).any(1)
            stands[part[wrong]] = part[wrong]
        return stands.to(self.low_x.device)

    def _measure(self, q: Tensor, x: Tensor) -> Tensor:
        """Cosines, or minus squared distances, of pairs of rows: each alone, whatever its place."""
        if self.half is None:
            return (q * x).sum(1)
        return -((q - x) ** 2).sum(1)
