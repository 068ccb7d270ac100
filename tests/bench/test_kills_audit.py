"""What diaries say: a step that is skipped, repeated or other than it should be is found."""

import copy
import json

import pytest

from bench.kills_audit import audit, counting, read

STEPS, BATCH = 6, 4


def row(life, step, rank=0, ranks=1):
    share = BATCH // ranks
    first = (step - 1) * BATCH + rank * share
    positions = list(range(first, first + share))
    keys = [f"k{position % 10}" for position in positions]
    return {
        "life": life,
        "rank": rank,
        "step": step,
        "loss": 1.0 / step,
        "positions": positions,
        "keys": keys,
    }


def begun(life, step, rank=0):
    return {"life": life, "rank": rank, "started": step}


def lived(life, first, last, ranks=1):
    rows = [begun(life, first - 1, rank) for rank in range(ranks)]
    return rows + [row(life, s, r, ranks) for s in range(first, last + 1) for r in range(ranks)]


WHOLE = lived(0, 1, STEPS)
# checkpoints of steps 2 and 4: one step of the first life is lost, two of the second
KILLED = [*lived(1, 1, 3), *lived(2, 3, 6), begun(3, 4), *lived(4, 5, 6)]


def held(killed):
    return audit(killed, WHOLE, steps=STEPS, batch=BATCH)


def test_lost_steps_do_not_count_and_nothing_is_missing():
    assert sorted(counting(KILLED)) == [1, 2, 3, 4, 5, 6]
    assert [counting(KILLED)[step][0]["life"] for step in range(1, 7)] == [1, 1, 2, 2, 4, 4]
    found = held(KILLED)
    assert (found.skipped, found.repeated, found.foreign, found.differing) == (0, 0, 0, 0)
    assert (found.lost, found.lives) == (3, 4)


def test_two_ranks_together_see_what_one_does():
    found = audit(
        [*lived(1, 1, 3, ranks=2), *lived(2, 3, 6, ranks=2)], WHOLE, steps=STEPS, batch=BATCH
    )
    assert (found.skipped, found.repeated, found.foreign, found.lost) == (0, 0, 0, 1)
    half = [r for r in lived(1, 1, 6, ranks=2) if r["rank"] == 0]
    assert audit(half, WHOLE, steps=STEPS, batch=BATCH).skipped == STEPS * BATCH / 2


def test_going_on_behind_the_last_step_taken_skips():
    assert held([*lived(1, 1, 3), *lived(2, 5, 6)]).skipped == BATCH


def test_steps_that_were_lost_and_not_taken_again_are_skipped():
    assert held([*lived(1, 1, 6), begun(2, 4)]).skipped == 2 * BATCH


def test_a_stream_that_stands_still_repeats():
    killed = copy.deepcopy(KILLED)
    shifted = next(r for r in killed if r["life"] == 4 and r.get("step") == 5)
    shifted["positions"] = [position - BATCH for position in shifted["positions"]]
    found = held(killed)
    assert (found.skipped, found.repeated, found.foreign) == (BATCH, BATCH, BATCH)


def test_another_loss_is_found_also_in_a_step_that_was_lost():
    killed = copy.deepcopy(KILLED)
    lost = next(r for r in killed if r["life"] == 2 and r.get("step") == 6)
    lost["loss"] += 1e-16
    assert held(killed).differing == 1
    killed[1]["keys"][0] = "another"
    assert held(killed).foreign == 1


def test_positions_past_the_end_count_as_repeated():
    assert held([*lived(1, 1, 7)]).repeated == BATCH


@pytest.mark.parametrize("ranks", [1, 2])
def test_diaries_are_read_with_their_rank(ranks, tmp_path):
    for rank in range(ranks):
        rows = [{k: v for k, v in r.items() if k != "rank"} for r in WHOLE]
        (tmp_path / f"{rank}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    found = read(tmp_path)
    assert len(found) == ranks * len(WHOLE)
    assert {r["rank"] for r in found} == set(range(ranks))
