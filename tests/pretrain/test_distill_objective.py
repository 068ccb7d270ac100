"""Distillation: what the loss is of, and that the teacher stays as it was."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from fm.errors import UsageError
from fm.normalize import Normalisation
from fm.rng import CounterRng
from pretrain.engine.batches import MicroBatch
from pretrain.losses import cosine_distance, smooth_l1, whitened
from pretrain.objectives import ObjectiveConfig, build_objective
from pretrain.objectives.distill.config import TokenTerm
from pretrain.objectives.distill.objective import Distill, Taught
from pretrain.ranks.processes import processes
from tests.conformance.backbones import BACKBONES, SATMAE_GROUPS, SMALL, Case
from tests.conformance.objectives import OBJECTIVES
from tests.conformance.two_ranks import engine_of, steps

PLAIN = {"squared": 1.0, "cosine": 1.0, "smooth_l1": 0.0, "whiten": False}
STILL = {"optical": {"colour_chance": 0, "grey": 0, "blur_chance": 0}}


def distilled(student: Case, teacher: Case, **changes: Any) -> tuple[Distill, MicroBatch]:
    """Build a student of a teacher, and a batch of images of 4 x 4 of the student's tokens."""
    config: Any = TypeAdapter(ObjectiveConfig).validate_python(
        {"kind": "distill", "teacher": {"source": "given"}, **changes}
    )
    backbone = student.build()
    torch.manual_seed(1)
    taught = Taught(teacher.build(), backbone.bands)
    objective = build_objective(config, backbone.train(), taught)
    assert isinstance(objective, Distill)
    pixels = replace(student, rows=4, columns=4).pixels(backbone, 4)
    rng = CounterRng(7, torch.zeros(4, dtype=torch.int64), torch.arange(4))
    return objective, MicroBatch(pixels, torch.ones(4), {}, rng)


def copying(**changes: Any) -> tuple[Distill, MicroBatch]:
    """Build a student that says what its teacher says: the same weights, heads that do nothing."""
    objective, batch = distilled(
        *(BACKBONES["vit-linear"], BACKBONES["vit-linear"]),
        **{"pooled": PLAIN, "tokens": PLAIN, **changes},
    )
    for name in objective.heads:
        objective.heads[name] = _Same()
    return objective, batch


