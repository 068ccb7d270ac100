import dataclasses

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

import fm
import fm.checkpoint
from fm.errors import FMError, UsageError
from probes.benchmarks.base import Inputs
from probes.families import finetune
from probes.features.extraction import encode, model_hash
from probes.judging.evaluation import evaluate_many
from probes.protocols import get_protocol
from probes.settings import Finetune
from tests.probes import dense_standin as standin

M = standin.MODALITY


def settings(**other):
    base = {"family": "finetune", "epochs": 1, "learning_rates": (1e-3,), "batch_size": 8}
    return Finetune.model_validate({**base, **other})


def data(task):
    """Eight samples that are train, val and test, with targets that are no function of a band."""
    made = standin.eight("segmentation", side=6)
    rng = np.random.default_rng(1)
    one = {
        "class": np.arange(8) % 3,
        "multilabel": np.stack([np.arange(8) % 2, np.arange(8) // 4, rng.permutation(8) > 3], 1)
        > 0,
        "regression": rng.normal(50, 20, (8, 2)),
    }[task]
    targets = np.concatenate([one] * 3)
    if task == "regression":
        targets[3, 1] = targets[11, 1] = np.nan
    names = made.classes[: targets.shape[1]] if targets.ndim == 2 else made.classes
    return dataclasses.replace(made, targets=targets, maps=None, classes=names)


def job(how, task, model=None):
    made = standin.job(how, data(task), model or standin.model(3), task)
    primary = {"class": "oa", "multilabel": "map", "regression": "r2"}[task]
    return dataclasses.replace(made, benchmark=dataclasses.replace(made.benchmark, primary=primary))


@pytest.mark.parametrize("task", ["class", "multilabel", "regression"])
@pytest.mark.parametrize("lora", [False, True], ids=["all", "lora"])
def test_eight_samples_are_learnt_by_heart(task, lora):
    how = {"epochs": 25, "head_c": 1e-2}
    how |= {"lora": {"rank": 4}, "learning_rates": (3e-2,)} if lora else {"learning_rates": (1e-2,)}
    model = standin.model(3)
    before = model_hash(model)
    found = finetune.run(job(settings(**how), task, model))
    assert max(found.selection["scores"]) >= 0.99
    assert found.selection["scores"][0] < 0.99  # the start alone does not do it
    assert model_hash(model) == before
    own = sum(p.numel() for p in model.parameters())
    assert (found.selection["trained_parameters"] < own) is lora
    assert f"trained {found.selection['trained_parameters']:,} of" in found.notes[0]


@pytest.mark.parametrize("name", standin.shipped("finetune"))
def test_shipped_protocols_learn_eight_samples_by_heart(name):
    how = standin.longer(name, 1e-2, 15).model_copy(update={"head_c": 1e-2})
    found = finetune.run(job(how, "class"))
    assert max(found.selection["scores"]) >= 0.99 > found.selection["scores"][0]


def test_few_samples_of_train_and_val_are_told():
    few = finetune.run(job(settings(per_class=1, val_per_class=2), "class")).notes
    assert few[0].startswith("trained on 3 of 8 training samples, list (sha256): ")
    assert few[-1] == "rate and epoch chosen on 6 of 8 val samples"
    assert len(finetune.run(job(settings(), "class")).notes) == 1


def test_the_start_of_a_regression_is_ridge():
    given, model = data("regression"), standin.model(3)
    rows = given.of("train")
    with torch.no_grad():
        x = encode(model, given.read(rows), given.bands, given.scaling).double().numpy()
    learner = finetune._Finetuned(model, given, settings(head_c=0.5), "regression", rows)
    scaled = (x - x.mean(0)) / np.maximum(x.std(0), 1e-6)
    for place in range(2):
        y = given.targets[rows, place]
        known = np.isfinite(y)
        y = (y - learner.centre[place]) / learner.spread[place]
        want = Ridge(alpha=2.0).fit(scaled[known], y[known]).predict(scaled)
        with torch.no_grad():
            found = torch.from_numpy(x).float() @ learner.head[0][place] + learner.head[1][place]
        np.testing.assert_allclose(found.numpy(), want, atol=1e-4)
    given.targets[rows, 1] = np.nan
    with pytest.raises(FMError, match="no training sample"):
        finetune._Finetuned(model, given, settings(), "regression", rows)


def test_an_unknown_target_has_no_loss():
    scores = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    targets = np.array([[0.0, np.nan], [3.0, 6.0]])
    loss = finetune._loss(scores, targets, "regression")
    assert loss.item() == pytest.approx((1 + 0 + 4) / 3)
    loss.backward()
    assert scores.grad[0, 1] == 0


def test_mixup_mixes_physical_values_and_needs_both_valid():
    x = np.random.default_rng(0).integers(0, 200, (3, 2, 4, 4)).astype(np.uint16)
    valid = np.ones((3, 4, 4), bool)
    valid[1, 0, 0] = False
    scaling = {M: (0.01, -1.0)}
    made = finetune.mixed(Inputs({M: x}, {M: valid}), np.array([1, 2, 0]), 0.3, scaling)
    physical = x * 0.01 - 1.0
    want = 0.3 * physical + 0.7 * physical[[1, 2, 0]]
    both = valid & valid[[1, 2, 0]]
    assert not both[0, 0, 0]
    np.testing.assert_allclose(made.pixels[M], want * both[:, None], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(made.valid[M], both)
    assert finetune.mixed(Inputs({M: x}), np.arange(3), 0.5, scaling).valid is None


def test_the_loss_of_mixed_samples_is_mixed():
    given, model = data("class"), standin.model(3)
    index = given.of("train")
    learner = finetune._Finetuned(model, given, settings(mixup=0.8), "class", index)
    network = learner.build().eval()
    loss = learner.loss(network, index, np.random.default_rng(4))
    draw = np.random.default_rng(4)
    share, other = draw.beta(0.8, 0.8), draw.permutation(8)
    inputs = finetune.mixed(given.read(index), other, share, given.scaling)
    scores = network(given, inputs).log_softmax(1)
    y = torch.nn.functional.one_hot(torch.from_numpy(given.targets[index]), 3)
    soft = share * y + (1 - share) * y[other]
    torch.testing.assert_close(loss, -(soft * scores).sum(1).mean().float(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_mixup_is_refused_where_there_is_more_than_one_class(task):
    with pytest.raises(UsageError, match="mixup: 0"):
        finetune.run(job(settings(mixup=0.8), task))


def test_protocols_of_before_have_neutral_settings():
    for name in ("finetune@1", "finetune-full@1"):
        found = get_protocol(name).settings
        assert (found.layer_decay, found.head_multiple, found.drop_path) == (1.0, 1.0, 0.0)
        assert (found.lora, found.mixup) == (None, 0.0)


def test_from_scratch_takes_as_many_steps_and_trains_all_weights(tmp_path):
    pixels, label = standin.scene(48)
    folder = standin.write(tmp_path / "ds", pixels, label)
    fm.checkpoint.save(tmp_path / "export", standin.model(3))
    mine, *floors = evaluate_many(tmp_path / "export", "nc-landcover", ["lora"], data=folder)
    [scratch] = [r for r in floors if r.model["kind"] == "random-init"]
    assert scratch.model["name"].endswith("from-scratch")
    assert scratch.selection["steps"] == mine.selection["steps"] > 0
    assert scratch.selection["grid"] == mine.selection["grid"]
    own = scratch.model["parameters"]
    assert mine.selection["trained_parameters"] < own < scratch.selection["trained_parameters"]
    assert scratch.protocol["settings"]["lora"] is None
    assert [v["name"] for v in mine.versus][-1] == scratch.model["name"]
