"""Quality of ranked lists: nDCG@k with graded gains, AP@k.

For a query with gains g_1, g_2, ... of the gallery in the order of the ranking:

* DCG@k = sum over the first k of g_i / log2(i + 1); nDCG@k divides by the DCG@k of the best order
  (Jarvelin and Kekalainen, TOIS 20, 2002; scikit-learn's `ndcg_score`, linear gains).
* AP@k = 1 / min(k, R) * sum over the relevant i <= k of (relevant among the first i) / i, where R
  is the number of relevant items of the gallery. So a query with fewer than k relevant items, and
  one with more, both reach 1.

Both are NaN for a query with nothing to find.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def gains(queries: np.ndarray, gallery: np.ndarray) -> Array:
    """How like two samples are: the number of labels they share, or 1 for the same class.

    Args:
        queries: [Q] class numbers or [Q, K] of 0 and 1.
        gallery: [G] or [G, K], of the same kind.

    Returns:
        [Q, G].
    """
    if queries.ndim == 1:
        return (queries[:, None] == gallery[None]).astype(np.float64)
    return queries.astype(np.float64) @ gallery.astype(np.float64).T


def ndcg(ranked: np.ndarray, k: int) -> Array:
    """Normalised discounted cumulative gain of the first k.

    Args:
        ranked: [Q, G] gains in the order of the ranking, not negative.
        k: above G means G.

    Returns:
        [Q].
    """
    discount = 1 / np.log2(np.arange(min(k, ranked.shape[1])) + 2)
    ideal = -np.sort(-ranked, axis=1)
    got = ranked[:, : len(discount)] @ discount
    most = ideal[:, : len(discount)] @ discount
    return np.divide(got, most, out=np.full(len(got), np.nan), where=most > 0)


def average_precision(ranked: np.ndarray, k: int) -> Array:
    """Average precision of the first k; an item is relevant when its gain is above 0.

    Args:
        ranked: as for `ndcg`.
        k: above G means G.

    Returns:
        [Q].
    """
    relevant = ranked > 0
    total = np.minimum(relevant.sum(1), k)
    first = relevant[:, :k]
    precision = first.cumsum(1) / (np.arange(first.shape[1]) + 1)
    found = (precision * first).sum(1)
    return np.divide(found, total, out=np.full(len(found), np.nan), where=total > 0)


def chance(ranked: np.ndarray, k: int) -> float:
    """Expected mean nDCG@k of a random order: every place then holds the mean gain.

    Args:
        ranked: [Q, G] gains in any order.
        k: above G means G.
    """
    flat = np.repeat(ranked.mean(1, keepdims=True), ranked.shape[1], 1)
    discount = 1 / np.log2(np.arange(min(k, ranked.shape[1])) + 2)
    most = -np.sort(-ranked, axis=1)[:, : len(discount)] @ discount
    got = flat[:, : len(discount)] @ discount
    return float(np.mean(got[most > 0] / most[most > 0])) if (most > 0).any() else float("nan")


def order(queries: np.ndarray, gallery: np.ndarray, seed: int) -> NDArray[np.int64]:
    """Rank a gallery by cosine.

    Equal cosines come in a random order fixed by the seed: the order of a dataset may tell
    something of its labels.

    Args:
        queries: [Q, D] features.
        gallery: [G, D] features.
        seed: of the order of equal ones.

    Returns:
        [Q, G] places in the gallery, the nearest first.
    """
    shuffled = np.random.Generator(np.random.PCG64([seed, len(gallery)])).permutation(len(gallery))
    similar = _unit(queries) @ _unit(gallery[shuffled]).T
    return shuffled[np.argsort(-similar, axis=1, kind="stable")]


def measures(ranked: np.ndarray, cutoffs: Sequence[int]) -> Array:
    """Take nDCG and AP at each cutoff: [Q, 2 * len(cutoffs)], first all nDCG.

    A cutoff above the gallery would repeat the one below it and is NaN, except the first.
    """
    columns = []
    for measure in (ndcg, average_precision):
        for place, k in enumerate(cutoffs):
            told = place == 0 or k <= ranked.shape[1]
            columns.append(measure(ranked, k) if told else np.full(len(ranked), np.nan))
    return np.stack(columns, axis=1)


def _unit(x: np.ndarray) -> Array:
    x = np.asarray(x, np.float64)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(length > 0, length, 1.0)
