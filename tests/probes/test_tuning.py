import copy

import numpy as np
import pytest
import torch
from torch import nn

from fm.errors import UsageError
from probes.families import tuning
from tests.probes import dense_standin as standin

M = standin.MODALITY


class Net(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.width, 3)


def groups(network, **other):
    options = {"rate": 0.1, "weight_decay": 0.05, "layer_decay": 1.0, "head_multiple": 1.0}
    return tuning.parameter_groups(network, **(options | other), what="it")


def rates(network, **other):
    found = groups(network, **other)
    names = {id(p): n for n, p in network.named_parameters()}
    assert sorted(names) == sorted(id(p) for g in found for p in g["params"])
    return {names[id(p)]: g["peak"] for g in found for p in g["params"]}


def test_rates_fall_by_layer_as_beits_rule_says():
    """Tokenizer and class token 0, block i is i + 1, the final norm beside the head."""
    found = rates(Net(standin.model(3, depth=4)), layer_decay=0.5, head_multiple=3.0)
    for name, rate in found.items():
        if name.startswith("head."):
            want = 0.3
        elif ".blocks." in name:
            want = 0.1 * 0.5 ** (5 - (int(name.split(".")[2]) + 1))
        else:
            want = 0.1 * (1.0 if name.startswith("backbone.norm") else 0.5**5)
        assert rate == pytest.approx(want), name


def test_without_decay_by_layer_there_are_two_groups():
    found = groups(Net(standin.model(3)))
    assert sorted((g["peak"], g["weight_decay"]) for g in found) == [(0.1, 0.0), (0.1, 0.05)]
    for group in found:
        assert all((p.ndim == 2) == (group["weight_decay"] > 0) for p in group["params"])


def test_kernels_decay_and_class_tokens_of_four_axes_do_not():
    """MAE's fine-tuning decays all but biases, norms and tokens: a ResNet's weights are kernels."""
    network = Net(standin.model(32, "resnet_18", planes=8))
    network.backbone.cls_token = nn.Parameter(torch.zeros(1, 1, 1, 8))
    names = {id(p): n for n, p in network.named_parameters()}
    decayed = {names[id(p)] for g in groups(network) if g["weight_decay"] > 0 for p in g["params"]}
    matrices = {n for n, p in network.named_parameters() if p.ndim > 1} - {"backbone.cls_token"}
    assert decayed == matrices
    assert sum(network.get_parameter(name).ndim == 4 for name in decayed) > 15


def test_drop_path_rises_linearly_and_is_off_in_eval():
    model = standin.model(3, depth=5)
    x = {M: torch.from_numpy(np.full((4, 6, 6, 6), 90, np.uint8))}
    before = model.encode(x).pooled
    tuning.drop_paths(model, 0.4, "it")
    found = [getattr(block.drop_path1, "drop_prob", 0.0) for block in model.blocks]
    assert found == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    torch.testing.assert_close(model.encode(x).pooled, before, rtol=0, atol=0)
    torch.manual_seed(0)
    made = torch.stack([model.train().encode(x).pooled for _ in range(4)])
    assert made.std(0).max() > 0
    with pytest.raises(UsageError, match="no blocks"):
        tuning.drop_paths(nn.Linear(2, 2), 0.1, "it")


def test_drop_path_reaches_the_blocks_of_a_resnet():
    model = standin.model(32, "resnet_18", planes=8)
    tuning.drop_paths(model, 0.7, "it")
    found = [
        getattr(block.drop_path, "drop_prob", 0.0)
        for stage in (model.resnet.layer1, model.resnet.layer4)
        for block in stage
    ]
    assert found == pytest.approx([0.0, 0.1, 0.6, 0.7])


def test_lora_starts_at_the_model_and_trains_its_updates_alone():
    model = standin.model(3)
    frozen = copy.deepcopy(model)
    x = {M: torch.from_numpy(np.full((2, 6, 6, 6), 90, np.uint8))}
    names = tuning.add_lora(model, 3, 6.0, ("qkv", "proj"), "it")
    assert names == [f"blocks.{i}.attn.{part}" for i in range(2) for part in ("qkv", "proj")]
    torch.testing.assert_close(model.encode(x).tokens, frozen.encode(x).tokens)
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert all(name.endswith((".weight.0.a", ".weight.0.b")) for name in trained)
    count = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert count == 2 * (3 * (32 + 96) + 3 * (32 + 32))
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        (model.encode(x).tokens * torch.arange(32.0)).sum().backward()
        optimizer.step()
    layer, old = model.blocks[0].attn.qkv, frozen.blocks[0].attn.qkv
    update = layer.parametrizations.weight[0]
    torch.testing.assert_close(layer.weight, old.weight + 2.0 * update.b @ update.a)
    assert (update.b != 0).any()
    assert (layer.weight - old.weight).abs().max() > 1e-3
    for name, value in frozen.named_parameters():
        own = dict(model.named_parameters())
        now = own.get(name)
        if now is None:
            now = own[name.replace(".weight", ".parametrizations.weight.original")]
        torch.testing.assert_close(now, value, rtol=0, atol=0)
    with pytest.raises(UsageError, match="no linear layers nothing"):
        tuning.add_lora(standin.model(3), 3, 6.0, ("nothing",), "it")


def test_frozen_batch_norms_stay_in_eval():
    net = nn.ModuleDict({"old": nn.BatchNorm2d(2), "new": nn.BatchNorm2d(2), "drop": nn.Dropout()})
    net["old"].requires_grad_(False)
    tuning.training_mode(net)
    assert [net[k].training for k in ("old", "new", "drop")] == [False, True, True]
