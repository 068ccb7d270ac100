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
        (["--to", "tim"], "did you mean 'timm'"),
        (["--to", "onnx"], "say what the pixels will be"),
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


def test_a_difference_is_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timm_folder, "mean_and_std", lambda *_: ([0.0] * 3, [1.0] * 3, False))
    words = ["--to", "timm", "--tokens", "2x3", "--out", str(tmp_path / "out")]
    assert main(["models", "export", str(saved(tmp_path, vit())), *words]) == 1
    assert "nothing was written" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
