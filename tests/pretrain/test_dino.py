"""Self-distillation: which views are compared, what warms up, what is held still, the centre."""

import copy
import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from fm.errors import UsageError
from fm.models import Inputs
from pretrain.engine.batches import MicroBatch
from pretrain.engine.engine import Engine
from pretrain.objectives.contrast.dino import DINO
from pretrain.objectives.contrast.prototypes import DistillationHead, Prototypes
from pretrain.objectives.contrast.siamese import pooled
from pretrain.ranks.processes import processes
from pretrain.schedule import Clock
from pretrain.settings.engine import EngineConfig
from pretrain.settings.optimizer import OptimizerConfig
from tests.conformance.objectives import CONTRASTS, ObjectiveCase
from tests.conformance.test_objectives import gradients
from tests.conformance.two_ranks import engine_of

CASE = CONTRASTS["dino"]


@pytest.fixture(scope="module")
def device() -> Iterator[torch.device]:
    with processes() as place:
        yield place


def made(case: ObjectiveCase = CASE, **changes: object) -> tuple[DINO, MicroBatch]:
    """Build the objective with other settings, and a batch of four."""
    objective = replace(case, config={**case.config, **changes}).build()
    assert isinstance(objective, DINO)
    return objective, case.batch(objective)


def seen(objective: DINO, batch: MicroBatch) -> tuple[list[Tensor], list[Tensor], float]:
    """Return the outputs of student and teacher by pass, and the loss."""
    passes: dict[str, list[Tensor]] = {"student": [], "teacher": []}
    hooks = [
        part.register_forward_hook(lambda _, __, out, n=name: passes[n].append(out.detach()))
        for name, part in (("student", objective.head), ("teacher", objective.teacher["head"]))
    ]
    loss = objective(batch, batch.rng).loss_sum.item()
    for hook in hooks:
        hook.remove()
    return passes["student"], passes["teacher"], loss


def test_each_view_is_compared_with_the_other_large_ones() -> None:
    """Defect: a large view with itself, or small views that the teacher sees too."""
    objective, batch = made()
    objective.centre.centre += 0.05 * torch.randn(24, generator=torch.Generator().manual_seed(1))
    student, teacher, loss = seen(objective, batch)
    assert [len(x) for x in student] == [8, 8]  # two large views, two small ones, of four samples
    assert [len(x) for x in teacher] == [8]
    said = [*student[0].double().chunk(2), *student[1].double().chunk(2)]
    told = [x - objective.centre.centre.double() for x in teacher[0].double().chunk(2)]
    total, pairs = 0.0, 0
    for (t, shown), (s, answer) in itertools.product(enumerate(told), enumerate(said)):
        if t != s:
            shares = torch.softmax(shown / 0.04, dim=1)
            total -= (shares * torch.log_softmax(answer / 0.1, dim=1)).sum().item()
            pairs += 1
    assert pairs == 6
    assert loss == pytest.approx(total / pairs, rel=1e-5)


def test_without_small_views_the_large_ones_tell_each_other() -> None:
    objective, batch = made(local_views=0)
    student, _, loss = seen(objective, batch)
    assert [len(x) for x in student] == [8]
    assert loss > 0


def test_the_teacher_gets_no_gradient_and_the_student_does() -> None:
    objective, batch = made()
    objective(batch, batch.rng).loss_sum.backward()
    assert all(p.grad is None for p in objective.teacher.parameters())
    assert all(p.grad is not None and p.grad.any() for p in objective.head.parameters())


def test_the_teacher_warms_up() -> None:
    """Defect: the ramp's start for the whole run; the teacher stays as sharp as it began."""
    warm = {"start": 0.04, "end": 0.5, "kind": "linear", "samples": 100}
    objective, batch = made(teacher_temperature=warm)
    entropies = []
    for moment in (0, 50, 100, 900):
        batch.clock = Clock(moment, 1000)
        entropies.append(objective(batch, batch.rng).metrics["teacher_entropy"].item())
    fixed, _ = made(teacher_temperature=0.04)
    batch.clock = Clock(900, 1000)
    assert fixed(batch, batch.rng).metrics["teacher_entropy"].item() == entropies[0]
    assert entropies[0] < entropies[1] < entropies[2] == entropies[3]
    with pytest.raises(UsageError, match="above 0 at both ends"):
        made(teacher_temperature={"start": 0.04, "end": 0.0})


