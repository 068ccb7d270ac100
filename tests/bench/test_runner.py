"""The bench runner: fair turns, honest numbers, and quick runs that keep no result."""

import json
from pathlib import Path

import pytest

from bench import __main__ as command
from bench import machine, report, runner
from bench.runner import Bench, Ready, Target, measure, values
from fm.errors import FMError, UsageError


class Toy:
    """Competitors that report their own seconds and write down who ran when."""

    def __init__(self, **seconds):
        self.seconds, self.turns, self.closed, self.quick = seconds, [], [], []

    def competitor(self, name):
        def prepare(quick):
            self.quick.append(quick)
            if self.seconds[name] is None:
                return None
            count = iter(range(10**6))

            def step():
                self.turns.append(name)
                given = self.seconds[name]
                return given(next(count)) if callable(given) else given

            return Ready(step, {"threads": 1}, lambda: self.closed.append(name))

        return prepare

    def bench(self, **options):
        competitors = {name: self.competitor(name) for name in self.seconds}
        settings = {"name": "toy", "question": "Which toy is faster?", "warmup": 2, "rounds": 9}
        return Bench(competitors=competitors, **(settings | options))


def by_name(rows):
    return {row["name"]: row for row in rows}


def test_competitors_take_turns_and_the_first_moves_on():
    toy = Toy(a=0.1, b=0.2, c=0.3)
    measured = measure(toy.bench(rounds=3, warmup=1), quick=False)
    assert "".join(toy.turns) == "abc" + "abc" + "bca" + "cab"
    assert toy.closed == ["a", "b", "c"]
    assert measured.seconds == {"a": [0.1] * 3, "b": [0.2] * 3, "c": [0.3] * 3}


def test_warm_up_is_not_counted():
    toy = Toy(a=lambda call: 100.0 if call < 2 else 0.5)
    measured = measure(toy.bench(warmup=2), quick=False)
    assert measured.seconds["a"] == [0.5] * 9


def test_a_step_without_seconds_of_its_own_is_timed(monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(runner.time, "perf_counter", lambda: float(next(clock)))
    measured = measure(Toy(a=lambda call: None).bench(), quick=False)
    assert measured.seconds["a"] == [1.0] * 9


def test_medians_quartiles_and_units():
    toy = Toy(a=lambda call: (call - 2) / 1000)  # 0 to 8 ms after two warm-up repetitions
    row = values(toy.bench(), measure(toy.bench(), quick=False))[0]
    assert (row["value"], row["unit"]) == (pytest.approx(4.0), "ms")
    assert row["spread"] == pytest.approx([2.0, 6.0])
    assert (row["target"], row["holds"]) == (None, None)
    toy = Toy(a=0.5)
    bench = toy.bench(unit="samples/s", amount=32)
    assert values(bench, measure(bench, quick=False))[0]["value"] == pytest.approx(64.0)


def test_few_rounds_give_minimum_and_maximum():
    toy = Toy(a=lambda call: (call - 2) / 1000)
    bench = toy.bench(rounds=4)
    measured = measure(bench, quick=False)
    assert values(bench, measured)[0]["spread"] == pytest.approx([0.0, 3.0])
    assert runner.spread_kind(measured.rounds) == "minimum and maximum"
    assert runner.spread_kind(9) == "interquartile range"


def test_ratios_are_taken_within_rounds_so_that_drift_cancels():
    toy = Toy(slow=lambda call: 2.0 * (call + 1) ** 3, fast=lambda call: 1.0 * (call + 1) ** 3)
    bench = toy.bench(targets=(Target("ratio", "slow", "fast", at_most=2.0),))
    row = by_name(values(bench, measure(bench, quick=False)))["ratio"]
    assert row["value"] == pytest.approx(2.0)
    assert row["spread"] == pytest.approx([2.0, 2.0])
    assert row["holds"] is True


@pytest.mark.parametrize(
    ("bound", "holds"),
    [
        ({"at_most": 200.0}, True),
        ({"at_most": 199.0}, False),
        ({"at_least": 200.0}, True),
        ({"at_least": 201.0}, False),
    ],
)
def test_targets_hold_or_not(bound, holds):
    bench = Toy(a=0.2).bench(targets=(Target("a is fast", "a", **bound),))
    row = by_name(values(bench, measure(bench, quick=False)))["a is fast"]
    assert row["holds"] is holds


def test_an_absent_peer_is_null_and_never_holds():
    bench = Toy(a=0.1, peer=None).bench(
        targets=(Target("a / peer", "a", "peer", at_most=9.0), Target("p", "peer", at_most=1e9))
    )
    measured = measure(bench, quick=False)
    rows = by_name(values(bench, measured))
    for name in ("peer", "a / peer", "p"):
        assert rows[name]["value"] is rows[name]["spread"] is rows[name]["holds"] is None
    assert rows["a"]["value"] == pytest.approx(100.0)
    assert measured.settings == {"a": {"threads": 1}, "peer": None}


def test_all_absent_is_an_error():
    with pytest.raises(FMError, match="every competitor is absent"):
        measure(Toy(a=None, b=None).bench(), quick=False)


def test_competitors_are_closed_when_they_fail_or_did_other_work():
    def refuse():
        raise FMError("other work")

    for broken in ({"check": refuse}, {}):
        toy = Toy(a=0.1, b=(lambda call: 1 / 0) if not broken else 0.1)
        with pytest.raises((FMError, ZeroDivisionError)):
            measure(toy.bench(**broken), quick=False)
        assert toy.closed == ["a", "b"]


def test_quick_runs_are_short_in_rounds_and_time(monkeypatch):
    toy = Toy(a=0.1)
    assert measure(toy.bench(quick_rounds=3), quick=True).rounds == 3
    assert toy.quick == [True]
    assert len(toy.turns) == 1 + 3
    clock = iter(range(0, 10**6, 30))
    monkeypatch.setattr(runner.time, "monotonic", lambda: next(clock))
    assert measure(Toy(a=0.1).bench(quick_rounds=1000), quick=True).rounds < 5


def test_a_ratio_without_a_bound_is_stated():
    bench = Toy(a=0.2, b=0.1).bench(targets=(Target("a / b", "a", "b"),))
    row = by_name(values(bench, measure(bench, quick=False)))["a / b"]
    assert (row["value"], row["target"], row["holds"]) == (2.0, None, None)


def test_a_target_must_name_a_bound_and_its_competitors():
    with pytest.raises(ValueError, match="at_most"):
        Target("t", "a")
    with pytest.raises(ValueError, match="at_most"):
        Target("t", "a", "b", at_most=1.0, at_least=0.5)
    with pytest.raises(ValueError, match="no competitor 'z'"):
        Toy(a=0.1).bench(targets=(Target("t", "a", "z", at_most=1.0),))
    with pytest.raises(ValueError, match="neither ms"):
        Toy(a=0.1).bench(unit="seconds")


def places(folder):
    return {
        "results": folder / "results",
        "quick": folder / "quick",
        "page": folder / "performance.md",
    }


def made(bench, quick=False):
    return report.document(bench, measure(bench, quick=quick), quick=quick, load=0.5)


def test_a_full_run_writes_its_json_and_the_page(tmp_path):
    bench = Toy(a=0.25, peer=None).bench(
        targets=(Target("a | b", "a", at_most=300.0),), versions=("numpy", "no-such-package")
    )
    path = report.save(made(bench), **places(tmp_path))
    result = json.loads(path.read_text())
    assert path == tmp_path / "results" / "toy.json"
    assert list(result["values"][0]) == ["name", "value", "unit", "spread", "target", "holds"]
    assert result["versions"]["no-such-package"] is None
    assert result["commit"] is None or len(result["commit"].removesuffix("+changes")) == 40
    page = (tmp_path / "performance.md").read_text()
    assert "| a \\| b | 250 ms | 250 to 250 | at most 300 | yes |" in page
    assert "| peer | absent | – | – | – |" in page
    assert "interquartile range" in page
    assert page == report.render(report.read_results(tmp_path / "results"))


def test_a_quick_run_leaves_full_results_and_the_page_alone(tmp_path):
    report.save(made(Toy(a=0.25).bench()), **places(tmp_path))
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    path = report.save(made(Toy(a=0.5).bench(), quick=True), **places(tmp_path))
    assert path == tmp_path / "quick" / "toy.json"
    assert {p: p.read_bytes() for p in before} == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format_version": 9}, "not a bench result of format 1"),
        ({"quick": True}, "a quick result does not belong here"),
        ({"values": [{"name": "a"}]}, "a value lacks 'value'"),
    ],
)
def test_a_broken_result_is_named_and_the_page_is_not_made(tmp_path, change, words):
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "toy.json").write_text(json.dumps(made(Toy(a=0.1).bench()) | change))
    with pytest.raises(FMError, match=words):
        report.read_results(folder)


