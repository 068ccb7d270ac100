"""SoftCon's two terms: closed forms, unlabelled images, labels of the queue and of seasons."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from fm.errors import UsageError
from pretrain.engine.batches import MicroBatch
from pretrain.objectives.contrast.momentum import Compared
from pretrain.objectives.contrast.softcon import SoftCon
from tests.conformance.objectives import CONTRASTS
from tests.pretrain.test_moco import outputs


def made(name: str = "softcon-v3", **changes: object) -> tuple[SoftCon, MicroBatch]:
    """Build a case with other settings, and a batch of four; the last has no label."""
    case = replace(CONTRASTS[name], config={**CONTRASTS[name].config, **changes})
    objective = case.build()
    assert isinstance(objective, SoftCon)
    return objective, case.batch(objective)


def soft(query: Tensor, columns: Tensor, targets: Tensor, known: Tensor, tau: float) -> Tensor:
    """Return the mean over pairs of a row, in double, from the definition."""
    shares = torch.sigmoid(query @ columns.T / tau)
    losses = -(targets * shares.log() + (1 - targets) * (1 - shares).log())
    return (losses * known).sum(dim=1) / known.sum(dim=1).clamp(min=1)


@pytest.mark.parametrize("diag", ["one", "label"])
def test_the_loss_of_a_batch_is_both_terms(diag: str) -> None:
    objective, batch = made(soft_diag=diag, soft_weight=0.3, soft_temperature=0.5)
    labels = torch.nan_to_num(batch.labels["cover"]).double()
    known = labels.any(dim=1)
    targets = functional.normalize(labels, dim=1) @ functional.normalize(labels, dim=1).T
    query, key = outputs(objective, batch)
    total = 0.0
    for q, k in zip(query, key, strict=True):
        instance = functional.cross_entropy(q @ k.T / 0.2, torch.arange(4), reduction="none")
        pairs = known[:, None] & known[None, :]
        mean = soft(q, k, targets, pairs, 0.5).sum() / 3  # over the labelled rows
        total += float(instance.sum() + 0.3 * 4 * mean) / 2
    out = objective(batch, batch.rng)
    assert out.loss_sum.item() == pytest.approx(total, rel=1e-5)
    assert out.metrics["labelled"].item() == 3
    # one sample is itself in both views, whatever `diag` says, where there is one season
    assert out.metrics["loss_soft"] > 0


def test_without_weight_or_labels_it_is_the_contrast_of_instances() -> None:
    objective, batch = made(soft_weight=0.0)
    loss = objective(batch, batch.rng).loss_sum
    none = replace(batch, labels={"cover": torch.full((4, 4), float("nan"))})
    other, _ = made(soft_weight=0.5)
    out = other(none, none.rng)
    assert out.loss_sum.item() == pytest.approx(loss.item(), rel=1e-6)
    assert out.metrics["labelled"] == 0
    assert out.metrics["loss_soft"] == 0
    out.loss_sum.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in other.parameters())


def terms_of(
    objective: SoftCon, query: Tensor, key: Tensor, labels: Tensor, weight: Tensor
) -> tuple[float, float, float]:
    """Return the means of the loss, the instances' and the soft term, as the engine divides."""
    own = torch.arange(len(query))
    compared = Compared(weight, key, own, weight > 0, labels=labels)
    found = objective.terms(query, labels, compared)
    means = {name: float((x * weight).sum() / weight.sum()) for name, x in found.items()}
    return means["loss"], means["loss_instance"], means["loss_soft"] + means["soft_floor"]


@pytest.mark.parametrize("reduction", ["mean", "row", "sum"])
def test_images_without_labels_do_not_thin_the_soft_term(reduction: str) -> None:
    """Defect: the mean is over all rows, so half of the labels is half of the weight."""
    objective, _ = made(soft_reduction=reduction, soft_weight=0.3)
    generator = torch.Generator().manual_seed(4)
    query, key = (torch.randn(8, 8, generator=generator) for _ in range(2))
    labels = (torch.rand(8, 4, generator=generator) < 0.5).float()
    labels[:, 0] = 1.0
    weight = torch.tensor([1.0, 0.5, 1.0, 1.0, 1.0, 1.0, 0.0, 0.5])
    few = [0, 1, 2, 6]
    _, _, want = terms_of(objective, query[few], key[few], labels[few], weight[few])
    holed = labels.clone()
    holed[[3, 4, 5, 7]] = float("nan")
    loss, instance, found = terms_of(objective, query, key, holed, weight)
    if reduction == "sum":  # it was one over `total_rows` rows, and is a sum over pairs
        want = want * weight[few].sum().item() / weight.sum().item() * 2
    assert found == pytest.approx(want, rel=1e-5)
    assert loss == pytest.approx(instance + 0.3 * found, rel=1e-5)


def test_temperature_and_bias_may_be_learned() -> None:
    """SigLIP's: they begin where the fixed ones are, and go down the gradient of the loss."""
    settings = {"soft_temperature": 0.1, "soft_bias": -2.0, "soft_weight": 1.0}
    fixed, batch = made(**settings)
    objective, _ = made(**settings, soft_learned=True)
    assert objective.soft_scale is not None
    shared = fixed.state_dict()
    missing = objective.load_state_dict(shared, strict=False).missing_keys
    assert sorted(missing) == ["soft_bias", "soft_scale.log"]
    out = objective(batch, batch.rng)
    assert out.loss_sum.item() == pytest.approx(fixed(batch, batch.rng).loss_sum.item(), rel=1e-6)
    assert out.metrics["soft_temperature"].item() / 4 == pytest.approx(0.1)
    assert out.metrics["soft_bias"].item() / 4 == pytest.approx(-2.0)
    out.loss_sum.backward()
    log, bias = objective.soft_scale.log, objective.soft_bias
    for parameter in (log, bias):
        with torch.no_grad():
            near = []
            for by in (1e-2, -1e-2):
                parameter += by
                near.append(objective(batch, batch.rng).loss_sum.item())
                parameter -= by
        assert parameter.grad is not None
        assert parameter.grad.item() == pytest.approx((near[0] - near[1]) / 2e-2, rel=1e-2)


