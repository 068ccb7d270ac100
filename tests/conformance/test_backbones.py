"""What every registered backbone must hold: evaluation, metadata, compilation, saving.

T numbers are those of the conformance list; each docstring names the published defect it catches.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fm.checkpoint import load, load_strict, save
from fm.errors import FMError
from fm.models import Backbone, VisionTransformer
from fm.models.registry import family_of
from tests.conformance.backbones import BACKBONES, Case

Encoded = tuple[Case, Backbone]
TOLD = {
    "lonlat": torch.tensor([[7.0, 50.0], [-179.9, -33.0], [120.0, 3.0]]),
    "time": torch.tensor([1.6e9, 1.61e9, 1.5e9], dtype=torch.float64),
}
METADATA = [name for name, case in BACKBONES.items() if case.options.get("metadata")]
"""The cases with metadata; each has both kinds."""
SERIES = [name for name, case in BACKBONES.items() if case.images is not None]
KEEPING = [
    n for n, c in BACKBONES.items() if issubclass(family_of(c.name)[0].kind, VisionTransformer)
]
"""The cases whose `embed` takes the tokens to keep."""


@pytest.fixture(scope="module", params=BACKBONES, ids=str)
def built(request: pytest.FixtureRequest) -> Encoded:
    case = BACKBONES[request.param]
    return case, case.build()


def test_t6_evaluation_is_deterministic(built: Encoded) -> None:
    """T6. Defect: channel dropout that stays on in `eval()` (LESS ViT v2)."""
    case, model = built
    pixels = case.pixels(model)
    first = case.encode(model, pixels)
    torch.manual_seed(123)
    again = case.encode(model, pixels)
    assert torch.equal(again.tokens, first.tokens)
    assert torch.equal(again.pooled, first.pooled)


def test_t6_a_sample_does_not_see_its_batch_mates(built: Encoded) -> None:
    """T6. Defect: statistics of the batch in the forward pass; scores hang on the batch size."""
    case, model = built
    pixels = case.pixels(model)
    whole = case.encode(model, pixels)
    alone = case.encode(model, {m: x[1:2] for m, x in pixels.items()})
    # other matrix sizes sum in another order, so of the size of the values: float32 rounding only
    atol = 1e-5 * max(1.0, float(whole.tokens.detach().abs().max()))
    assert torch.allclose(whole.tokens[1:2], alone.tokens, atol=atol)
    assert torch.allclose(whole.pooled[1:2], alone.pooled, atol=atol)
    assert not torch.allclose(whole.pooled[:1], whole.pooled[1:2], atol=1e-5)


@pytest.mark.slow
def test_t10_compiled_equals_eager(built: Encoded) -> None:
    """T10. Defect: a compiled encoder whose outputs were not the eager ones (OlmoEarth)."""
    case, model = built
    pixels = case.pixels(model)
    compiled = torch.compile(model)(pixels, times=case.times(3))
    eager = case.encode(model, pixels).tokens
    # sums in another order, so of the size of the values (6 after EfficientNet's ReLU6)
    atol = 1e-5 * max(1.0, float(eager.detach().abs().max()))
    assert torch.allclose(compiled.tokens, eager, atol=atol)
    torch.compiler.reset()


@pytest.mark.parametrize("unknown", [float("nan"), float("inf")])
@pytest.mark.parametrize("kind", TOLD)
@pytest.mark.parametrize("name", METADATA)
def test_t11_missing_metadata_touch_their_own_sample_only(
    name: str, kind: str, unknown: float
) -> None:
    """T11. Defect: one NaN switches metadata off for the whole batch (Copernicus-FM)."""
    case = BACKBONES[name]
    model = case.build()
    pixels = case.pixels(model)
    complete = case.encode(model, pixels, **TOLD)
    holed = TOLD[kind].clone()
    holed[1] = unknown
    some = case.encode(model, pixels, **{**TOLD, kind: holed})
    none = case.encode(model, pixels, **{k: v for k, v in TOLD.items() if k != kind})
    assert torch.equal(some.pooled[[0, 2]], complete.pooled[[0, 2]])
    assert torch.allclose(some.pooled[1], none.pooled[1], atol=1e-6)
    for row in range(3):
        assert not torch.allclose(complete.pooled[row], none.pooled[row], atol=1e-5)


@pytest.mark.parametrize("name", SERIES)
def test_t11_an_unknown_time_touches_its_own_sample_only(name: str) -> None:
    """T11. Defect: one NaN switches the times off for the whole batch (Copernicus-FM)."""
    case = BACKBONES[name]
    model = case.build()
    pixels, times = case.pixels(model), case.times(3)
    assert times is not None
    complete = case.encode(model, pixels)
    some = times.clone()
    some[1, 0] = float("nan")
    holed = case.encode(model, pixels, times=some).pooled
    assert torch.equal(holed[[0, 2]], complete.pooled[[0, 2]])
    none = case.encode(model, pixels, times=torch.full_like(times, float("nan"))).pooled
    assert torch.isfinite(none).all()
    for other in (complete.pooled, none):
        assert not torch.allclose(holed[1], other[1], atol=1e-5)


def test_saved_and_loaded_is_the_same_model(built: Encoded, tmp_path: Path) -> None:
    case, model = built
    save(tmp_path / "m", model)
    other = load(tmp_path / "m")
    pixels = case.pixels(model)
    assert torch.equal(case.encode(other, pixels).tokens, case.encode(model, pixels).tokens)
    assert other.architecture == model.architecture
    random = load(tmp_path / "m", weights="random", seed=5)
    assert not torch.allclose(
        case.encode(random, pixels).tokens, case.encode(model, pixels).tokens, atol=1e-3
    )


def drop(state: dict[str, torch.Tensor], key: str) -> None:
    del state[key]


def rename(state: dict[str, torch.Tensor], key: str) -> None:
    state["module." + key] = state.pop(key)


def grow(state: dict[str, torch.Tensor], key: str) -> None:
    state[key] = torch.cat([state[key], state[key]])


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (drop, r"1 missing \({key}\)"),
        (rename, r"1 missing \({key}\); 1 not known \(module\.{key}\)"),
        (grow, r"1 wrong shape \({key}\)"),
    ],
)
def test_t8_a_file_that_does_not_fit_is_refused_with_counts(
    built: Encoded, spoil: Callable[[dict[str, torch.Tensor], str], None], text: str
) -> None:
    """T8. Defect: `strict=False` that loads next to nothing and says nothing (SpectralEarth)."""
    _, model = built
    state = {k: torch.zeros_like(v) for k, v in model.state_dict().items()}
    key = next(k for k, v in state.items() if v.ndim > 0)
    spoil(state, key)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(FMError, match=text.replace("{key}", key.replace(".", r"\."))):
        load_strict(model, state, "weights.pt")
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    with pytest.raises(FMError, match=f"{len(before)} missing"):
        load_strict(model, {}, "weights.pt")


@pytest.mark.parametrize("name", KEEPING)
def test_kept_tokens_equal_the_same_tokens_of_the_whole(name: str) -> None:
    """Dropping tokens before the learned work gives the very tokens it would have given."""
    case = BACKBONES[name]
    model = case.build()
    assert isinstance(model, VisionTransformer)
    pixels = case.pixels(model)
    inputs = model.inputs(pixels, times=case.times(3))
    count = 6 * inputs.images
    index = torch.tensor([[4, 0], [1, 2], [3, count - 1]])
    whole, _ = model.embed(inputs)
    kept, _ = model.embed(inputs, keep=dict.fromkeys(model.groups, index))
    rows = torch.arange(3)[:, None]
    tokens = whole.reshape(3, len(model.groups), count, -1)
    for number in range(len(model.groups)):
        want = tokens[:, number][rows, index]
        assert torch.allclose(want, kept[:, 2 * number : 2 * number + 2], atol=1e-5)
