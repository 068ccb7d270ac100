"""Momentum contrast: which rows are compared, the teacher, the queue, ranks, and what is kept."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import fm
from fm.errors import UsageError
from pretrain.engine.batches import MicroBatch
from pretrain.objectives.contrast.moco import MoCo, MoCoConfig
from pretrain.objectives.contrast.momentum import MomentumContrast
from pretrain.ranks.processes import processes
from pretrain.runs.offline import export
from pretrain.trainer import run
from tests import ranks
from tests.conformance.objectives import CONTRASTS
from tests.conformance.two_ranks import engine_of
from tests.pretrain import momentum_ranks
from tests.pretrain.batches import backbone
from tests.pretrain.momentum_ranks import NAMES, built, results
from tests.pretrain.test_trainer import config_file

FEW_ROWS = {"moco-v2": 1e-6, "moco-v3": 2e-5, "softcon-v2": 2e-5, "softcon-v3": 2e-5}
"""Where there are batch norms (all but the first) rounding is divided by small deviations."""


@pytest.fixture(scope="module")
def device() -> Iterator[torch.device]:
    with processes() as place:
        yield place


def made(name: str, **changes: object) -> tuple[MomentumContrast, MicroBatch]:
    """Build a case with other settings, and a batch of four."""
    case = replace(CONTRASTS[name], config={**CONTRASTS[name].config, **changes})
    objective = case.build()
    assert isinstance(objective, MomentumContrast)
    return objective, case.batch(objective)


def outputs(objective: MomentumContrast, batch: MicroBatch) -> tuple[list[Tensor], list[Tensor]]:
    """Return the rows of student and teacher by pass, of length 1."""
    found: dict[str, list[Tensor]] = {"student": [], "teacher": []}
    student = objective.predictor if objective.queue is None else objective.projector
    hooks = [
        part.register_forward_hook(
            lambda _, __, out, n=name: found[n].append(functional.normalize(out.detach().double()))
        )
        for name, part in (("student", student), ("teacher", objective.teacher["projector"]))
    ]
    objective(batch, batch.rng)
    for hook in hooks:
        hook.remove()
    return found["student"], found["teacher"]


def test_two_ranks_are_one_with_teacher_queue_and_gathers(tmp_path: Path) -> None:
    """Defect: negatives, statistics or queues of each rank's own rows."""
    done = ranks.launch(tmp_path / "told", momentum_ranks.main, tmp_path / "found.pt", ranks=2)
    assert done.returncode == 0, done.stderr
    found = torch.load(tmp_path / "found.pt")
    for name in NAMES:
        want, got, near = results(name), found[name], FEW_ROWS[name]
        assert got["sums"] == pytest.approx(want["sums"], rel=near, abs=near), name
        assert got["gradients"].keys() == want["gradients"].keys()
        whole = torch.cat([x.flatten() for x in want["gradients"].values()]).norm()
        for key, value in want["gradients"].items():
            assert (got["gradients"][key] - value).norm() < near * whole, (name, key)
        for key, value in want["queues"].items():
            assert torch.allclose(got["queues"][key].double(), value.double(), atol=near), key


def test_v2_compares_with_its_own_key_and_the_queue() -> None:
    """Defect: other keys of the batch as negatives beside the queue."""
    objective, batch = made("moco-v2")
    assert objective.queue is not None
    queue = objective.queue.rows.double().clone()
    assert torch.allclose(queue.norm(dim=1), torch.ones(10, dtype=torch.float64))
    (query,), (key,) = outputs(objective, batch)
    logits = torch.cat([(query * key).sum(dim=1, keepdim=True), query @ queue.T], dim=1) / 0.2
    want = -torch.log_softmax(logits, dim=1)[:, 0].sum()
    assert objective(batch, batch.rng).loss_sum.item() == pytest.approx(want.item(), rel=1e-5)


def test_v3_is_the_published_sum_of_both_directions() -> None:
    """Defect: a view compared with its own key, or twice the temperature left out."""
    objective, batch = made("moco-v3")
    query, key = outputs(objective, batch)
    # keys are made in the order of the directions: of the second view first
    total = sum(
        functional.cross_entropy(q @ k.T / 0.2, torch.arange(4), reduction="sum") * 2 * 0.2
        for q, k in zip(query, key, strict=True)
    )
    assert objective(batch, batch.rng).loss_sum.item() == pytest.approx(float(total), rel=1e-5)


def test_a_sample_that_could_not_be_read_is_no_negative_and_not_in_the_statistics() -> None:
    for name in ("moco-v3", "softcon-v2", "softcon-v3"):
        objective, batch = made(name)
        batch.weight[1] = 0
        loss = objective(batch, batch.rng).loss_sum
        for x in batch.pixels.values():
            x[1] = 7.0
        assert torch.equal(objective(batch, batch.rng).loss_sum, loss), name


def test_the_queue_takes_keys_in_the_order_of_samples_and_only_what_could_be_read() -> None:
    objective, batch = made("moco-v2", symmetric=True)
    assert objective.queue is not None
    batch.weight[2] = 0
    _, (second, first) = outputs(objective, batch)
    objective.queue.drop()
    objective(batch, batch.rng)
    objective.queue.take(lambda x: x)
    want = torch.stack([first, second], dim=1).flatten(0, 1)  # the three that could be read
    assert torch.allclose(objective.queue.rows[:6].double(), want, atol=1e-6)


