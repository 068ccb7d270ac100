import json
from pathlib import Path

import pytest

from fm.errors import FMError, UsageError
from shards.reading.quarantine import Quarantine


def quiet(key: str, reason: str) -> None:
    del key, reason


def test_distinct_samples_are_counted_and_told_once() -> None:
    said: list[tuple[str, str]] = []
    quarantine = Quarantine(100, on_quarantine=lambda *x: said.append(x))
    for step in range(30):  # five samples again and again are five, not more
        quarantine.add(f"k{step % 5}", "a.tar", "checksum mismatch", step, "m")
        quarantine.seen(20)
    assert said == [(f"k{i}", "checksum mismatch") for i in range(5)]
    assert len(quarantine) == quarantine.allowed == 5
    assert "k3" in quarantine
    assert "k7" not in quarantine


def test_one_too_many_stops_with_the_whole_list_and_the_advice() -> None:
    quarantine = Quarantine(60, max_bad=0.05, on_quarantine=quiet, dataset="data/d")
    quarantine.add("a", "x.tar", "short")
    quarantine.seen(20)
    for key, shard in (("b", "x.tar"), ("c", "y.tar"), ("d", "x.tar"), ("e", "x.tar")):
        quarantine.add(key, shard, "short")
    with pytest.raises(FMError) as caught:
        quarantine.seen(20)
    assert str(caught.value) == (
        "data/d: 5 of 60 samples cannot be read, more than the 3 allowed: a, b, c, d, e "
        "(4 in x.tar, 1 in y.tar); run `fm shards verify` and `fm shards repair`, or raise max_bad"
    )


def test_one_bad_sample_is_always_allowed_and_a_long_list_is_cut() -> None:
    small = Quarantine(3, max_bad=0.0, on_quarantine=quiet)
    small.add("a", None, "short")
    small.seen(3)
    for i in range(60):
        small.add(f"k{i:02d}", None, "short")
    with pytest.raises(FMError) as caught:
        small.seen(60)
    assert "k48, ...;" in str(caught.value)
    assert "k49" not in str(caught.value)


def test_a_burst_stops_long_before_the_share_is_reached() -> None:
    quarantine = Quarantine(1_000_000, on_quarantine=quiet)  # 50,000 may be bad
    for _ in range(500):
        quarantine.seen(32)
    read = [0]

    def vanished() -> None:
        for _ in range(300):
            for slot in range(32):
                quarantine.add(f"k{read[0] + slot}", "a.tar", "Stale file handle")
            read[0] += 32
            quarantine.seen(32)

    with pytest.raises(FMError, match=r"gone.*bring it back and resume") as caught:
        vanished()
    assert 100 < read[0] <= 132
    assert "Stale file handle" in str(caught.value)


@pytest.mark.parametrize("batch", [1, 32, 1024])
def test_a_rate_below_the_burst_goes_on(batch: int) -> None:
    quarantine = Quarantine(100_000, max_bad=0.2, on_quarantine=quiet)
    for step in range(0, 20_000, batch):
        for place in range(step, step + batch):
            if place % 10 == 0:
                quarantine.add(f"k{place}", None, "short")
        quarantine.seen(batch)
    # nor does a larger share that max_bad allows
    allowed = Quarantine(100_000, max_bad=0.8, on_quarantine=quiet)
    for step in range(0, 20_000, batch):
        for place in range(step, step + batch):
            if place % 10 < 7:
                allowed.add(f"k{place}", None, "short")
        allowed.seen(batch)


def test_an_old_burst_is_forgotten() -> None:
    quarantine = Quarantine(10_000, on_quarantine=quiet)
    for episode in range(4):  # 90 bad ones in a row, then a thousand good ones
        for place in range(90):
            quarantine.add(f"k{episode}_{place}", None, "timeout")
        quarantine.seen(90)
        for _ in range(100):
            quarantine.seen(10)


