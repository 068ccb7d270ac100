"""The first layer: the same as features times weights, in any number of blocks, and exact."""

import pytest
import torch

from fm.location import EncodedLinear, SphericalHarmonics, create_encoding


@pytest.fixture
def places() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.rand(300, 2, generator=generator, dtype=torch.float64)
    found = (drawn - 0.5) * torch.tensor([360.0, 180.0])
    found[0], found[1] = torch.tensor([180.0, 90.0]), torch.tensor([-180.0, -90.0])
    return found


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fm.location.streamed.block_of", lambda encoding: 64)


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["sh", "rff", "sphere_m_plus"])
def test_values_and_gradients_are_those_of_the_plain_product(
    places: torch.Tensor, name: str, dtype: torch.dtype
) -> None:
    options = {"L": 12} if name == "sh" else {}
    torch.manual_seed(0)
    layer = EncodedLinear(create_encoding(name, **options), 7).to(dtype)
    plain = torch.nn.Linear(layer.encoding.dim, 7, dtype=dtype)
    plain.load_state_dict({"weight": layer.weight.detach(), "bias": layer.bias.detach()})
    ours, theirs = places.clone().requires_grad_(), places.clone().requires_grad_()
    out, expected = layer(ours), plain(layer.encoding(theirs))
    tolerance = 2e-5 if dtype == torch.float32 else 1e-12
    assert torch.allclose(out, expected, atol=tolerance)
    weights = torch.linspace(-1, 1, out.numel(), dtype=dtype).reshape(out.shape)
    (out * weights).sum().backward()
    (expected * weights).sum().backward()
    for mine, other in (
        (layer.weight.grad, plain.weight.grad),
        (layer.bias.grad, plain.bias.grad),
        (ours.grad, theirs.grad),
    ):
        assert mine is not None
        assert other is not None
        assert torch.allclose(mine, other, atol=20 * tolerance, rtol=1e-4)


@pytest.mark.usefixtures("blocks")
def test_features_are_never_held_all_at_once(places: torch.Tensor) -> None:
    layer = EncodedLinear(SphericalHarmonics(12), 7)
    sizes: list[int] = []
    encode = layer.encoding.encode
    layer.encoding.encode = lambda found: (sizes.append(len(found)), encode(found))[1]
    saved: list[torch.Size] = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda value: (saved.append(value.shape), value)[1], lambda value: value
    ):
        out = layer(places)
    out.sum().backward()
    assert sizes == [64, 64, 64, 64, 44] * 2
    assert torch.Size([300, 144]) not in saved


@pytest.mark.parametrize("learnable", [False, True])
def test_exact_under_autocast(places: torch.Tensor, learnable: bool) -> None:
    made = create_encoding("rff", count=9, learnable=True) if learnable else SphericalHarmonics(12)
    layer = EncodedLinear(made, 7)
    expected = layer(places)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(places)
        if not learnable:  # the layer's own backward pass; torch's must be outside
            out.square().sum().backward()
    if learnable:
        out.square().sum().backward()
    assert torch.equal(out, expected)
    under = layer.weight.grad
    layer.weight.grad = None
    expected.square().sum().backward()
    assert under is not None
    assert torch.equal(under, layer.weight.grad)


def test_learned_frequencies_learn(places: torch.Tensor) -> None:
    encoding = create_encoding("rff", learnable=True, count=8, projection="xyz")
    layer = EncodedLinear(encoding, 3)
    layer(places).square().sum().backward()
    assert encoding.frequencies.grad is not None
    assert float(encoding.frequencies.grad.abs().sum()) > 0
