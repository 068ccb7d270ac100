"""Backbones side by side: each is its own, and what they say together."""

import pytest
import torch

from fm.errors import UsageError
from fm.models import create_model
from fm.models.towers import Towers
from fm.sensors import sensor

SMALL = {"width": 32, "depth": 1, "heads": 2}
BANDS = {**sensor("sentinel1-grd").modalities, **sensor("sentinel2-l1c").modalities}


def made(**options: object) -> Towers:
    model = create_model(
        "towers_vit_nano", bands=BANDS, token_m=120, **{"tower_options": SMALL, **options}
    )
    assert isinstance(model, Towers)
    return model.eval()


def pixels() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        m: torch.rand(3, len(b), round(240 / b[0].gsd_m), round(240 / b[0].gsd_m),
                      generator=generator)
        for m, b in BANDS.items()
    }  # fmt: skip


def test_each_tower_is_the_backbone_it_is_named_after() -> None:
    model = made()
    given = pixels()
    whole = model.encode(given)
    assert list(whole.grid) == ["s1grd", "s2l1c"]
    pooled, at = [], 0
    for name in whole.grid:
        own = {m: given[m] for m in model.tower(name).bands}
        alone = create_model("vit_nano", bands={m: BANDS[m] for m in own}, token_m=120, **SMALL)
        alone.load_state_dict(model.tower(name).state_dict())
        want = alone.eval().encode(own)
        count = want.tokens.shape[1]
        assert torch.allclose(whole.tokens[:, at : at + count], want.tokens, atol=1e-6)
        assert torch.allclose(model.encode(own).pooled, want.pooled, atol=1e-6)
        pooled.append(want.pooled)
        at += count
    assert torch.allclose(whole.pooled, (pooled[0] + pooled[1]) / 2, atol=1e-6)


def test_a_tower_without_a_valid_token_says_nothing() -> None:
    model, given = made(), pixels()
    valid = {m: torch.ones_like(x, dtype=torch.bool) for m, x in given.items()}
    valid["s1grd_10"][1] = False
    found = model.encode(given, valid=valid)
    optical = model.encode({m: x for m, x in given.items() if m != "s1grd_10"})
    assert torch.allclose(found.pooled[1], optical.pooled[1], atol=1e-6)
    both = model.encode(given)
    assert torch.allclose(found.pooled[[0, 2]], both.pooled[[0, 2]], atol=1e-6)


def test_towers_of_two_kinds_and_what_does_not_fit() -> None:
    kinds = {"s1grd": "vit_nano", "s2l1c": "less_nano"}
    model = made(tower=kinds, tower_options={"s1grd": SMALL, "s2l1c": SMALL})
    assert [type(model.tower(n)).__name__ for n in kinds] == ["VisionTransformer", "LessViT"]
    assert model.encode(pixels()).pooled.shape == (3, 32)
    for changes, words in (
        ({"tower": {"s1grd": "vit_nano"}}, "tower names"),
        ({"tower": "towers_vit_nano"}, "name one backbone"),
        ({"tower_options": {**SMALL, "dept": 1}}, "has no option 'dept'"),
        ({"tower": kinds, "tower_options": {"s1grd": SMALL}}, "one width"),
    ):
        with pytest.raises(UsageError, match=words):
            made(**changes)
