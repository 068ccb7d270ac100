import json

from fm.cli import main


def test_list_names_benchmarks_and_protocols(capsys):
    assert main(["probe", "--list"]) == 0
    text = capsys.readouterr().out
    assert "indian-pines@1" in text
    assert "linear@1" in text
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
