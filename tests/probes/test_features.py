import errno
import json
import os

import numpy as np
import pytest
import torch

from fm.errors import FMError, UsageError
from fm.sensors import Band
from probes import backbones
from probes.axes import cells, tag, vary
from probes.backbones.cost import count
from probes.features import workers
from probes.features.extraction import Account, extract
from probes.judging.evaluation import evaluate_many
from probes.protocols import get_protocol
from probes.result import Result
from probes.settings.features import Axes
from tests.probes import networks
from tests.probes.networks import S2, SCALE
from tests.probes.test_backbones import own_model


def given(count=30, side=8):
    x = networks.s2(count, side).astype(np.uint16) * 40
    return networks.data({"s2l2a_10": x}, S2, SCALE)


# --- several processes


@pytest.mark.parametrize("model", [networks.adapter(), own_model()], ids=["foreign", "ours"])
def test_processes_give_the_same_bits_as_one(model):
    data = given()
    one = extract(model, data, benchmark="b@1", batch_size=4)
    for processes in (2, 3):
        many = extract(model, data, benchmark="b@1", batch_size=4, processes=processes)
        np.testing.assert_array_equal(many, one)


def test_work_is_shared_and_every_row_comes_from_its_own_batch():
    batches = [np.arange(start, start + 5) for start in range(0, 40, 5)]
    done = []

    def work(index):
        return np.stack([index, np.full(len(index), os.getpid())], 1).astype(np.float32)

    made = workers.rows(work, batches, 3, done.append)
    np.testing.assert_array_equal(made[:, 0], np.arange(40))
    assert len(set(made[5:, 1])) == 3
    assert made[0, 1] == os.getpid()
    assert sum(done) == 40


def test_what_a_process_raises_is_raised_here():
    batches = [np.arange(0, 2), np.arange(2, 4), np.arange(4, 6)]

    def fails(index):
        if index[0] == 4:
            raise UsageError("the fourth sample is odd")
        return np.zeros((2, 1), np.float32)

    with pytest.raises(UsageError, match="the fourth sample is odd"):
        workers.rows(fails, batches, 2, lambda n: None)

    def full(index):
        if index[0] == 4:
            raise OSError(errno.ENOSPC, "No space left on device", "rows.f32")
        return np.zeros((2, 1), np.float32)

    with pytest.raises(FMError, match=r"No space left on device \(rows.f32\)"):
        workers.rows(full, batches, 2, lambda n: None)

    def dies(index):
        if index[0] == 4:
            os._exit(9)
        return np.zeros((2, 1), np.float32)

    with pytest.raises(FMError, match="ended with status 9"):
        workers.rows(dies, batches, 2, lambda n: None)


# --- the cache


def test_the_cache_knows_every_axis(tmp_path):
    data, model = given(), networks.adapter()
    variants = [
        Axes(),
        Axes(resize=16),
        Axes(resize=16, interpolation="nearest"),
        Axes(resize=5),
        Axes(resize=5, antialias=True),
        Axes(normaliser="zscore"),
        Axes(normaliser="seco", resize=16),
        Axes(normaliser="seco", resize=16, order="resize-first"),
    ]
    made = [extract(model, data, benchmark="b@1", cache=tmp_path, axes=axes) for axes in variants]
    assert len(list(tmp_path.iterdir())) == len(variants)
    for n, one in enumerate(made):
        assert all(not np.array_equal(one, other) for other in made[:n]), variants[n]
    for axes, one in zip(variants, made, strict=True):
        account = Account()
        again = extract(
            model, data, benchmark="b@1", cache=tmp_path, axes=axes, processes=2, account=account
        )
        np.testing.assert_array_equal(again, one)
        assert account.cost["samples_per_second"] > 0
        assert account.axes["resize"] == axes.resize
    assert len(list(tmp_path.iterdir())) == len(variants)
    extract(networks.adapter(seed=1), data, benchmark="b@1", cache=tmp_path)
    extract(model, data, benchmark="b@1", cache=tmp_path, precision="bfloat16")
    extract(model, data, benchmark="b@1", cache=tmp_path, words=("centre",))
    assert len(list(tmp_path.iterdir())) == len(variants) + 3


def test_bfloat16_reduces_the_network_and_not_the_pixels():
    data, model = given(), networks.adapter()
    whole = extract(model, data, benchmark="b@1")
    reduced = extract(model, data, benchmark="b@1", precision="bfloat16")
    assert not np.array_equal(whole, reduced)
    np.testing.assert_allclose(reduced, whole, atol=0.02)


# --- cost


