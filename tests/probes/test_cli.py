import json
import subprocess
import sys

import numpy as np

from fm.cli import main


def test_list_names_benchmarks_and_protocols(capsys):
    assert main(["probe", "--list"]) == 0
    text = capsys.readouterr().out
    assert "indian-pines@1" in text
    assert "linear@1" in text
    assert "package:efficientnet-lite0" in text
    assert main(["probe", "--list", "--json"]) == 0
    assert "finetune@1" in json.loads(capsys.readouterr().out)["protocols"]


def test_floor_from_the_command_line(blocks, tmp_path, capsys):
    words = ["probe", "--benchmark", "indian-pines-checkerboard", "--protocol", "raw-pixel"]
    assert main([*words, "--data", str(blocks), "--out", str(tmp_path)]) == 0
    assert "raw-pixel" in capsys.readouterr().out
    [path] = tmp_path.glob("*.json")
    assert json.loads(path.read_text())["id"] == path.stem
    assert main(["leaderboard", "check", str(tmp_path)]) == 0


def test_wrong_words_are_one_line_and_leave_nothing(blocks, tmp_path, capsys):
    data = ["--data", str(blocks)]
    out = tmp_path / "results"
    cases = {
        ("--benchmark", "indian-pine", *data): 2,
        ("--benchmark", "indian-pines", "--protocol", "lineer", *data): 2,
        ("--benchmark", "indian-pines", *data): 2,
        ("--benchmark", "indian-pines"): 2,
        ("--benchmark", "indian-pines", *data, "--seed", "-1"): 2,
        ("nowhere", "--benchmark", "indian-pines", *data): 1,
        ("--benchmark", "indian-pines", "--protocol", "raw-pixel", "--data", "nowhere"): 1,
    }
    for words, status in cases.items():
        assert main(["probe", *words, "--out", str(out)]) == status, words
        text = capsys.readouterr().err.strip()
        assert len(text.splitlines()) == 1, text
    assert not out.exists()


def test_embed_of_a_missing_model_is_one_line(blocks, tmp_path, capsys):
    assert main(["embed", "nowhere", str(blocks), "--out", str(tmp_path / "e.parquet")]) == 1
    assert "no such checkpoint folder" in capsys.readouterr().err
    assert main(["embed", "timm:resnet18", str(blocks), "--out", str(tmp_path / "e.parquet")]) == 2
    assert "embed takes checkpoint folders" in capsys.readouterr().err


SWEEP = ["--resize", "native,20", "--normaliser", "divide,zscore"]


def test_a_table_of_sizes_and_normalisers_is_one_command(pairs, tmp_path, capsys):
    words = ["probe", "timm:test_resnet", "--weights", "random", "--benchmark", "bigearthnet-s2"]
    words += ["--protocol", "corley-knn5", "--data", str(pairs), "--no-floors"]
    out = tmp_path / "results"
    assert main([*words, *SWEEP, "--workers", "2", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    rows = [line.split() for line in text.splitlines()]
    assert ["px", "divide", "zscore"] in rows
    values = {
        row[0]: [float(v) for v in row[1:]] for row in rows if row[:1] in (["native"], ["20"])
    }
    assert set(values) == {"native", "20"}
    found = {}
    for path in out.glob("*.json"):
        result = json.loads(path.read_text())
        assert result["id"] == path.stem
        size = str(result["axes"]["resize"] or "native")
        found[size, result["axes"]["normaliser"]] = result["metrics"][result["primary"]]["value"]
    assert len(found) == 4
    for size, row in values.items():
        for value, name in zip(row, ("divide", "zscore"), strict=True):
            assert abs(found[size, name] - value) < 1e-4


def test_wrong_axes_and_backbones_are_one_line_before_any_data_is_read(capsys):
    common = ["--benchmark", "bigearthnet-s2", "--data", "nowhere"]
    random = ["timm:test_resnet", "--weights", "random"]
    cases = (
        ([*random, "--resize", "big"], "native"),
        ([*random, "--resize", "0"], "--resize 0"),
        ([*random, "--normaliser", "zscor"], "--normaliser 'zscor'"),
        ([*random, "--normaliser", ","], "names nothing"),
        ([*random, "--protocol", "finetune", "--resize", "20"], "has no axes"),
        ([*random, "--workers", "0"], "--workers 0"),
        (["timm:test_resnet"], "no weights"),
        (["somewhere", "--weights", "random"], "--weights is for models of others"),
        (["somewhere", "--from", "x.pth"], "--from is for models of others"),
        (["--protocol", "raw-pixel", "--resize", "20"], "come to a model"),
        (["package:efficientnet-lite1", "--weights", "random"], "did you mean"),
    )
    for words, text in cases:
        assert main(["probe", *words, *common]) == 2, words
        said = capsys.readouterr().err.strip()
        assert text in said, words
        assert len(said.splitlines()) == 1, said


def test_precision_is_an_axis(pairs, tmp_path, capsys):
    words = ["probe", "timm:test_resnet", "--weights", "random", "--benchmark", "bigearthnet-s2"]
    words += ["--protocol", "knn", "--data", str(pairs), "--no-floors"]
    words += ["--cache", str(tmp_path / "features"), "--out", str(tmp_path / "results")]
    assert main([*words, "--precision", "float32,bfloat16"]) == 0
    assert "precision-bfloat16" in capsys.readouterr().out
    names = sorted(path.stem for path in (tmp_path / "results").glob("*.json"))
    assert [name.split("--")[3] for name in names] == ["precision-bfloat16", "s0"]
    made = []
    for path in sorted((tmp_path / "features").iterdir()):
        with np.load(path) as stored:
            made.append((json.loads(str(stored["settings"]))["precision"], stored["features"]))
    (_, reduced), (_, whole) = sorted(made, key=lambda item: item[0])
    assert not np.array_equal(reduced, whole)
    np.testing.assert_allclose(reduced, whole, atol=0.05 * np.abs(whole).max())
    results = [json.loads((tmp_path / "results" / f"{n}.json").read_text()) for n in names]
    assert [result["axes"]["precision"] for result in results] == ["bfloat16", "float32"]
    assert main([*words, "--precision", "half"]) == 2
    assert "--precision 'half': give float32 or bfloat16" in capsys.readouterr().err
    assert main([*words, "--protocol", "finetune", "--precision", "bfloat16"]) == 2
    assert "has no precision to choose" in capsys.readouterr().err


def test_who_reads_only_the_beginning_is_no_error():
    command = f"{sys.executable} -m fm probe --list | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout == "benchmarks\n"
    assert done.stderr == ""


def test_a_list_is_printed_without_loading_torch():
    code = (
        "import sys; from fm.cli import main; assert main(['probe', '--list']) == 0; "
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