def test_the_student_sees_a_part_and_the_teacher_all() -> None:
    """Defect: Siamese masking of the teacher, or of neither."""
    objective, batch = made("moco-v3", mask_ratio=0.5)
    lengths: dict[str, set[int]] = {"student": set(), "teacher": set()}
    models = {"student": objective.backbone, "teacher": objective.teacher["backbone"]}
    for name, model in models.items():
        block = model.get_submodule("blocks.0")
        block.register_forward_pre_hook(
            lambda _, inputs, n=name: lengths[n].add(inputs[0].shape[1])
        )
    objective(batch, batch.rng)
    assert lengths == {"student": {1 + 2}, "teacher": {1 + 4}}


def test_masked_patches_of_a_resnet_are_zeros_after_normalisation() -> None:
    """Defect: pixels of 0 in stored or physical units, which a model sees as very dark."""
    objective, batch = made("softcon-v2", mask_ratio=0.5)
    seen: dict[str, list[Tensor]] = {"student": [], "teacher": []}
    models = {"student": objective.backbone, "teacher": objective.teacher["backbone"]}
    for name, model in models.items():
        model.get_submodule("resnet.conv1").register_forward_pre_hook(
            lambda _, inputs, n=name: seen[n].append(inputs[0])
        )
    objective(batch, batch.rng)
    for image in seen["student"]:
        patches = image.unfold(2, 32, 32).unfold(3, 32, 32)
        zero = (patches == 0).all(dim=(1, 4, 5))
        assert zero.sum(dim=(1, 2)).tolist() == [2] * 4
    assert all((image != 0).any(dim=1).all() for image in seen["teacher"])


@pytest.mark.parametrize("name", NAMES)
def test_the_teacher_gets_no_gradient_and_moves(name: str, device: torch.device) -> None:
    objective, batch = made(name, momentum=0.9)
    engine = engine_of(objective, 4, device)
    before = {n: x.clone() for n, x in objective.teacher.state_dict().items()}
    engine.step([batch], 1e-2, stop=False)
    assert list(objective.teacher.parameters()) == []  # buffers, which nothing can learn
    own = {
        **{f"backbone.{n}": p for n, p in objective.backbone.named_parameters()},
        **{f"projector.{n}": p for n, p in objective.projector.named_parameters()},
    }
    now = objective.teacher.state_dict()
    for key, weight in own.items():
        assert torch.allclose(now[key], 0.9 * before[key] + 0.1 * weight, atol=1e-6), key
    assert any((now[key] - before[key]).abs().max() > 1e-5 for key in own)


def test_the_teacher_of_a_bfloat16_student_moves(device: torch.device) -> None:
    objective, batch = made("moco-v3", momentum=0.999)
    engine = engine_of(objective, 4, device, precision="pure-bf16", deepspeed="zero1")
    before = {n: x.clone() for n, x in objective.teacher.state_dict().items()}
    for _ in range(2):
        engine.step([batch], 1e-3, stop=False)
    now = objective.teacher.state_dict()
    assert next(objective.projector.parameters()).dtype is torch.bfloat16
    assert all(x.dtype is torch.float32 for x in now.values() if x.is_floating_point())
    moved = [(now[n] - x).abs().max() for n, x in before.items() if x.is_floating_point()]
    assert max(moved) > 0
    assert sum(float(m) > 0 for m in moved) > len(moved) / 2


def test_seasons_differ_unless_the_old_way_is_asked_for() -> None:
    objective, batch = made("moco-times")
    first, second = objective.seasons(batch, batch.rng)
    assert (first != second).all()
    told = objective(batch, batch.rng)
    assert told.metrics["one_season"] == 0
    objective, _ = made("moco-times", legacy_seasons_with_replacement=True)
    many = CONTRASTS["moco-times"].batch(objective, 64)
    first, second = objective.seasons(many, many.rng)
    assert 16 < int((first == second).sum()) < 48


def test_a_frozen_embedding_learns_nothing_and_is_of_vits() -> None:
    objective, batch = made("moco-v3", frozen_embedding=True)
    objective(batch, batch.rng).loss_sum.backward()
    assert isinstance(objective, MoCo)
    assert all(p.grad is None for p in objective.backbone.get_submodule("patch_embed").parameters())
    with pytest.raises(UsageError, match="frozen_embedding is for the tokenizers of a ViT"):
        made("softcon-v2", frozen_embedding=True)


def test_settings_that_do_not_fit_are_told() -> None:
    with pytest.raises(
        UsageError, match=r"objective\.view\.radar is set, and no modality is radar"
    ):
        MoCo(backbone(), MoCoConfig.model_validate({"view": {"radar": {"speckle": 8}}}))


def test_a_run_leaves_the_teacher_where_asked(tmp_path: Path, tiny_dataset: Path) -> None:
    objective = {"kind": "moco", "view": {"size": 24}, "width": 8, "hidden": 16}
    config = config_file(
        tmp_path,
        tiny_dataset,
        objective={**objective, "momentum": 0.5, "export": "teacher"},
        schedule={"steps": 3, "warmup": 1},
    )
    result = run(str(config))
    assert result.export is not None
    model = fm.load(result.export)
    assert model.card is not None
    export(result.out, tmp_path / "again")
    again = fm.load(tmp_path / "again")
    assert again.card is not None
    assert again.card.training["module"] == "teacher.backbone"
    ours = again.state_dict()
    assert all(torch.equal(value, ours[name]) for name, value in model.state_dict().items())


def test_the_conformance_cases_are_what_these_tests_say() -> None:
    assert all(built(name)[0].config.version == name[-2:] for name in NAMES)
