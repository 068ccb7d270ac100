"""LESS ViT under its published names: the same outputs, and what its shapes say."""

import pytest
import torch
from torch import Tensor

from fm import foreign
from fm.errors import UsageError
from fm.foreign.inventory import inventory
from fm.models import Backbone, create_model
from fm.sensors import sensor
from tests.fm.foreign.states import S1S2, S2, converted, identity, state_of

RADAR = {"VV": 5500.0, "VH": 5700.0}
OPTIONS = {
    "less_v1": {"aggregation": "sum", "rank": 2, "codes": "sum", "legacy_positions": True},
    "less_v2": {"aggregation": "mean", "codes": "rope", "legacy_range": (418.24, 2445.53)},
}


def published(layout: str, model: Backbone) -> dict[str, Tensor]:
    """Give a model's weights the names and shapes of a file, with a decoder beside them."""
    found = inventory(layout)
    state = state_of(layout)
    ours = {
        "encoder."
        + key.replace("patch_embed.optical_4", "optical_patch_embed").replace(
            "patch_embed.radar_4", "radar_patch_embed"
        ): value
        for key, value in model.state_dict().items()
    }
    if layout == "less_v1":
        ours = {k.replace(".attn.", ".", 1): v for k, v in ours.items()}
    shapes = found.expand(found.tiny)
    wanted = {k for k in shapes if found.part(k) == "encoder" and "periods" not in k}
    assert set(ours) == wanted
    return {**state, **{k: v.reshape(shapes[k]) for k, v in ours.items()}}


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("layout", OPTIONS)
def test_a_published_file_gives_the_outputs_of_the_model_it_was_made_of(
    layout: str, pooling: str
) -> None:
    torch.manual_seed(3)
    size = {"width": 32, "depth": 2, "heads": 2, "channel_dim": 4}
    model = create_model(
        "less_base",
        bands=S1S2,
        token_m=40,
        normalisation=identity(S1S2),
        radar_wavelengths=RADAR,
        perception_m=60 if layout == "less_v1" else None,
        pooling=pooling,
        **size,
        **OPTIONS[layout],
    ).eval()
    for value in model.parameters():
        value.data += 0.1 * torch.randn_like(value)
    given = {} if layout == "less_v2" else {"perception_m": 60}
    ours, report = converted(layout, published(layout, model), pooling=pooling, **given)
    assert report.family == layout
    x = {m: torch.randn(2, len(b), 12, 8) for m, b in S1S2.items()}
    with torch.no_grad():
        wanted, made = model.encode(x), ours.encode(x)
    assert torch.equal(made.tokens, wanted.tokens)
    assert torch.equal(made.pooled, wanted.pooled)
    assert wanted.pooled.std() > 0.05


def test_heads_and_ranks_are_read_from_the_shapes() -> None:
    numbers = foreign.recognise(state_of("less_v1")).numbers
    assert (numbers["heads"], numbers["channel_dim"], numbers["rank"]) == (2, 4, 2)
    assert numbers["codes"] == "sum"
    assert foreign.recognise(state_of("less_v2")).numbers["codes"] == "rope"
    with pytest.raises(UsageError, match="its shapes say 2 heads, not 4"):
        converted("less_v2", heads=4)


def test_an_encoder_without_bands_is_left_out_by_name() -> None:
    optical = foreign.on_grid(S2.bands, 10)
    model, report = foreign.load(
        state_of("less_v1"), bands=optical, normalisation=identity(optical), perception_m=0
    )
    reasons = {e.reason for e in report.dropped if "radar_patch" in e.source}
    assert reasons == {"radar embedding: no bands given for it"}
    assert list(model.bands) == ["s2l1c_10"]
    both = {**optical, **foreign.on_grid(sensor("sentinel2-l2a").bands, 10)}
    with pytest.raises(UsageError, match="s2l1c_10 and s2l2a_10 are both optical"):
        foreign.load(state_of("less_v1"), bands=both, normalisation=identity(both), perception_m=0)
