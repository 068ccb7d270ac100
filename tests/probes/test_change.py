import numpy as np
import pytest
import torch

from probes.benchmarks.base import Inputs
from probes.dense import pairs
from probes.dense.learner import DenseLearner
from probes.families import change
from probes.settings import Change
from tests.probes import dense_standin as standin

M = standin.MODALITY


def settings(**other):
    base = {"family": "change", "epochs": 1, "learning_rates": (1e-2,), "batch_size": 8}
    fixed = {"pair": "difference", "head": "linear", "weight_decay": 0.0, "channels": 16}
    return Change.model_validate({**base, **fixed, **other})


LEARNT = {
    "change-concat": (3e-3, 30),
    "change-difference": (1e-1, 20),
    "change-finetune": (1e-2, 15),
    "change-transformer": (5e-3, 100),
    "raw-pixel-change": (1e-1, 10),
}
"""Rate and epochs by which each shipped protocol learns eight samples by heart."""


@pytest.mark.parametrize("name", standin.shipped("change"))
def test_eight_pairs_are_learnt_by_heart(name):
    how = standin.longer(name, *LEARNT[name])
    data = standin.eight("change", side=6)
    found = change.run(standin.job(how, data, standin.model(1), "change"))
    # val is the training samples
    assert max(found.selection["scores"]) >= 0.99 > found.selection["scores"][0]
    assert found.predictions.shape == (8, 2, 2)


def learner(data, **how):
    made = DenseLearner(standin.model(3), data, settings(**how), (False, True), "eight@1")
    made.prepare(data.of("train"), None)
    torch.manual_seed(0)
    return made, made.build().eval()


def scores(made, network, read):
    object.__setattr__(made.data, "read", read)
    # the maps of a tuned backbone are made anew
    index = np.arange(2)
    return made._scores(network, index, torch.from_numpy(made.maps(index))).detach()


def test_the_difference_does_not_know_which_date_came_first_and_concat_does():
    data = standin.eight("change")
    read = data.read

    def swapped(index):
        one = read(index)
        return Inputs(one.after.pixels, None, Inputs(one.pixels))

    for pair, same in (("difference", True), ("concat", False), ("transformer", False)):
        made, network = learner(data, pair=pair, head="fcn", backbone="tuned")
        first, second = scores(made, network, read), scores(made, network, swapped)
        assert torch.allclose(first, second, atol=1e-5) is same
        object.__setattr__(data, "read", read)


def test_equal_dates_look_alike_everywhere():
    data = standin.eight("change")
    read = data.read
    made, network = learner(data, backbone="tuned")

    def same(index):
        one = read(index)
        return Inputs(one.pixels, None, Inputs(one.pixels))

    found = scores(made, network, same)
    torch.testing.assert_close(found, found[:1, :, :1, :1].expand_as(found))


def test_a_cell_that_one_date_lacks_tells_nothing_about_change():
    data = standin.eight("change")
    read = data.read
    valid = np.ones((2, 12, 12), bool)
    valid[:, :3, :3] = False
    for pair in ("difference", "concat", "transformer"):
        object.__setattr__(data, "read", read)
        made, network = learner(data, pair=pair, backbone="tuned")
        # the second date's token there differs from its neighbours' only by its own pixels
        with torch.no_grad():
            for block in network.backbone.blocks:
                block.attn.proj.weight.zero_()

        def lacking(index, fill):
            one = read(index)
            after = one.after.pixels[M].copy()
            after[:, :, :3, :3] = fill
            return Inputs(one.pixels, {M: valid}, Inputs({M: after}))

        first = scores(made, network, lambda index: lacking(index, 10))
        second = scores(made, network, lambda index: lacking(index, 250))
        torch.testing.assert_close(first, second)


def test_each_date_is_encoded_apart():
    """A date's maps are those it has alone; the other one does not enter its batch norms."""
    data = standin.eight("change", side=64)
    how = settings(backbone="tuned")
    model = standin.model(32, "resnet_18", planes=8)
    made = DenseLearner(model, data, how, (False, True), "eight@1")
    model.train()
    index = np.arange(4)
    first, _ = made.read(model, index)
    read = data.read
    object.__setattr__(
        data,
        "read",
        lambda rows: Inputs(read(rows).pixels, None, Inputs({M: read(rows).after.pixels[M] // 2})),
    )
    again, _ = made.read(model, index)
    torch.testing.assert_close(first[0], again[0], rtol=0, atol=0)


def test_attention_does_not_see_missing_cells():
    torch.manual_seed(0)
    module = pairs.Attention(6, 16, 2).eval()
    a, b = torch.randn(2, 6, 3, 3), torch.randn(2, 6, 3, 3)
    missing = torch.zeros(2, 1, 3, 3, dtype=torch.bool)
    missing[0, 0, 1, 2] = True
    missing[1] = True
    first = module(a, b, missing)
    other = a.clone()
    other[0, :, 1, 2] += 5
    second = module(other, b, missing)
    keep = ~missing[0].expand(32, 3, 3)
    torch.testing.assert_close(first[0][keep], second[0][keep])
    assert first.isfinite().all()
    assert first.shape == (2, 32, 3, 3) == (2, module.channels(6), 3, 3)


def test_transformer_takes_one_level():
    with pytest.raises(ValueError, match="linear or fcn"):
        settings(pair="transformer", head="upernet")
