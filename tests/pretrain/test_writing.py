"""Which rank writes which file."""

from pathlib import Path

import pytest

from tests import ranks
from tests.pretrain import writing_ranks
from tests.pretrain.test_trainer import config_file


@pytest.mark.parametrize(
    "stage", [pytest.param(0), pytest.param(1, marks=pytest.mark.slow)], ids=["zero0", "zero1"]
)
def test_only_rank_0_writes(stage: int, tmp_path: Path, tiny_dataset: Path) -> None:
    """Defect: every rank writes the same file, and a shared folder holds the torn one."""
    config = config_file(tmp_path, tiny_dataset)
    words = [
        f"engine.deepspeed=zero{stage}",
        "schedule.steps=3",
        "schedule.warmup=0",
        "checkpoint.every=2",
        "monitor.pictures=2",
    ]
    given = (tmp_path, str(config), [*words, "monitor.tensorboard=true"])
    done = ranks.launch(tmp_path / "told", writing_ranks.main, *given, ranks=2)
    assert done.returncode == 0, done.stderr[-3000:]
    run = str(tmp_path / "run")
    first, second = (
        {p for p in (tmp_path / f"opened-{rank}").read_text().splitlines() if p.startswith(run)}
        for rank in (0, 1)
    )
    ends = {Path(path).name for path in first}
    assert any("metrics.jsonl" in name for name in ends)
    assert any(path.endswith(".pt") for path in first)
    own = {path for path in second if "zero_pp_rank_1_" in Path(path).name}
    assert bool(own) == (stage > 0)
    shared = {path for path in second - own if Path(path).name != "quarantine-1.jsonl"}
    # signs of life that ranks of one machine leave each other carry the rank's number
    assert {path for path in shared if "1" not in Path(path).name} == set()
    assert not shared & first