def test_a_result_that_holds_without_a_value_is_refused(tmp_path):
    result = made(Toy(a=0.1, b=None).bench(targets=(Target("t", "b", at_most=1.0),)))
    result["values"][-1]["holds"] = True
    (tmp_path / "toy.json").write_text(json.dumps(result))
    with pytest.raises(FMError, match="has no value but holds"):
        report.read_results(tmp_path)


def test_the_committed_page_is_what_the_committed_results_say():
    assert report.PAGE.read_text(encoding="utf-8") == report.render(
        report.read_results(report.RESULTS)
    )


def test_the_machine_is_told_in_words():
    words = machine.describe()
    assert "cores of" in words
    assert "\n" not in words
    assert machine.commit(Path("/")) is None


def test_command_line_refuses_in_one_line(capsys):
    assert command.main(["engnie"]) == 2
    assert command.main([]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert "did you mean 'engine'?" in " ".join(lines)
    assert len(lines) == 2
    assert command.main(["--list"]) == 0
    assert "engine" in capsys.readouterr().out.splitlines()


def test_every_comparison_is_found_by_its_file_name(monkeypatch):
    assert command.find("engine").name == "engine"
    with pytest.raises(UsageError, match="there is no bench 'runner'"):
        command.find("runner")
    monkeypatch.setattr("bench.engine.BENCH", None)
    with pytest.raises(FMError, match="defines no BENCH named 'engine'"):
        command.find("engine")


def test_quick_is_asked_for_by_the_environment(monkeypatch, capsys):
    seen = []
    toy = Toy(a=0.1).bench()
    monkeypatch.setattr(command, "find", lambda name: toy)
    monkeypatch.setattr(command.report, "save", lambda result: seen.append(result["quick"]))
    for value in ("1", "0", ""):
        monkeypatch.setenv("BENCH_QUICK", value)
        assert command.main(["toy"]) == 0
    assert seen == [True, False, False]
    assert "Which toy is faster?" in capsys.readouterr().out