def test_operations_are_counted_to_the_formula():
    data = given()
    conv = count(networks.adapter(), lambda: networks.adapter().see(torch.zeros(1, 3, 8, 8)))
    assert conv["flops"] == 2 * 5 * 27 * 16  # maps, values under a kernel, positions
    assert conv["parameters"] == 5 * 27 + 5
    account = Account()
    extract(networks.adapter(), data, benchmark="b@1", axes=Axes(resize=16), account=account)
    assert account.cost["flops"] == 2 * 5 * 27 * 64
    model = backbones.load("timm:vit_tiny_patch16_224", weights="random")
    tokens, width = 5, 192  # four of 16x16 pixels and the class token
    block = tokens * width * (3 * width + width + 8 * width) + 2 * tokens**2 * width
    stem = 4 * width * 3 * 16**2
    with torch.inference_mode():
        made = count(model, lambda: model.see(torch.zeros(1, 3, 32, 32)))
    assert made["flops"] == 2 * (12 * block + stem)


# --- cells of a table, and results


def test_cells_and_their_names():
    found = cells({"resize": [None, 224], "normaliser": ["divide", "zscore"]})
    assert found[1] == {"resize": None, "normaliser": "zscore"}
    assert len(found) == 4
    assert cells({}) == [{}]
    protocol, changed = vary(get_protocol("linear"), found[3])
    assert protocol.settings.axes == Axes(resize=224, normaliser="zscore")
    assert tag(changed) == "normaliser-zscore+resize-224"
    assert tag({"antialias": True, "resize": None}) == "antialias-true+resize-native"
    assert vary(get_protocol("linear"), {"resize": None, "normaliser": "model"})[1] == {}
    assert vary(get_protocol("raw-pixel"), found[3])[1] == {}
    with pytest.raises(UsageError, match=r"--normaliser 'zscor'"):
        vary(get_protocol("linear"), {"normaliser": "zscor"})
    with pytest.raises(UsageError, match=r"--resize 0"):
        vary(get_protocol("linear"), {"resize": 0})
    with pytest.raises(UsageError, match="no axis 'size'"):
        vary(get_protocol("linear"), {"size": 4})
    with pytest.raises(UsageError, match="finetune@1 has no axes"):
        vary(get_protocol("finetune"), {"resize": 4})


def test_a_foreign_backbone_is_judged_in_every_cell(pairs, tmp_path):
    model = networks.adapter()
    results = evaluate_many(
        model,
        "bigearthnet-s2",
        ["knn"],
        data=pairs,
        out=tmp_path,
        cells=[{"normaliser": "divide"}, {"normaliser": "zscore", "resize": 20}],
    )
    own = [r for r in results if r.model["kind"] == "pretrained"]
    fresh = [r for r in results if r.model["kind"] == "random-init"]
    assert len(own) == len(fresh) == 2
    assert len({r.id for r in results}) == len(results) == len(list(tmp_path.glob("*.json")))
    assert own[1].id == "bigearthnet-s2@1--knn@1--conv--normaliser-zscore+resize-20--s0"
    assert "normaliser-divide--s0" in own[0].id
    for one, other in zip(own, fresh, strict=True):
        assert one.axes["changed"] == other.axes["changed"]
        names = [v["name"] for v in one.versus]
        pixels = ["image-statistics", "raw-pixel", "random-conv", "random-conv-zca"]
        assert names == [*pixels, "conv-random-init"]
        assert one.versus[4]["difference"] == pytest.approx(one.value - other.value)
        assert one.cost["parameters"] == 140
        assert one.cost["samples_per_second"] > 0
        path = tmp_path / f"{one.id}.json"
        assert Result.load(path).to_dict() == one.to_dict()
        assert json.loads(path.read_text())["axes"]["bands"][0]["from"] == "s2l2a_10 B04"
    assert own[1].cost["flops"] == 2 * 5 * 27 * 100
    assert own[0].axes["normaliser"] == "divide"


def test_what_was_filled_in_or_odd_is_in_the_result(pairs):
    bands = (*networks.rgb(), Band("TIR", 11_000.0, 900.0, 0.0, "dn"))
    model = networks.adapter(bands, None, None)
    with pytest.raises(UsageError, match=r"bigearthnet-s2@1: .* TIR \(11000 nm\)"):
        evaluate_many(model, "bigearthnet-s2", ["knn"], data=pairs)
    cell = {"missing": "zero", "normaliser": "zscore"}
    [result] = evaluate_many(
        model, "bigearthnet-s2", ["knn"], data=pairs, cells=[cell], with_floors=False
    )
    assert any("filled in (zero): TIR" in note for note in result.benchmark["notes"])
    assert result.axes["bands"][3] == {"model": "TIR", "from": None, "by": "zero", "off_nm": None}


def test_random_weights_asked_for_are_called_that_and_have_no_second_floor(pairs):
    random = backbones.load("timm:test_resnet", weights="random")
    results = evaluate_many(random, "bigearthnet-s2", ["knn"], data=pairs)
    kinds = [r.model["kind"] for r in results]
    assert kinds[0] == "random-init"
    assert set(kinds[1:]) == {"floor"}
    assert results[0].model["path"] == "timm:test_resnet"
    assert results[0].axes["changed"] == {}
    assert results[0].id.endswith("--s0")
    assert any("8-bit pictures" in note for note in results[0].benchmark["notes"])