def test_the_last_layer_is_still_for_a_share_of_the_run() -> None:
    objective, batch = made(freeze_last=0.25)
    for moment, learns in ((0, False), (240, False), (250, True), (1000, True)):
        objective.zero_grad(set_to_none=True)
        batch.clock = Clock(moment, 1000)
        objective(batch, batch.rng).loss_sum.backward()
        last = objective.head.last
        assert last.lengths is not None
        found = [p.grad is not None and bool(p.grad.any()) for p in (last.weight, last.lengths)]
        assert found == [learns, learns]
        assert objective.head.mlp[0].weight.grad.any()


def test_outputs_are_cosines_unless_lengths_are_learned() -> None:
    """Defect: a last layer whose norm grows, which sharpens the student without saying more."""
    layer = Prototypes(5, 7)
    rows = torch.randn(3, 5)
    cosines = torch.nn.functional.cosine_similarity(rows[:, None], layer.weight[None], dim=2)
    assert torch.allclose(layer(rows), cosines, atol=1e-6)
    with torch.no_grad():
        layer.weight *= 9.0
    assert torch.allclose(layer(rows), cosines, atol=1e-6)
    assert [n for n, _ in layer.named_parameters()] == ["weight"]
    long = Prototypes(5, 7, learn_lengths=True)
    with torch.no_grad():
        assert long.lengths is not None
        long.lengths *= 2.0
        long.weight.copy_(layer.weight)
    assert torch.allclose(long(rows), 2 * cosines, atol=1e-6)


