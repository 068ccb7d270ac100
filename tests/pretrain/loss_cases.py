"""Every loss once, on one process's share of a global batch."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from pretrain import losses
from pretrain.ranks import collective
from pretrain.ranks.processes import processes

ROWS, WIDTH, CLASSES = 8, 6, 4
Data = Mapping[str, Tensor]


def data(rank: int = 0, ranks: int = 1, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Make a process's rows: embeddings `a b c [n, D]`, labels, weights; `queue` is everybody's."""
    generator = torch.Generator().manual_seed(4)
    made = {name: torch.randn(ROWS, WIDTH, generator=generator) for name in "abc"}
    made["labels_a"] = (torch.rand(ROWS, CLASSES, generator=generator) > 0.5).float()
    made["labels_b"] = (torch.rand(ROWS, CLASSES, generator=generator) > 0.5).float()
    made["labels_a"][1], made["labels_b"][6] = 0.0, float("nan")
    made["weight"] = torch.tensor([1.0, 0.5, 0.0, 1.0, 1.0, 1.0, 0.25, 1.0])
    share = ROWS // ranks
    made = {name: x[rank * share : (rank + 1) * share] for name, x in made.items()}
    made["queue"] = torch.randn(5, WIDTH, generator=generator)
    for name in "abc":
        made[name] = made[name].to(dtype).requires_grad_()
    return made


def _own(d: Data) -> int:
    return collective.rank() * len(d["a"])


def _readable(d: Data) -> Tensor:
    return collective.gather_rows(d["weight"]) > 0


def _of_rows(d: Data, found: Tensor) -> Tensor:
    return (found * d["weight"]).sum()


def _of_all(d: Data, found: Tensor) -> Tensor:
    return found * d["weight"].sum() / collective.all_reduce_sum(d["weight"].sum())


def _info_nce(d: Data) -> Tensor:
    keys = collective.gather_rows(d["b"])
    return _of_rows(
        d, losses.info_nce(d["a"], keys, temperature=0.2, own=_own(d), allowed=_readable(d))
    )


def _queue(d: Data) -> Tensor:
    found = losses.info_nce(
        d["a"],
        d["b"],
        temperature=0.2,
        own=0,
        allowed=torch.eye(len(d["a"]), dtype=torch.bool),
        queue=d["queue"],
        queue_allowed=torch.arange(5) != 3,
    )
    return _of_rows(d, found)


def _soft_labels(d: Data) -> Tensor:
    similarity, known = losses.label_similarity(
        d["labels_a"], collective.gather_rows(d["labels_b"])
    )
    cosines = losses.cosines(d["a"], collective.gather_rows(d["b"]))
    found = losses.soft_bce(cosines, similarity, known & _readable(d), temperature=0.2)
    return _of_rows(d, found.loss - found.floor)


def _subspaces(d: Data) -> Tensor:
    views = [collective.gather_rows(d[name]) for name in "bcb"]
    found = losses.subspace_contrast(
        [d["a"].roll(turn, dims=1) for turn in range(3)],
        [views, views[::-1], views],
        temperature=0.1,
        own=_own(d),
        readable=_readable(d),
        queues=[d["queue"]] * 3,
        others=[views[0]] * 3,
    )
    return _of_rows(d, found.sum(dim=1))


def _pairwise(d: Data) -> Tensor:
    keys = collective.gather_rows(d["b"])
    found = losses.pairwise_sigmoid(
        d["a"], keys, temperature=0.1, bias=-2.0, own=_own(d), allowed=_readable(d)
    )
    return _of_rows(d, found)


def _decur(d: Data) -> Tensor:
    made = losses.correlation(d["a"], d["b"], weight=d["weight"], reduce=collective.sum_over_ranks)
    common, unique = losses.decoupled(made, common=4, off_diagonal=0.01)
    return _of_all(d, common + unique)


def _centring(d: Data) -> Tensor:
    centre = losses.Centre(WIDTH, momentum=0.5)
    centre.add(d["b"], d["weight"] > 0)
    centre.take(collective.gather_rows)
    targets = centre(d["b"], temperature=0.1)
    return _of_rows(d, losses.distillation(d["a"], targets, temperature=0.3))


def _sinkhorn(d: Data) -> Tensor:
    targets = losses.sinkhorn(
        d["b"],
        temperature=0.5,
        keep=d["weight"] > 0,
        reduce=collective.sum_over_ranks,
        largest=collective.largest_over_ranks,
    )
    return _of_rows(d, losses.distillation(d["a"], targets, temperature=0.3))


def _features(d: Data) -> Tensor:
    target = losses.whitened(d["b"])
    found = losses.squared_error(d["a"], target) + losses.smooth_l1(d["a"], target)
    return _of_rows(d, found + losses.cosine_distance(d["a"], d["b"]))


def _related(d: Data, of: Callable[..., Tensor]) -> Tensor:
    student, teacher = (collective.gather_rows(d[name]) for name in "ab")
    rows = torch.arange(_own(d), _own(d) + len(d["a"]))
    return _of_rows(d, of(student, teacher, rows=rows, counted=_readable(d)))


CASES: dict[str, Callable[[Data], Tensor]] = {
    "info_nce": _info_nce,
    "queue": _queue,
    "soft_labels": _soft_labels,
    "subspaces": _subspaces,
    "pairwise": _pairwise,
    "decur": _decur,
    "centring": _centring,
    "sinkhorn": _sinkhorn,
    "features": _features,
    "distances": partial(_related, of=losses.distance_relations),
    "angles": partial(_related, of=losses.angle_relations),
}
ALONE = ("subspaces", "centring", "sinkhorn", "features", "distances", "angles")
LEARNS = {name: "a" if name in ALONE else "ab" for name in CASES}
"""Case to the embeddings that a gradient reaches."""


def measured(name: str, d: Data) -> tuple[float, dict[str, list[list[float]]]]:
    """Return the sum over all processes of a loss, and its gradients in the order of the batch."""
    loss = CASES[name](d)
    loss.backward()
    total = collective.all_reduce_sum(loss.detach().clone()).item()
    made = {key: d[key].grad for key in LEARNS[name]}
    found = {key: torch.zeros(0) if x is None else x for key, x in made.items()}
    return total, {key: collective.gather_rows(x).tolist() for key, x in found.items()}


def main(out: Path) -> None:
    """Write the values and gradients of every loss over the ranks."""
    with processes():
        ranks, rank = collective.world_size(), collective.rank()
        found = {name: measured(name, data(rank, ranks)) for name in CASES}
        if rank == 0:
            out.write_text(json.dumps(found))