class _Same(nn.Linear):
    def __init__(self) -> None:
        super().__init__(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x


def loss_of(objective: Distill, batch: MicroBatch) -> dict[str, float]:
    out = objective(batch, batch.rng)
    return {"loss": out.loss_sum.item(), **{k: v.item() for k, v in out.metrics.items()}}


def test_a_student_that_says_what_its_teacher_says_has_no_loss() -> None:
    objective, batch = copying(relations={"distance": 1, "angle": 1})
    found = loss_of(objective, batch)
    assert found.pop("cosine") == pytest.approx(4.0)
    assert found == pytest.approx(dict.fromkeys(found, 0.0), abs=1e-5)
    with torch.no_grad():
        objective.backbone.get_parameter("norm.weight").mul_(torch.linspace(0.2, 1.8, 32))
    assert min(loss_of(objective, batch).values()) > 1e-3


@pytest.mark.parametrize("flips", ["horizontal", "square"])
@pytest.mark.parametrize("size", [None, 48])
@pytest.mark.parametrize("scale", [[0.2, 0.6], [1.0, 1.0]])
def test_both_see_the_same_ground_the_same_way_round(
    flips: str, size: int | None, scale: list[float]
) -> None:
    """Defect: crops or turns drawn for each of the two, so that tokens are of other places."""
    view = {"size": size, "scale": scale, "ratio": [1, 1], "flips": flips, **STILL}
    objective, batch = copying(view=view)
    assert loss_of(objective, batch)["loss"] < 1e-5
    ours, theirs = objective._views(batch, batch.rng)
    assert any(not torch.equal(ours.pixels[m], x) for m, x in batch.pixels.items())
    # a teacher that is shown more pixels is shown more pixels of the same
    fine, _ = copying(view=view, teacher_size=96)
    _, large = fine._views(batch, batch.rng)
    for name, x in theirs.pixels.items():
        means = torch.nn.functional.avg_pool2d(large.pixels[name], 96 // (size or 48))
        flat, wanted = means.flatten(1), x.flatten(1)
        each = torch.nn.functional.cosine_similarity(
            flat - flat.mean(1, keepdim=True), wanted - wanted.mean(1, keepdim=True)
        )
        assert each.min() > 0.8, name


def test_effects_are_for_the_student_alone() -> None:
    light = {"optical": {"colour_chance": 1, "brightness": 0.4, "grey": 0, "blur_chance": 0}}
    plain = {"scale": [1, 1], "ratio": [1, 1], "flips": "none"}
    objective, batch = copying(view={**plain, **light})
    ours, theirs = objective._views(batch, batch.rng)
    for name, x in batch.pixels.items():
        assert torch.equal(theirs.pixels[name], x)
        assert (ours.pixels[name] - x).abs().mean() > 0.02
    assert loss_of(objective, batch)["loss"] > 1e-3


def test_the_loss_is_that_of_the_papers() -> None:
    """AM-RADIO's on pooled features, feature distillation's on tokens; the widths differ."""
    wide = Case("vit_nano", {"width": 48, "depth": 1, "heads": 2})
    objective, batch = distilled(BACKBONES["vit-linear"], wide, tokens={"weight": 0.5})
    batch.weight[1] = 0.25
    seen = objective.backbone.encode(batch.pixels)
    wanted = objective.teacher.encode(batch.pixels)
    pooled = cosine_distance(objective.heads["pooled"](seen.pooled), wanted.pooled)
    tokens = smooth_l1(objective.heads["tokens"](seen.tokens), whitened(wanted.tokens), beta=2.0)
    want = (batch.weight * (pooled + 0.5 * tokens.mean(dim=1))).sum().item()
    found = loss_of(objective, batch)
    assert found["loss"] == pytest.approx(want, rel=1e-6)
    assert found["loss"] == pytest.approx(found["loss_pooled"] + 0.5 * found["loss_tokens"])
    assert objective(batch, batch.rng).weight == 3.25


@pytest.mark.parametrize("grid", ["as the student's", "finer"])
def test_tokens_without_a_valid_pixel_are_not_averaged_over(grid: str) -> None:
    """Defect: the loss of tokens that nobody saw, or a mean that divides by them too."""
    teacher = Case("vit_nano", SMALL, token_m=60 if grid == "finer" else 120)
    objective, batch = distilled(BACKBONES["vit-linear"], teacher, pooled={"weight": 0})
    valid = {m: torch.ones_like(x, dtype=torch.bool) for m, x in batch.pixels.items()}
    for mask in valid.values():
        mask[:, :, : mask.shape[-2] // 2] = False  # the upper two rows of tokens
    told = replace(batch, valid=valid)
    seen = objective.inputs(told)
    with torch.no_grad():
        ours, theirs = (
            objective.backbone._encode(seen, False),
            objective.teacher.encode(batch.pixels, valid=valid),
        )
        target = theirs.tokens.unflatten(1, theirs.grid["s2l1c"])
        rows = target.shape[1] // 4
        target = target[:, 2 * rows :].unflatten(1, (2, rows)).mean(dim=2)
        target = target.unflatten(2, (4, rows)).mean(dim=3).flatten(1, 2)
        made = objective.heads["tokens"](ours.tokens[:, 8:])
        want = smooth_l1(made, whitened(target)).mean(dim=1).sum().item()
    assert loss_of(objective, told)["loss"] == pytest.approx(want, rel=1e-5)
    spoiled = {m: torch.where(valid[m], x, 9.0) for m, x in batch.pixels.items()}
    assert loss_of(objective, replace(told, pixels=spoiled))["loss"] == pytest.approx(want)
    for mask in valid.values():
        mask[2] = False
    out = objective(told, told.rng)
    assert out.weight == objective.weight(told) == 3.0
    assert out.loss_sum.isfinite()


def test_a_view_that_shows_nothing_is_related_to_no_other_sample() -> None:
    """Defect: relations to what is made of a crop without a valid pixel."""
    view = {"size": None, "scale": [0.2, 0.3], "ratio": [1, 1], "flips": "none", **STILL}
    none = {"weight": 0}
    objective, batch = copying(view=view, pooled=none, tokens=none, relations={"distance": 1})
    with torch.no_grad():  # otherwise the two say the same of everything
        objective.backbone.get_parameter("norm.weight").mul_(torch.linspace(0.2, 1.8, 32))
        objective.backbone.get_parameter("norm.bias").add_(torch.linspace(-1.0, 1.0, 32))
    valid = {m: torch.ones_like(x, dtype=torch.bool) for m, x in batch.pixels.items()}
    for mask in valid.values():
        mask[0] = False
        mask[0, :, :1, :1] = True  # a corner
    told = replace(batch, valid=valid)
    ours, _ = objective._views(told, told.rng)
    assert ours.valid is not None
    assert not any(mask[0].any() for mask in ours.valid.values())  # the crop is elsewhere
    out = objective(told, told.rng)
    weight = batch.weight.clone()
    weight[0] = 0.0
    want = objective(replace(batch, weight=weight), batch.rng)
    assert want.loss_sum > 1e-3
    assert out.loss_sum.item() == pytest.approx(want.loss_sum.item(), rel=1e-5)
    # weights are told before views are drawn
    assert out.weight == objective.weight(told) == 4.0


def test_the_teacher_stays_in_use_while_the_student_trains() -> None:
    """Defect: batch norms of a teacher in training, whose statistics move with the data."""
    case = OBJECTIVES["distill-of-resnet"]
    objective = case.build()
    assert isinstance(objective, Distill)
    batch = case.batch(objective)
    norms = [m for m in objective.teacher.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    before = {name: x.clone() for name, x in objective.teacher.named_buffers()}
    said = objective.teacher.encode(batch.pixels).pooled
    objective.train()
    for _ in range(2):
        objective(batch, batch.rng).loss_sum.backward()
    assert objective.backbone.training
    assert not any(m.training for m in objective.teacher.modules())
    assert all(torch.equal(x, before[name]) for name, x in objective.teacher.named_buffers())
    assert torch.equal(objective.teacher.encode(batch.pixels).pooled, said)


def test_nothing_of_the_teacher_is_learned_or_kept() -> None:
    """Defect: a teacher among the parameters, which an optimiser moves and a checkpoint holds."""
    with processes() as device:
        case = OBJECTIVES["distill"]
        engine = engine_of(case.build(), 4, device)
        objective = engine.objective
        assert isinstance(objective, Distill)
        held = {id(x) for x in objective.teacher.buffers()}
        assert held
        assert not list(objective.teacher.parameters())
        assert not any(id(x) in held for x in objective.parameters())
        assert not any(name.startswith("teacher") for name in objective.state_dict())
        before = {name: x.clone() for name, x in objective.teacher.named_buffers()}
        weights = objective.backbone.get_parameter("norm.weight").clone()
        steps(case, engine, range(2))
        assert not torch.equal(objective.backbone.get_parameter("norm.weight"), weights)
        assert all(torch.equal(x, before[n]) for n, x in objective.teacher.named_buffers())
        # nor does a gradient go through it to the pixels
        batch = case.batch(objective)
        pixels = {m: x.requires_grad_() for m, x in batch.pixels.items()}
        told = []
        real = objective.teacher._encode

        def noted(*words: Any) -> Any:
            told.append(real(*words))
            return told[-1]

        objective.teacher._encode = noted  # type: ignore[method-assign]
        objective(replace(batch, pixels=pixels), batch.rng).loss_sum.backward()
        assert not told[0].tokens.requires_grad
        assert not told[0].pooled.requires_grad


def test_bands_are_found_by_name_in_any_order() -> None:
    """Defect: the first channels of the data for those of the teacher."""
    objective, batch = distilled(BACKBONES["vit-linear"], BACKBONES["vit-linear"])
    want = loss_of(objective, batch)
    order = [3, 1, 0, 2]
    bands = dict(objective.bands)
    bands["s2l1c_10"] = tuple(bands["s2l1c_10"][i] for i in order)
    turned = {**batch.pixels, "s2l1c_10": batch.pixels["s2l1c_10"][:, order]}
    valid = {m: torch.rand_like(x) > 0.2 for m, x in batch.pixels.items()}
    other = Distill(objective.backbone, objective.config, Taught(objective.teacher, bands))
    other.heads = objective.heads
    assert loss_of(other, replace(batch, pixels=turned)) == pytest.approx(want, rel=1e-6)
    masks = {**valid, "s2l1c_10": valid["s2l1c_10"][:, order]}
    assert loss_of(other, replace(batch, pixels=turned, valid=masks)) == pytest.approx(
        loss_of(objective, replace(batch, valid=valid)), rel=1e-6
    )


def test_one_group_of_a_teacher_serves_all_of_a_student() -> None:
    groups = Case("vit_nano", token_groups=SATMAE_GROUPS, token_m=120)
    objective, batch = distilled(groups, BACKBONES["vit-linear"], pooled={"weight": 0})
    assert loss_of(objective, batch)["loss"] > 0
    shapes = {m: torch.empty(x.shape, device="meta") for m, x in batch.pixels.items()}
    assert set(objective.grids(shapes)) == set(SATMAE_GROUPS)
    backwards, _ = distilled(BACKBONES["vit-linear"], groups)
    with pytest.raises(UsageError, match="ten, twenty, sixty; say which of them s2l1c"):
        backwards.grids(shapes)
    named, _ = distilled(BACKBONES["vit-linear"], groups, groups={"s2l1c": "twenty"})
    named.grids(shapes)
    assert loss_of(named, batch)["loss"] > 0
    wrong, _ = distilled(BACKBONES["vit-linear"], groups, groups={"s2l1c": "thirty"})
    with pytest.raises(UsageError, match=r"objective\.groups names thirty; the student has s2l1c"):
        wrong.grids(shapes)


def test_land_cover_may_be_learned_beside_a_teacher() -> None:
    student = BACKBONES["vit-linear"]
    beside = {"kind": "distill", "teacher": {"source": "given"}}
    config: Any = TypeAdapter(ObjectiveConfig).validate_python(
        {"kind": "landcover", "label": "cover", "classes": 4, "beside": beside}
    )
    backbone = student.build()
    teacher = student.build()
    objective = build_objective(config, backbone.train(), Taught(teacher, backbone.bands))
    _, batch = copying()
    told = replace(batch, labels={"cover": torch.eye(4)})
    out = objective(told, told.rng)
    assert out.metrics["loss_beside"] + out.metrics["loss_landcover"] == pytest.approx(
        out.loss_sum.item()
    )
    assert len(objective.compiled_modules()) == 2 * len(objective.block_modules())


def test_what_does_not_go_together_is_one_line() -> None:
    s2, radar = BACKBONES["vit-linear"], Case("vit_nano", sensor="sentinel1-grd", token_m=160)
    with pytest.raises(UsageError, match=r"objective\.teacher: takes s1grd_10, and the data has"):
        distilled(s2, radar)
    some = dict(s2.build().bands)
    some["s2l1c_20"] = some["s2l1c_20"][1:]
    config: Any = OBJECTIVES["distill"].build().config
    with pytest.raises(UsageError, match=r"objective\.teacher: needs B05 of s2l1c_20, which"):
        Distill(s2.build(some), config, Taught(s2.build(), some))
    del some["s2l1c_20"]
    with pytest.raises(UsageError, match="of s2l1c_20, which the data lacks as a whole"):
        Distill(s2.build(some), config, Taught(s2.build(), some))
    objective, batch = distilled(s2, Case("vit_nano", token_m=1200))
    shapes = {m: torch.empty(x.shape, device="meta") for m, x in batch.pixels.items()}
    with pytest.raises(UsageError, match=r"objective\.teacher: s2l1c_10: 48x48 px is not a whole"):
        objective.grids(shapes)
    parted, _ = distilled(s2, s2)
    with pytest.raises(UsageError, match="samples of s2l1c_10 lack s2l1c_20, which it needs"):
        parted.grids({"s2l1c_10": shapes["s2l1c_10"]})
    flat, _ = distilled(s2, s2, teacher_size=96)
    broad = {m: torch.cat([x, x], dim=-1) for m, x in shapes.items()}
    with pytest.raises(UsageError, match=r"samples of 48 x 96 .*; give objective\.view\.size"):
        flat.grids(broad)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"pooled": {"cosine": 0}}, "give squared, cosine or smooth_l1 a share"),
        ({"pooled": {"weight": 0}, "tokens": {"weight": 0}}, "all weights are 0"),
        ({"view": {"size": 8, "resize": False}, "teacher_size": 16}, "have one size"),
        ({"teacher": {"source": "x", "sha256": "abc"}}, "sha256"),
    ],
)
def test_settings_that_mean_nothing_are_refused(words: dict[str, Any], said: str) -> None:
    values = {"kind": "distill", "teacher": {"source": "given"}, **words}
    with pytest.raises(ValidationError, match=said):
        TypeAdapter(ObjectiveConfig).validate_python(values)