def test_the_report_is_read_back_on_resume(tmp_path: Path) -> None:
    path = tmp_path / "run" / "quarantine.jsonl"
    said: list[str] = []
    first = Quarantine(60, report=path, on_quarantine=quiet, dataset="d")
    first.add("a", "x.tar", "short", 17, "s2l1c_10")
    first.add("b", "y.tar", "checksum mismatch", 18)
    first.add("a", "x.tar", "short", 90, "s2l1c_10")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["key"] for line in lines] == ["a", "b"]
    assert lines[0].pop("time").endswith("Z")
    assert lines[0] == {
        "dataset": "d",
        "part": None,
        "key": "a",
        "shard": "x.tar",
        "member": "s2l1c_10",
        "reason": "short",
        "position": 17,
    }
    again = Quarantine(60, report=path, on_quarantine=lambda key, _: said.append(key), dataset="d")
    assert again.known() == first.known()
    again.add("b", "y.tar", "checksum mismatch", 400)
    again.seen(8)
    again.add("c", "y.tar", "short", 401)
    again.add("e", "y.tar", "short", 402)
    assert said == ["c", "e"]
    with pytest.raises(FMError, match=rf"4 of 60 .*after mending remove {path}, which lists 2"):
        again.seen(8)
    other = Quarantine(60, report=path, on_quarantine=quiet, dataset="another")
    assert len(other) == 0


def test_a_line_torn_by_a_kill_costs_one_line(tmp_path: Path, capsys) -> None:
    path = tmp_path / "quarantine.jsonl"
    first = Quarantine(60, report=path, on_quarantine=quiet)
    for key in "abc":
        first.add(key, None, "short")
    path.write_bytes(path.read_bytes()[:-9])
    second = Quarantine(60, report=path, on_quarantine=quiet)
    assert list(second.known()) == ["a", "b"]
    assert "line 3 is not whole" in capsys.readouterr().err
    second.add("c", None, "short")
    assert list(Quarantine(60, report=path).known()) == ["a", "b", "c"]


def test_ranks_merge_what_they_know(tmp_path: Path) -> None:
    path = tmp_path / "rank0.jsonl"
    ranks = [Quarantine(40, on_quarantine=quiet, report=path if r == 0 else None) for r in range(2)]
    ranks[0].add("a", None, "short")
    ranks[1].add("a", None, "short")
    ranks[1].add("b", None, "short")
    ranks[0].merge(json.loads(json.dumps(ranks[1].known())))
    ranks[0].seen(8)
    assert list(ranks[0].known()) == ["a", "b"]
    assert len(path.read_text().splitlines()) == 1
    ranks[0].add("c", None, "short")
    with pytest.raises(FMError, match="3 of 40"):
        ranks[0].seen(8)


def test_a_report_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    quarantine = Quarantine(60, report=tmp_path / "file" / "q.jsonl", on_quarantine=quiet)
    with pytest.raises(FMError, match="cannot write the quarantine report"):
        quarantine.add("a", None, "short")
    with pytest.raises(FMError, match="cannot read this quarantine report"):
        Quarantine(60, report=tmp_path)


@pytest.mark.parametrize(
    "arguments", [{"total": 0}, {"max_bad": 1.5}, {"window": 0}, {"burst": 0.0}]
)
def test_bad_arguments_are_refused(arguments: dict) -> None:
    with pytest.raises(UsageError):
        Quarantine(**({"total": 10} | arguments))


def test_a_dataset_that_is_two_parts_of_a_mixture_is_counted_apart(tmp_path: Path) -> None:
    path, said = tmp_path / "quarantine.jsonl", []
    big = Quarantine(100, report=path, on_quarantine=quiet, dataset="d", part="big")
    for number in range(5):
        big.add(f"k{number}", None, "short")
    small = Quarantine(
        10, report=path, on_quarantine=lambda *x: said.append(x), dataset="d", part="small"
    )
    assert len(small) == 0
    small.add("k0", "a.tar", "short")
    small.seen(10)  # 1 is allowed
    assert said == [("k0", "short")]
    assert [json.loads(line)["part"] for line in path.read_text().splitlines()] == [
        *["big"] * 5,
        "small",
    ]
    again = Quarantine(10, report=path, on_quarantine=quiet, dataset="d", part="small")
    assert list(again.known()) == ["k0"]
    again.add("k9", None, "short")
    with pytest.raises(FMError, match=r"^d, part small: 2 of 10 samples"):
        again.seen(10)
    assert len(Quarantine(10, report=path, dataset="d")) == 0