def test_labels_of_the_queue_belong_to_its_keys() -> None:
    """Defect: labels queued in another order than the keys, or none taken for a label of zeros."""
    objective, batch = made("softcon-v2", symmetric=False)
    assert objective.queue is not None
    assert objective.queued_labels is not None
    assert not objective.queued_labels.rows.any()  # random directions have no label
    batch.weight[1] = 0
    first = objective(batch, batch.rng)
    assert first.metrics["labelled"].item() == 2  # own keys; the third label was not read
    for part in (objective.queue, objective.queued_labels):
        part.take(lambda x: x)
    want = torch.nan_to_num(batch.labels["cover"][[0, 2, 3]])
    assert torch.equal(objective.queued_labels.rows[:3], want)
    (query,), (key,) = outputs(objective, replace(batch, weight=torch.ones(4)))
    rows, told = objective.queue.rows.double(), objective.queued_labels.rows.double()
    labels = torch.nan_to_num(batch.labels["cover"]).double()
    targets = functional.normalize(labels, dim=1) @ functional.normalize(told, dim=1).T
    known = labels.any(dim=1)[:, None] & told.any(dim=1)[None, :]
    own = (query * key).sum(dim=1, keepdim=True)
    shares = torch.sigmoid(torch.cat([own, query @ rows.T], dim=1) / 0.2)
    targets = torch.cat([torch.ones(4, 1), targets.clamp(max=1)], dim=1)
    known = torch.cat([labels.any(dim=1)[:, None], known], dim=1)
    losses = -(targets * shares.log() + (1 - targets) * (1 - shares).log())
    entropy = torch.special.entr(targets) + torch.special.entr(1 - targets)
    want_soft = (((losses - entropy) * known).sum(dim=1) / known.sum(dim=1).clamp(min=1)).sum()
    out = objective(replace(batch, weight=torch.ones(4)), batch.rng)
    assert out.metrics["loss_soft"].item() == pytest.approx(want_soft.item() * 4 / 3, rel=1e-4)


def test_each_view_has_the_label_of_its_season(monkeypatch: pytest.MonkeyPatch) -> None:
    """Defect: one label for all seasons of a place."""
    case = replace(
        CONTRASTS["moco-times"],
        config={**CONTRASTS["softcon-v3"].config, "label": "cover", "soft_diag": "label"},
    )
    objective = case.build()
    batch = case.batch(objective)
    one, two = torch.tensor([1.0, 0, 0, 0]), torch.tensor([0.0, 1, 0, 0])
    seasons = torch.stack([one, two])[None].repeat(4, 1, 1)
    apart = replace(batch, labels={"cover": seasons})
    assert isinstance(objective, SoftCon)
    chosen = objective.seasons(apart, apart.rng)
    told = [objective.labels_of(v) for v in objective.views(apart, apart.rng, chosen)]
    assert all(
        torch.equal(label, seasons[torch.arange(4), image])
        for label, image in zip(told, chosen, strict=True)
    )
    asked: list[tuple[Tensor, Tensor]] = []

    def spied(query: Tensor, labels: Tensor, compared: Compared) -> dict[str, Tensor]:
        assert compared.labels is not None
        asked.append((labels, compared.labels))
        return SoftCon.terms(objective, query, labels, compared)

    monkeypatch.setattr(objective, "terms", spied)
    objective(apart, apart.rng)
    assert len(asked) == 2
    for (mine, theirs), (want, other) in zip(asked, (told, told[::-1]), strict=True):
        assert torch.equal(mine, want)
        assert torch.equal(theirs, other)
        assert not (mine == theirs).all(dim=1).any()


def test_a_threshold_makes_fractions_several_labels() -> None:
    objective, batch = made(label_threshold=0.1)
    share = torch.tensor([[0.05, 0.95, 0.0, 0.0], [0.2, 0.8, 0.0, 0.0]]).repeat(2, 1)
    share[3] = float("nan")
    told = replace(batch, labels={"cover": share})
    (first, _) = objective.views(told, told.rng, objective.seasons(told, told.rng))
    want = torch.tensor([[0.0, 1, 0, 0], [1, 1, 0, 0], [0, 1, 0, 0]])
    assert torch.equal(objective.labels_of(first)[:3], want)
    assert objective.labels_of(first)[3].isnan().all()


def test_a_label_of_other_classes_is_refused() -> None:
    objective, _ = made()
    assert objective.label_names == ("cover",)
    with pytest.raises(UsageError, match=r"label cover has 2 classes in the data, .* built for 4"):
        objective.take_classes({"cover": ("water", "land")})


def test_a_number_is_no_land_cover() -> None:
    """Defect: every pair of numbers is alike, and nothing says so."""
    objective, _ = made()
    assert objective.label_kinds == {"cover": ("multilabel", "class", "fractions")}