def test_the_head_is_float32_behind_the_bottleneck() -> None:
    head = DistillationHead(8, hidden=6, bottleneck=5, outputs=7, learn_lengths=False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = head(torch.randn(2, 8))
    assert found.dtype is torch.float32
    assert not torch.equal(found, found.bfloat16().float())


def test_the_centre_follows_the_batch_whatever_its_passes() -> None:
    """Defect: a centre that moves between passes, by a rank's mean, or with unread samples."""
    found = []
    for parts in (1, 2):
        objective, whole = made()
        whole.weight[3] = 0.0
        _, teacher, _ = seen(objective, whole)
        objective.centre.drop()
        first = objective.centre.centre.clone()
        for piece in whole.split(4 // parts):
            objective(piece, piece.rng)
        assert torch.equal(objective.centre.centre, first)
        objective.centre.take(lambda x: x)
        found.append(objective.centre.centre.clone())
        want = 0.1 * teacher[0].mean(dim=0)
        assert torch.allclose(found[-1], want, atol=1e-6)
    assert torch.allclose(found[0], found[1], atol=1e-6)


def test_a_step_moves_the_centre_and_its_state_is_kept(device: torch.device) -> None:
    """Defect: a centre that no checkpoint holds begins again at zero."""
    objective, batch = made()
    engine = engine_of(objective, 4, device)
    engine.step([batch], 1e-3, stop=False)
    moved = objective.centre.centre.clone()
    assert moved.any()
    assert torch.equal(objective.state_dict()["centre.centre"], moved)
    engine.step([batch], 1e-3, stop=False, judge=lambda _: False)
    assert torch.equal(objective.centre.centre, moved)  # a step that is not taken shows nothing


def test_three_steps_are_the_papers_algorithm(device: torch.device) -> None:
    """Algorithm 1 of the paper, written out in float64 behind the features, beside the engine.

    Defects: a centre of the same step, a teacher that moves before the student or by the momentum
    of the next step, a view compared with itself, a loss that sums where the paper takes means.
    """
    objective, _ = made(momentum={"start": 0.7, "end": 1.0}, freeze_last=0.0, norm_last_layer=True)
    student = copy.deepcopy(nn.ModuleDict({"net": objective.backbone, "head": objective.head}))
    teacher = copy.deepcopy(student)
    drawn: list[Inputs] = []
    original = objective.inputs
    objective.inputs = lambda view: drawn.append(original(view)) or drawn[-1]  # type: ignore[method-assign, func-returns-value]
    told = {"kind": "sgd", "lr": 0.5, "weight_decay": 0.0, "momentum": 0.0}
    engine = Engine(
        objective,
        OptimizerConfig.model_validate(told),
        EngineConfig(precision="fp32"),
        micro_batch=4,
        accumulate=1,
        device=device,
    )

    def outputs(network: nn.ModuleDict, view: Inputs) -> Tensor:
        rows = network["head"].mlp(pooled(network["net"], view, None)).double()  # type: ignore[arg-type]
        directions = normalize(network["head"].last.weight.double(), dim=1)
        return normalize(rows, dim=1) @ directions.T

    centre = torch.zeros(24, dtype=torch.float64)
    for number in range(3):
        batch = CASE.batch(objective, 4, seed=number)
        batch.clock = Clock(4 * number, 8)
        drawn.clear()
        found, _ = engine.step([batch], 0.5, stop=False)
        answers = [outputs(student, view) for view in drawn]
        with torch.no_grad():
            shown = [outputs(teacher, view) for view in drawn[:2]]
        terms = [
            -(torch.softmax((t - centre) / 0.04, 1) * torch.log_softmax(s / 0.1, 1)).sum(1).mean()
            for (i, t), (j, s) in itertools.product(enumerate(shown), enumerate(answers))
            if i != j
        ]
        assert len(terms) == 6
        loss = torch.stack(terms).mean()
        assert found.loss == pytest.approx(loss.item(), rel=1e-5)
        loss.backward()
        follow = 1 - 0.3 * (math.cos(math.pi * number / 2) + 1) / 2
        with torch.no_grad():
            for own, slow in zip(student.parameters(), teacher.parameters(), strict=True):
                if own.grad is not None:
                    own -= 0.5 * own.grad
                    own.grad = None
                slow.copy_(follow * slow + (1 - follow) * own)
        centre = 0.9 * centre + 0.1 * torch.cat(shown).mean(dim=0)
        assert torch.allclose(objective.centre.centre.double(), centre, atol=1e-6)
    ours = nn.ModuleDict({"net": objective.backbone, "head": objective.head})
    moved = nn.ModuleDict({"net": objective.teacher["backbone"], "head": objective.teacher["head"]})
    for made_here, reference in ((ours, student), (moved, teacher)):
        want = dict(reference.named_parameters())
        for name, value in made_here.named_parameters():
            # float32 features behind a temperature of .04, and steps of .5 to entries of 12
            atol = 1e-5 * max(1.0, float(want[name].detach().abs().max()))
            assert torch.allclose(value, want[name], rtol=1e-4, atol=atol), name


def test_seasons_of_a_place() -> None:
    """Two large views of different images, all small ones of a third."""
    objective, batch = made(CONTRASTS["dino-times"])
    assert objective.takes_series
    drawn = []
    original = objective.inputs

    def inputs(view: MicroBatch) -> object:
        drawn.append(view.image)  # type: ignore[attr-defined]
        return original(view)

    objective.inputs = inputs  # type: ignore[method-assign, assignment]
    out = objective(batch, batch.rng)
    first, second, *small = drawn
    assert (first != second).all()
    assert len(small) == 2
    assert torch.equal(small[0], small[1])
    assert out.metrics["one_season"].item() == len(batch.weight)  # a third of two is one again


def test_views_that_do_not_fit_are_refused() -> None:
    objective, batch = made(local_view={"size": 16})
    with pytest.raises(UsageError, match=r"^objective\.local_view\.size=16: .*whole"):
        objective.grids(batch.pixels)
    with pytest.raises(UsageError, match=r"objective\.local_view\.radar is set"):
        made(local_view={"size": 12, "radar": {"speckle": 8.0}})


def test_samples_of_a_vit_may_be_cut_and_those_of_batch_norms_may_not() -> None:
    assert not made()[0].whole_batch
    assert made(centring="sinkhorn")[0].whole_batch
    assert made(CONTRASTS["dino-sinkhorn"], centring="mean")[0].whole_batch


def test_losses_and_gradients_add_up_over_any_split() -> None:
    """Defect: a mean of means, or state that moves between the passes of a step."""
    objective, whole = made()
    whole.weight[3], whole.weight[0] = 0.5, 0.0
    loss, gradient = gradients(objective, whole)
    parts = [gradients(objective, whole.select(rows)) for rows in (slice(0, 3), slice(3, 4))]
    assert sum(part[0] for part in parts) == pytest.approx(loss, rel=1e-5)
    for name, want in gradient.items():
        got = torch.as_tensor(sum(part[1][name] for part in parts))
        assert torch.allclose(got, want, rtol=1e-3, atol=3e-5), name


def test_the_teacher_is_what_is_left_behind() -> None:
    objective, _ = made()
    assert objective.model is objective.teacher["backbone"]
    assert made(export="student")[0].model is not objective.teacher["backbone"]
