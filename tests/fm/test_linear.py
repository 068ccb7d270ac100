"""`fm.linear` against float64, by oneDNN and without."""

import copy

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import fm
from fm import linear as module
from fm.linear import Linear, linear, quicken
from pretrain.objectives import build_objective
from pretrain.objectives.masked import MAEConfig


def _draw(*sizes, seed=0):
    made = torch.Generator().manual_seed(seed)
    return [torch.randn(size, generator=made) for size in sizes]


@pytest.fixture(params=[True, False], ids=["onednn", "torch"])
def wide(request, monkeypatch):
    monkeypatch.setattr(module, "_wide", lambda: request.param)


@pytest.mark.parametrize("rows", [0, 1, 64, 257])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
def test_values_and_gradients_are_those_of_float64(wide, rows, turned, with_bias):
    x, weight, bias, gradient = _draw((rows, 70), (33, 70), (33,), (rows, 33))
    if turned:
        x, weight = x.T.contiguous().T, weight.T.contiguous().T
    given = [x, weight, *([bias] if with_bias else [])]
    single = [value.detach().requires_grad_() for value in given]
    double = [value.detach().double().requires_grad_() for value in given]
    made, right = linear(*single), torch.nn.functional.linear(*double)
    torch.testing.assert_close(made.double(), right, rtol=1e-5, atol=5e-5)  # sums of 70
    made.backward(gradient)
    right.backward(gradient.double())
    for a, b in zip(single, double, strict=True):
        torch.testing.assert_close(a.grad.double(), b.grad, rtol=1e-5, atol=1e-4)
    with torch.no_grad():
        assert torch.equal(linear(*given), made)


def test_transforms_of_torch_func_go_through(wide):
    x, weight = _draw((64, 8), (4, 8))
    found = torch.func.grad(lambda w: linear(x, w).square().sum())(weight)
    torch.testing.assert_close(found, 2 * (x @ weight.T).T @ x)
    many = torch.func.vmap(lambda w: linear(x, w))(torch.stack([weight, 2 * weight]))
    torch.testing.assert_close(many[1], 2 * many[0])


def test_only_what_is_asked_for_gets_a_gradient(wide):
    x, weight, bias = _draw((64, 8), (4, 8), (4,))
    weight.requires_grad_()
    linear(x, weight, bias).sum().backward()
    assert (x.grad, bias.grad) == (None, None)
    assert weight.grad.shape == (4, 8)


def test_leading_axes_are_rows(wide):
    x, weight, bias, gradient = _draw((3, 5, 9, 70), (33, 70), (33,), (3, 5, 9, 33))
    double = [value.double().requires_grad_() for value in (x, weight, bias)]
    single = [value.requires_grad_() for value in (x, weight, bias)]
    made, right = linear(*single), torch.nn.functional.linear(*double)
    torch.testing.assert_close(made.double(), right, rtol=1e-5, atol=5e-5)  # sums of 70
    made.backward(gradient)
    right.backward(gradient.double())
    for a, b in zip(single, double, strict=True):
        torch.testing.assert_close(a.grad.double(), b.grad, rtol=1e-5, atol=1e-4)


class _Own(nn.Linear):
    def forward(self, x):
        return super().forward(x) + 1


def test_quickened_layers_keep_their_state_and_derived_ones_their_way(wide):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(70, 64), nn.GELU(), _Own(64, 8, bias=False))
    (x,) = _draw((128, 70))
    before, names = network(x), list(network.state_dict())
    assert quicken(network) is network
    assert [type(part) for part in network] == [Linear, nn.GELU, _Own]
    assert list(network.state_dict()) == names
    torch.testing.assert_close(network(x), before, rtol=1e-5, atol=1e-5)
    copied = copy.deepcopy(network)
    assert type(copied[0]) is Linear
    assert torch.equal(copied(x), network(x))


def test_the_layers_of_models_and_objectives_are_quickened():
    model = fm.create_model("vit_nano", bands=fm.sensor("sentinel2-l1c"))
    objective = build_objective(MAEConfig(), model)
    kinds = {type(part) for part in objective.modules() if isinstance(part, nn.Linear)}
    assert kinds == {Linear}


def test_operations_are_counted_alike(wide):
    x, weight, bias = _draw((2, 40, 70), (33, 70), (33,))
    with FlopCounterMode(display=False) as counter:
        linear(x, weight.requires_grad_(), bias).sum().backward()
    assert counter.get_total_flops() == 2 * 2 * 80 * 70 * 33


class _Seen(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        self.names.add(str(op).split(".")[0])
        return op(*args, **(kwargs or {}))


def _by_onednn(*given):
    with torch.no_grad(), _Seen() as seen:
        linear(*given)
    return "mkldnn" in seen.names


def test_onednn_is_asked_only_for_what_it_does_as_well(monkeypatch):
    monkeypatch.setattr(module, "_wide", lambda: True)
    x, weight = _draw((64, 8), (4, 8))
    assert _by_onednn(x, weight)
    assert not _by_onednn(x[:63], weight)
    assert not _by_onednn(x.double(), weight.double())
    assert not _by_onednn(x.to("meta"), weight.to("meta"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not _by_onednn(x, weight)
    monkeypatch.setattr(module, "_wide", lambda: False)
    assert not _by_onednn(x, weight)


def test_a_compiled_layer_is_torchs_own(wide):
    x, weight = _draw((64, 8), (4, 8))
    graphs = []

    def keep(graph, inputs):
        graphs.append([str(node.target) for node in graph.graph.nodes])
        return graph

    torch.compile(linear, backend=keep, fullgraph=True)(x, weight)
    assert any("linear" in name for name in graphs[0])
