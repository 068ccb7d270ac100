"""`fm models export` on the command line."""

import json
from pathlib import Path

import pytest

from fm.cli import main
from fm.export import timm_folder
from tests.fm.export.models import saved, vit


def test_what_was_compared_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = saved(tmp_path, vit()), tmp_path / "out"
    words = ["models", "export", str(folder), "--to", "timm", "--tokens", "2x3", "--out", str(out)]
    assert main(words) == 0
    assert f"written to {out}" in capsys.readouterr().out
    assert main([*words, "--overwrite", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report == json.loads((out / "export.json").read_text())
    assert {row["output"] for row in report["verification"]} == {"pooled"}
    assert main(words) == 1
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--to", "timm", "--tokens", "2by3"], "give rows and columns such as 8x8"),
        (["--to", "timm", "--tokens", "0x3"], "at least 1 each"),
        (["--to", "timm", "--tokens", "2x3", "--tolerance", "inf"], "a share from 0 to below 1"),
        (["--to", "safetensors", "--tolerance", "nan"], "a share from 0 to below 1"),
        (["--to", "tim"], "did you mean 'timm'"),
        (["--to", "onnx"], "say what the pixels will be: --values physical ("),
        (["--to", "timm", "--values", "stored"], "timm has no use for values"),
        (["--to", "torch-export", "--values", "stored", "--modalities", "s2l2a_20"], "takes no"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["models", "export", str(saved(tmp_path, vit())), *words, "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_the_model_is_not_replaced_by_what_is_made_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = saved(tmp_path / "runs", vit())
    for out in (folder, tmp_path / "runs"):
        words = ["--to", "timm", "--tokens", "2x3", "--out", str(out), "--overwrite"]
        assert main(["models", "export", str(folder), *words]) == 2
        assert "which it is made of" in capsys.readouterr().err
    assert (folder / "card.json").is_file()


def test_a_clip_left_out_is_a_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = timm_folder.mean_and_std
    monkeypatch.setattr(timm_folder, "mean_and_std", lambda *given: (*told(*given)[:2], False))
    words = ["--to", "timm", "--tokens", "2x3", "--out", str(tmp_path / "out")]
    assert main(["models", "export", str(saved(tmp_path, vit(kind="clip_sigma"))), *words]) == 1
    assert not (tmp_path / "out").exists()


def test_a_difference_is_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timm_folder, "mean_and_std", lambda *_: ([0.0] * 3, [1.0] * 3, False))
    words = ["--to", "timm", "--tokens", "2x3", "--out", str(tmp_path / "out")]
    assert main(["models", "export", str(saved(tmp_path, vit())), *words]) == 1
    assert "nothing was written" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
