import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix

from fm.errors import FMError
from probes.dense.learner import DenseLearner
from probes.families import dense
from probes.features.extraction import model_hash
from probes.settings import Dense
from tests.probes import dense_standin as standin


def settings(**other):
    base = {"family": "dense", "epochs": 1, "learning_rates": (1e-2,), "batch_size": 8}
    return Dense.model_validate({**base, "head": "linear", "weight_decay": 0.0, **other})


LEARNT = {
    "dense-linear": (1e-2, 20),
    "fcn": (1e-2, 15),
    "raw-pixel-dense": (1e-2, 20),
    "upernet": (3e-3, 30),
    "upernet-finetune": (3e-3, 40),
}
"""Rate and epochs by which each shipped protocol learns eight samples by heart."""


@pytest.mark.parametrize("name", standin.shipped("dense"))
def test_eight_samples_are_learnt_by_heart(name):
    how = standin.longer(name, *LEARNT[name])
    data = standin.eight("segmentation")
    found = dense.run(standin.job(how, data, standin.model(1), "segmentation"))
    # val is the training samples
    assert max(found.selection["scores"]) >= 0.99 > found.selection["scores"][0]
    assert found.predictions.shape == (8, 3, 3)
    # the corner of each image does not count
    assert found.predictions.sum() == 8 * (12 * 12 - 1)


def learner(model, how, data=None):
    data = data or standin.eight("segmentation")
    made = DenseLearner(model, data, settings(**how), (False,), "eight@1")
    made.prepare(data.of("train"), None)
    return made


def test_a_frozen_backbone_is_no_part_of_the_network_and_a_tuned_one_is_a_copy():
    model = standin.model(3)
    before = model_hash(model)
    frozen, tuned = learner(model, {}).build(), learner(model, {"backbone": "tuned"}).build()
    assert frozen.backbone is None
    assert sum(p.numel() for p in frozen.parameters()) == 32 * 3 + 3
    own = sum(p.numel() for p in model.parameters())
    assert sum(p.numel() for p in tuned.parameters()) == own + 32 * 3 + 3
    job = standin.job(
        settings(backbone="tuned"), standin.eight("segmentation"), model, "segmentation"
    )
    found = dense.run(job)
    assert model_hash(model) == before
    assert found.selection["trained_parameters"] == own + 32 * 3 + 3
    assert found.selection["steps"] == 1


def test_frozen_and_tuned_start_from_the_same_scores():
    model = standin.model(3)
    scores = []
    for how in ("frozen", "tuned"):
        made = learner(model, {"backbone": how})
        torch.manual_seed(0)
        network = made.build().eval()
        truth = torch.from_numpy(made.maps(np.arange(3)))
        scores.append(made._scores(network, np.arange(3), truth).detach())
    torch.testing.assert_close(*scores)


def test_pixels_that_do_not_count_move_nothing():
    """No gradient comes from them, and the matrix is scikit-learn's of the others."""
    data = standin.eight("segmentation")
    made = learner(standin.model(3), {}, data)
    torch.manual_seed(0)
    network = made.build()
    index = data.of("train")
    truth = data.maps(index)
    inside = np.random.default_rng(0).random(truth.shape) < 0.5
    rest = np.where(inside, truth, -1)
    made.maps = lambda rows: rest[rows]
    draw = np.random.default_rng(0)
    loss = made.loss(network, index, draw)
    scores = made._scores(network, index, torch.from_numpy(rest)).permute(0, 2, 3, 1)
    known = torch.from_numpy(rest >= 0)
    want = torch.nn.functional.cross_entropy(scores[known], torch.from_numpy(rest)[known])
    torch.testing.assert_close(loss, want)
    with torch.inference_mode():
        matrices = made.predict(network, index)
    guess = scores.argmax(-1).numpy()
    for i in range(8):
        keep = rest[i] >= 0
        want = confusion_matrix(rest[i][keep], guess[i][keep], labels=[0, 1, 2])
        np.testing.assert_array_equal(matrices[i], want)
    made.maps = lambda rows: np.full_like(rest, -1)[rows]
    assert made.loss(network, index, draw).item() == 0


def test_balance_weighs_classes_by_their_share():
    data = standin.eight("segmentation")
    truth = data.maps(data.of("train"))
    share = np.bincount(truth[truth >= 0]) / (truth >= 0).sum()
    made = learner(standin.model(3), {"balance": 0.5}, data)
    np.testing.assert_allclose(made.weights.numpy(), share**-0.5, rtol=1e-6)
    assert learner(standin.model(3), {}, data).weights.tolist() == [1, 1, 1]


def test_channels_are_scaled_by_the_valid_training_tokens():
    data = standin.eight("segmentation")
    made = learner(standin.model(3), {}, data)
    train = made.stored[0].arrays[0][data.of("train")]
    mean, spread = made.scales[0]
    np.testing.assert_allclose(mean.numpy(), train.mean((0, 2, 3)), atol=1e-6)
    np.testing.assert_allclose(spread.numpy(), train.std((0, 2, 3)), rtol=1e-5)
    with torch.no_grad():
        model = standin.model(3)
        model.norm.weight[0] = 0
    assert torch.isinf(learner(model, {}, data).scales[0][1][0])


def test_rate_and_epoch_are_chosen_on_val_alone():
    data = standin.eight("segmentation")
    job = standin.job(
        settings(epochs=3, learning_rates=(1e-3, 1e-2)), data, standin.model(3), "segmentation"
    )
    first = dense.run(job)
    maps = data.maps
    object.__setattr__(
        data, "maps", lambda i: np.where(i[:, None, None] >= 16, 2 - maps(i) % 3, maps(i))
    )
    second = dense.run(job)
    assert first.selection == second.selection
    assert first.selection["on_edge"]
    assert not np.array_equal(first.predictions, second.predictions)


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ({"drop_path": 0.1}, "backbone: tuned"),
        ({"lora": {}}, "backbone: tuned"),
        ({"input": "raw-pixel", "head": "upernet"}, "no levels"),
        ({"input": "raw-pixel", "backbone": "tuned"}, "no backbone"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(how, text):
    with pytest.raises(ValueError, match=text):
        settings(**how)


def test_a_floor_of_equal_steps_trains_everything():
    tuned = settings(backbone="tuned", lora={}, layer_decay=0.5, epochs=7)
    scratch = tuned.scratch()
    assert (scratch.lora, scratch.layer_decay, scratch.epochs) == (None, 1.0, 7)
    assert settings().scratch() is None


def test_no_training_pixel_is_one_line():
    data = standin.eight("segmentation")
    object.__setattr__(data, "maps", lambda index: np.full((len(index), 12, 12), -1))
    with pytest.raises(FMError, match="no training pixel"):
        learner(standin.model(3), {}, data)
