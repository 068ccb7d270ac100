"""Our checkpoints as TerraTorch's backbones, against its registry's interface (1.2.13)."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from fm.errors import FMError, UsageError
from fm.export.terratorch import Source, TerraTorchBackbone, register
from tests.fm.export.models import S2, family, resnet, saved, vit


class Registry(dict):
    """Sources by prefix; a name's first word is the prefix."""

    def register_source(self, prefix: str, source: Any) -> None:
        if prefix in self:
            raise KeyError(prefix)
        self[prefix] = source

    def build(self, name: str, *arguments: Any, **options: Any) -> Any:
        prefix, _, rest = name.partition("_")
        return self[prefix].build(rest, *arguments, **options)


def test_the_registry_builds_a_checkpoint_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, module = Registry(), ModuleType("terratorch.registry")
    module.BACKBONE_REGISTRY = registry  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "terratorch", ModuleType("terratorch"))
    monkeypatch.setitem(sys.modules, "terratorch.registry", module)
    register()
    register()
    assert list(registry["eofm"]) == ["checkpoint"]
    model = vit(depth=3)
    made = registry.build(
        "eofm_checkpoint", folder=saved(tmp_path, model), values="stored", out_indices=[0, -1]
    )
    assert (made.out_channels, made.patch_size) == ([32, 32], 8)
    stored = torch.randint(0, 4000, (2, 3, 32, 48), dtype=torch.int32)
    first, last = made(stored.float())
    wanted = model.encode({"s2l2a_10": stored}, hidden=True)
    assert last.shape == (2, 32, 4, 6)
    torch.testing.assert_close(last.flatten(2).mT, wanted.tokens, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(first.flatten(2).mT, wanted.hidden[0], rtol=1e-5, atol=1e-5)


def test_bands_by_name_several_grids_and_stages(tmp_path: Path) -> None:
    model = vit()
    folder = saved(tmp_path, model)
    turned = TerraTorchBackbone(folder, values="physical", bands=["B04", "B03", "B02"])
    pixels = torch.rand(1, 3, 16, 16)
    (got,) = turned(pixels.flip(1))
    wanted = model.encode({"s2l2a_10": pixels}).tokens
    torch.testing.assert_close(got.flatten(2).mT, wanted, rtol=1e-5, atol=1e-5)

    (tmp_path / "two").mkdir()
    both = saved(tmp_path / "two", vit({m: S2[m] for m in ("s2l2a_10", "s2l2a_20")}))
    two = TerraTorchBackbone(both, values="physical")
    (got,) = two({"s2l2a_10": torch.rand(1, 4, 16, 32), "s2l2a_20": torch.rand(1, 6, 8, 16)})
    assert got.shape == (1, 32, 2, 4)
    with pytest.raises(UsageError, match="give one entry for each"):
        two(torch.rand(1, 4, 16, 32))

    (tmp_path / "res").mkdir()
    stages = TerraTorchBackbone(
        saved(tmp_path / "res", resnet()), values="physical", out_indices=[0, 1, 2, 3]
    )
    assert stages.out_channels == [4, 8, 16, 32]
    assert [x.shape[-2:] for x in stages(torch.rand(1, 3, 64, 96))] == [
        (16, 24),
        (8, 12),
        (4, 6),
        (2, 3),
    ]


def test_wrong_requests_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = saved(tmp_path, vit())
    for options, said in (
        ({}, "say what the pixels are"),
        ({"values": "stored", "out_indices": [2]}, "no layer 2 of 2"),
    ):
        with pytest.raises(UsageError, match=said):
            TerraTorchBackbone(folder, **options)
    (tmp_path / "groups").mkdir()
    with pytest.raises(UsageError, match="3 token groups"):
        TerraTorchBackbone(saved(tmp_path / "groups", family("vit-groups")), values="stored")
    with pytest.raises(UsageError, match="did you mean 'checkpoint'"):
        Source().build("chekpoint")
    monkeypatch.setitem(sys.modules, "terratorch", None)
    with pytest.raises(FMError, match="pip install terratorch"):
        register()
