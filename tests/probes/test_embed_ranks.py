"""`fm embed` under a launcher: ranks share the pieces, and no byte tells how many they were."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fm.errors import FMError, UsageError
from probes.benchmarks.base import Inputs
from probes.embed import table
from probes.embed.ranks import Ranks
from probes.embed.stage import Stage, work_folder
from probes.embed.world import Grid, embed_map
from probes.features.extraction import encode
from tests import ranks
from tests.probes import embed_ranks
from tests.probes.test_embed_world import small


def whole(pairs: Path, out: Path) -> bytes:
    return table.embed(embed_ranks.encoder(), pairs, out, batch_size=2).read_bytes()


def test_a_table_by_two_ranks_is_that_of_one(pairs: Path, tmp_path: Path) -> None:
    one = whole(pairs, tmp_path / "one.parquet")
    out = tmp_path / "two.parquet"
    done = ranks.launch(tmp_path / "log", embed_ranks.table, str(pairs), str(out), None, ranks=2)
    assert done.statuses == [0, 0], done.stdout + done.stderr
    assert out.read_bytes() == one
    assert not work_folder(out).exists()
    assert done.stderr.count("samples in") == 1  # of all ranks, told once
    assert "18 samples in" in done.stderr


def test_a_map_by_two_ranks_is_that_of_one(tmp_path: Path) -> None:
    one = embed_map(small(), Grid(10.0), tmp_path / "one.tif").read_bytes()
    out = tmp_path / "two.tif"
    done = ranks.launch(tmp_path / "log", embed_ranks.world, str(out), ranks=2)
    assert done.statuses == [0, 0], done.stdout + done.stderr
    assert out.read_bytes() == one


@pytest.mark.parametrize("dies", [0, 1])
def test_what_a_killed_rank_left_is_gone_on_with(pairs: Path, tmp_path: Path, dies: int) -> None:
    out = tmp_path / "e.parquet"
    given = (str(pairs), str(out))
    done = ranks.launch(tmp_path / "log", embed_ranks.table, *given, dies, ranks=2)
    assert done.statuses[dies] == -9
    assert done.statuses[1 - dies] == 1
    assert "another rank ended; what is done is kept" in done.stdout
    assert not out.exists()
    assert (work_folder(out) / "journal").read_text().count("\n") >= 2
    assert whole(pairs, out) == whole(pairs, tmp_path / "one.parquet")  # one process goes on


@pytest.mark.parametrize("left", [False, True])
def test_ranks_without_a_shared_folder_are_told_so(pairs: Path, tmp_path: Path, left: bool) -> None:
    given = (str(pairs), str(tmp_path / "e.parquet"), left)
    done = ranks.launch(tmp_path / "log", embed_ranks.table_apart, *given, ranks=2)
    assert done.statuses == [1, 1]
    said = "1 of 2 ranks do not see what the first wrote there; give an --out on a disk that all"
    assert done.stdout.count(said) == 2  # of no missing file, and of no other rank that ended
    assert done.stdout.count("\n") == 2
    assert not list(tmp_path.glob("?/e.parquet"))


def test_pieces_that_another_rank_did_not_leave_are_told(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    stage = Stage(tmp_path / "work", (4, 2), [0, 2, 4])
    stage.put(0, np.ones((2, 2)))
    first = Ranks(0, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ranks, "_reduce", lambda self, number, how: number)
        with pytest.raises(FMError, match="1 pieces of other ranks are not there"):
            first.finished(stage, 2, 0.0)
        assert Ranks(1, 2).finished(stage, 2, 0.0) is None


@pytest.mark.parametrize("told", [("1", "1"), ("x", "2"), ("-1", "2"), ("0", "0")])
def test_what_no_launcher_says_is_refused(
    told: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", told[0])
    monkeypatch.setenv("WORLD_SIZE", told[1])
    with pytest.raises(UsageError, match="start ranks by torchrun"):
        Ranks.of_launcher()


def test_each_rank_has_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Ranks().part([1, 2, 3]) == [1, 2, 3]
    assert [list(Ranks(r, 2).part([1, 2, 3])) for r in (0, 1)] == [[1, 3], [2]]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert Ranks(1, 2, 1).device(4) == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [Ranks(r, 4, r).device(1).index for r in range(4)] == [0, 1, 0, 1]
    with pytest.raises(UsageError, match="torchrun --nproc-per-node"):
        Ranks().device(2)


def test_inputs_follow_the_model_to_its_device() -> None:
    """On `meta`, the one device beside the CPU that every machine has; no CUDA was at hand."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2, device="meta"))
            self.seen: list[str] = []

        def encode(self, pixels, *, bands, valid, scaling):
            self.seen = [x.device.type for x in (*pixels.values(), *valid.values())]
            raise FMError("far enough")

    model = Model()
    known = np.arange(16).reshape(1, 4, 4) > 3
    inputs = Inputs.known({"m": np.zeros((1, 2, 4, 4), np.float32)}, {"m": known})
    with pytest.raises(FMError, match="far enough"):
        encode(model, inputs, {"m": ("a", "b")}, {"m": (1.0, 0.0)})
    assert set(model.seen) == {"meta"}


def test_without_a_launcher_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert Ranks.of_launcher() == Ranks(0, 1, 0)
    assert "RANK" not in os.environ
