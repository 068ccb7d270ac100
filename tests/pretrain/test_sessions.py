"""The list of a run's sessions."""

from pretrain.runs.folder import read_lines
from pretrain.runs.sessions import SESSIONS, add_session


def test_sessions_are_listed_in_turn_also_after_a_torn_line(tmp_path):
    first = {"world_size": 2, "git": {"commit": "abc"}, "command": ["fm"]}
    add_session(tmp_path, 0, first)
    with open(tmp_path / SESSIONS, "a") as stream:
        stream.write('{"step": 7, "ti')
    add_session(tmp_path, 8, {"world_size": 4})
    rows = read_lines(tmp_path / SESSIONS)
    assert [(row["step"], row["world_size"], row["git"]) for row in rows] == [
        (0, 2, {"commit": "abc"}),
        (8, 4, None),
    ]
    assert all(row["time"].endswith("Z") and len(row["time"]) == 20 for row in rows)
