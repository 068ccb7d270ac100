"""What every registered backbone must hold, whatever its size and tokenizer."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fm.checkpoint import load, save
from fm.models import VisionTransformer, create_model, list_models
from fm.sensors import sensor

CASES: dict[str, Callable[[str], VisionTransformer]] = {
    "linear": lambda name: create_model(
        name, bands=sensor("sentinel2-l1c"), token_m=240, depth=1, width=96, heads=4
    ),
    "spectral_adapter": lambda name: create_model(
        name,
        bands=sensor("aviris-indian-pines"),
        token_m=40,
        tokenizer="spectral_adapter",
        depth=1,
        width=96,
        heads=4,
    ),
}


@pytest.fixture(params=[(n, t) for n in list_models() for t in CASES], ids="-".join)
def model(request: pytest.FixtureRequest) -> VisionTransformer:
    name, tokenizer = request.param
    torch.manual_seed(0)
    return CASES[tokenizer](name).eval()


def pixels_of(model: VisionTransformer, batch: int = 3) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        member.modality: torch.rand(
            batch, len(member.bands), 2 * member.patch, 3 * member.patch, generator=generator
        )
        for group in model.groups.values()
        for member in group.members
    }


def test_evaluation_is_deterministic_and_ignores_the_generator(model: VisionTransformer) -> None:
    pixels = pixels_of(model)
    first = model.encode(pixels).pooled
    torch.manual_seed(123)
    assert torch.equal(model.encode(pixels).pooled, first)


def test_a_sample_does_not_see_its_batch_mates(model: VisionTransformer) -> None:
    pixels = pixels_of(model)
    whole = model.encode(pixels).tokens
    alone = model.encode({m: x[1:2] for m, x in pixels.items()}).tokens
    # other matrix sizes sum in another order: float32 rounding only
    assert torch.allclose(whole[1:2], alone, atol=1e-5)


def test_shuffled_bands_with_names_give_the_same_features(model: VisionTransformer) -> None:
    pixels = pixels_of(model)
    want = model.encode(pixels).pooled
    shuffled, names = {}, {}
    for modality, x in pixels.items():
        order = torch.randperm(x.shape[1], generator=torch.Generator().manual_seed(2)).tolist()
        shuffled[modality] = x[:, order]
        names[modality] = [model.bands[modality][i].name for i in order]
    assert torch.equal(model.encode(shuffled, bands=names).pooled, want)
    assert not torch.allclose(model.encode(shuffled).pooled, want, atol=1e-4)


def test_save_and_load_change_nothing(model: VisionTransformer, tmp_path: Path) -> None:
    save(tmp_path / "m", model)
    pixels = pixels_of(model)
    assert torch.equal(load(tmp_path / "m").encode(pixels).tokens, model.encode(pixels).tokens)


def test_kept_tokens_equal_the_same_tokens_of_the_whole(model: VisionTransformer) -> None:
    """Dropping tokens before the learned work gives the very tokens it would have given."""
    pixels = pixels_of(model)
    index = torch.tensor([[4, 0], [1, 2], [3, 5]])
    inputs = model.inputs(pixels)
    whole, _ = model.embed(inputs)
    kept, _ = model.embed(inputs, keep=dict.fromkeys(model.groups, index))
    rows = torch.arange(3)[:, None]
    assert torch.allclose(whole[rows, index], kept, atol=1e-6)


@pytest.mark.slow
def test_compiled_equals_eager() -> None:
    torch.manual_seed(0)
    model = CASES["linear"]("vit_nano").eval()
    pixels = pixels_of(model)
    compiled = torch.compile(model)
    assert torch.allclose(compiled(pixels).pooled, model.encode(pixels).pooled, atol=1e-5)
