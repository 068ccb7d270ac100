"""The real-scale guide: its plans are made, and its path is walked on small tars."""

import json
import re
import shlex
from pathlib import Path

import pytest

from fm.cli import main
from pretrain.data import check_batch
from pretrain.trainer import load_config
from tests.shards.foreign_tars import write_ssl4eo

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("real-scale.md", "launching.md", "planning.md")
SMALL = (
    "data.crop=16 data.batch_size=2 model.token_m=40 model.name=vit_nano engine.micro_batch=2 "
    "model.options={depth: 1, time_code_width: 48} engine.precision=fp32 schedule.steps=2 "
    "schedule.warmup=1 monitor.tensorboard=false monitor.pictures=0 engine.deepspeed=zero0 "
    "objective.decoder={kind: cross, width: 32, depth: 1, heads: 2, predict: 0.25, "
    "time_code_width: 12}"
)


def lines(page: str, start: str) -> list[list[str]]:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    found = []
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        found += [shlex.split(line) for line in block.splitlines() if line.startswith(start)]
    return found


def planned() -> list[tuple[str, ...]]:
    found = [tuple(words[2:]) for page in PAGES for words in lines(page, "fm plan ")]
    for words in lines("real-scale.md", "torchrun "):  # what is run is planned too
        found.append(tuple(words[words.index("pretrain") + 1 :]))
    return found


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch):
    from fm.cli import main as command
    from pretrain.plan import cli

    class Point:
        name = "plan"

        def load(self):
            return cli.command

    def run(*words: str) -> int:
        with monkeypatch.context() as patch:
            patch.setattr("fm.cli._verbs", lambda: {"plan": Point()})
            return command(["plan", *words])

    return run


def test_there_are_plans() -> None:
    assert len(planned()) > 8


@pytest.mark.parametrize("words", planned(), ids=lambda words: " ".join(words)[:60])
def test_every_config_of_the_pages_divides(words: tuple[str, ...]) -> None:
    keys = [w for w in words if "=" in w and not w.startswith(("data.path=", "data.split="))]
    config = load_config(words[0], keys)
    assert config.schedule.warmup < config.schedule.steps
    numbers, times = "1", 1
    for option, by in (("--gpus", 1), ("--nodes", 8)):
        if option in words:
            numbers, times = words[words.index(option) + 1], by
    for number in numbers.split(","):
        check_batch(config, int(number) * times)


@pytest.mark.slow
@pytest.mark.parametrize("words", planned(), ids=lambda words: " ".join(words)[:60])
def test_every_config_of_the_pages_can_be_planned(
    words: tuple[str, ...], plan, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    # the user's data and this machine's speed are not here
    kept = [w for w in words if not w.startswith(("data.path=", "data.split=", "--measure"))]
    if "--measure" in words:
        kept += ["--measured", "900"]
    assert plan(*kept, *(() if "--json" in kept else ("--json",))) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["refused"] for row in found["on"] if "refused" in row] == []
    scripts = found.get("scripts", [])
    assert bool(scripts) == ("--slurm" in words)
    if scripts and words[0] == "mae_ssl4eo_s12_large":
        named = [line[1] for line in lines("real-scale.md", "sbatch ")]
        assert set(named) <= set(scripts)


def test_the_guide_says_what_the_plan_says() -> None:
    text = (ROOT / "docs" / "real-scale.md").read_text(encoding="utf-8")
    batch = load_config("mae_ssl4eo_s12_large").data.batch_size
    assert f"{batch} samples over 1,024 ranks are two a rank" in text
    assert batch / 1024 == 2


def test_the_path_on_small_tars(plan, tmp_path: Path, monkeypatch, capsys) -> None:
    """Index, split and plan as the guide's lines do, then train on what they made."""
    monkeypatch.chdir(tmp_path)
    write_ssl4eo(tmp_path / "SSL4EO-S12" / "train")
    for words in lines("real-scale.md", "fm shards "):
        line = " ".join(words[1:]).replace("--km 100 --buffer-km 5", "--km 5")
        line = line.replace("--statistics-every 20", "--statistics-every 1")
        line = line.replace("train=0.98", "train=0.6").replace("test=0.02", "test=0.4")
        assert main(line.split()) == 0, line
    (training,) = lines("real-scale.md", "torchrun ")
    words = [
        *training[training.index("pretrain") + 1 :],
        *re.findall(r"\S+=(?:\{.*?\}|\S+)", SMALL),
    ]
    capsys.readouterr()
    assert plan(*words) == 0
    assert "s2l2a_10: 4 x 12 x 16 x 16" in capsys.readouterr().out
    assert main(["pretrain", *words]) == 0
    assert (tmp_path / "runs" / "ssl4eo" / "export" / "card.json").is_file()
