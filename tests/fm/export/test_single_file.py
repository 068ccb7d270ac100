"""The loader that lies beside the weights, where eofm is not."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import fm
from fm.errors import FMError, UsageError
from fm.export import export, standalone
from fm.models import Backbone
from tests.fm.export.models import S2, family, resnet, saved, vit

CODE = """
import sys

sys.modules.update(dict.fromkeys(("fm", "timm", "einops", "shards", "pretrain", "probes")))
sys.path.insert(0, sys.argv[1])
import torch
from safetensors.torch import load_file, save_file
from eofm_model import load

features = load(sys.argv[1])(load_file(sys.argv[2]))
save_file({k: v.detach().contiguous() for k, v in features.items()}, sys.argv[3])
"""
TWO = {m: S2[m] for m in ("s2l2a_10", "s2l2a_20")}


def test_it_runs_where_eofm_cannot_be_imported(tmp_path: Path) -> None:
    model = vit(TWO, positions="learned", grid=2, registers=1, layer_scale=0.3)
    export(saved(tmp_path, model), to="single-file", out=tmp_path / "out")
    inputs = {
        "s2l2a_10": torch.randint(0, 4000, (2, 4, 24, 16), dtype=torch.int32),
        "s2l2a_20": torch.rand(2, 6, 12, 8),
    }
    save_file(inputs, tmp_path / "in.safetensors")
    words = [str(tmp_path / name) for name in ("out", "in.safetensors", "got.safetensors")]
    done = subprocess.run(
        [sys.executable, "-I", "-c", CODE, *words], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    got, wanted = load_file(words[2]), model.encode(inputs)
    torch.testing.assert_close(got["tokens"], wanted.tokens, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(got["pooled"], wanted.pooled, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "model",
    [
        vit(pooling="cls", kind="clip_sigma"),
        vit(pre_pool_norm=True, mlp_ratio=2.0),
        vit(positions="learned", grid=3, position_resize="dinov2"),
        vit({"s1grd_10": fm.sensor("sentinel1-grd").bands}),
        resnet(),
        resnet(bottleneck=True),
    ],
)
def test_every_plain_model_agrees(model: Backbone, tmp_path: Path) -> None:
    report = export(saved(tmp_path, model), to="single-file", out=tmp_path / "out")
    assert len(report["verification"]) >= 8
    assert max(row["max_rel"] for row in report["verification"]) <= 1e-5
    assert fm.load(tmp_path / "out").bands == model.bands


def test_what_the_loader_cannot_hold_is_refused(tmp_path: Path) -> None:
    for number, (model, said) in enumerate(
        (
            (vit(tokenizer="tied"), "the tokenizer tied"),
            (vit(positions="metres"), "positions in metres"),
            (family("less-rope"), "less_nano"),
            (family("croma"), "croma_base"),
        )
    ):
        (tmp_path / str(number)).mkdir()
        with pytest.raises(UsageError, match=said):
            export(saved(tmp_path / str(number), model), to="single-file", out=tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_the_loader_checks_what_it_is_given(tmp_path: Path) -> None:
    export(saved(tmp_path, vit()), to="single-file", out=tmp_path / "out")
    model = standalone.load(tmp_path / "out")
    for inputs, said in (
        ({"s2l2a_10": torch.rand(1, 4, 16, 16)}, "give .B, 3, H, W."),
        ({"s2l2a_10": torch.rand(1, 3, 16, 17)}, "not whole 8 px tokens"),
        ({"s2l2a_20": torch.rand(1, 3, 16, 16)}, "the model takes s2l2a_10"),
    ):
        with pytest.raises(ValueError, match=said):
            model(inputs)
    weights = tmp_path / "out" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match=r"not the file that card\.json names"):
        standalone.load(tmp_path / "out")


def test_our_own_folder_is_the_same_to_the_bit(tmp_path: Path) -> None:
    folder = saved(tmp_path, family("less-sum"))
    report = export(folder, to="safetensors", out=tmp_path / "out")
    assert {row["max_abs"] for row in report["verification"]} == {0.0}
    assert fm.load(tmp_path / "out").card == fm.load(folder).card
    with pytest.raises(FMError, match="exists already"):
        export(folder, to="safetensors", out=tmp_path / "out")