def test_a_teacher_keeps_its_own_normalisation() -> None:
    objective, batch = distilled(BACKBONES["vit-linear"], BACKBONES["vit-linear"])
    want = objective.teacher.encode(batch.pixels).pooled
    objective.backbone.normalisation = {
        m: Normalisation("zscore", (0.5,) * len(b), (0.3,) * len(b))
        for m, b in objective.backbone.bands.items()
    }
    objective.teacher.normalisation = {
        m: Normalisation("zscore", (0.1,) * len(b), (0.7,) * len(b))
        for m, b in objective.teacher.bands.items()
    }
    given = objective.teachers_look.inputs(batch)
    assert given.normalisation["s2l1c_10"].shift == (0.1,) * 4
    assert not torch.allclose(objective.teacher._encode(given, False).pooled, want)


def test_tokens_that_the_teacher_could_not_see_are_no_targets() -> None:
    """Defect: what a teacher makes of tokens without data, where the student has some."""
    ten, rest = SATMAE_GROUPS["ten"], (*SATMAE_GROUPS["twenty"], *SATMAE_GROUPS["sixty"])
    teacher = Case("vit_nano", token_groups={"ten": ten, "rest": rest}).build()
    whole, batch = copying(pooled={"weight": 0})
    student = BACKBONES["vit-linear"].build({"s2l1c_10": whole.bands["s2l1c_10"]}).train()
    config = whole.config.model_copy(
        update={"groups": {"s2l1c": "rest"}, "tokens": TokenTerm(**PLAIN)}
    )
    objective = Distill(student, config, Taught(teacher, whole.bands))
    valid = {m: torch.ones_like(x, dtype=torch.bool) for m, x in batch.pixels.items()}
    for name in ("s2l1c_20", "s2l1c_60"):  # the upper two rows of tokens
        valid[name][:, :, : valid[name].shape[-2] // 2] = False
    told = replace(batch, valid=valid)
    with torch.no_grad():
        made = objective.heads["tokens"](student._encode(objective.inputs(told), False).tokens)
        theirs = objective.teacher.encode(batch.pixels, valid=valid).tokens[:, 16:]
        each = (made - theirs).square().mean(dim=-1) + cosine_distance(made, theirs)
    assert loss_of(objective, told)["loss"] == pytest.approx(each[:, 8:].mean(dim=1).sum().item())
