"""Kills are drawn from a seed, aim at every phase, and land where the folder says."""

import json
from collections import Counter

from bench.kills_drive import AT_END, END, MIDDLE, SPARE, STOP, TERM, View, plan
from bench.kills_life import Run


def kills(count=50, ranks=1, seed=3):
    return plan(count, every=4, ranks=ranks, seed=seed, cold=True)


def test_a_seed_gives_the_same_kills_and_every_aim_comes():
    assert kills() == kills()
    assert kills() != kills(seed=4)
    aims = Counter(kill.aim for kill in kills())
    assert set(aims) == {*MIDDLE, END}
    assert len(kills()) == 50 + 2 * SPARE
    assert aims[END] == -(-50 // AT_END) + SPARE
    late = [kill.share for kill in kills() if kill.aim == END]
    assert late == sorted(late)
    assert [kill.aim for kill in kills()][-aims[END] :] == [END] * aims[END]
    assert all(1 <= kill.steps <= 8 and 0 <= kill.share < 1 for kill in kills())
    assert sum(kill.cold for kill in kills()) == 5


def test_a_stop_is_asked_of_the_launcher_and_a_crash_takes_any_process():
    victims = {kill.victims for kill in kills(ranks=2) if kill.aim not in (STOP, TERM)}
    everyone = ("rank 0", "rank 1", "agent")
    assert victims == {("rank 0",), ("rank 1",), ("agent",), everyone}
    asked = {kill.victims for kill in kills(ranks=2) if kill.aim in (STOP, TERM)}
    assert asked == {("agent",)}
    assert {kill.victims for kill in kills()} == {("rank 0",)}


def test_a_view_reads_its_own_life_and_new_checkpoints(tmp_path):
    run = Run(tmp_path / "run.yaml", tmp_path / "run", tmp_path)
    diary = tmp_path / "0.jsonl"
    diary.write_text(json.dumps({"life": 1, "step": 9}) + "\n")
    old = run.folder / "checkpoints" / ".step-00000004.partial"
    old.mkdir(parents=True)
    view = View(run, 2)
    view.look()
    assert (view.begun, view.step, view.taken, view.writing()) == (False, 0, 0, False)
    with open(diary, "a") as stream:
        stream.write(json.dumps({"life": 2, "started": 8}) + "\n")
        stream.write(json.dumps({"life": 2, "step": 9}) + '\n{"life": 2, "st')
    view.look()
    assert (view.begun, view.step, view.taken) == (True, 9, 1)
    with open(diary, "a") as stream:
        stream.write('ep": 10}\n')
    view.look()
    assert (view.step, view.taken) == (10, 2)
    (old.parent / ".step-00000012.partial").mkdir()
    assert view.writing()
    assert not view.stands(12)
    (run.folder / "latest").write_text("step-00000012\n")
    assert view.stands(12)
