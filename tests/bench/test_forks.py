"""Forked sides answer, fail loudly, and end."""

import os

import pytest

from bench.forks import Side, done, fork
from fm.errors import FMError


def test_a_side_answers_what_it_is_asked(tmp_path):
    def work(ask):
        answer = "ready"
        while True:
            answer = 2 * ask(answer)

    side = Side(work, tmp_path / "log")
    assert side.settings == "ready"
    assert [side.ask(3), side.ask(4)] == [6, 8]
    pid = side._pid
    side.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_side_that_ends_says_where_to_look(tmp_path):
    def work(ask):
        ask("ready")
        raise ValueError("a reason")

    side = Side(work, tmp_path / "log")
    with pytest.raises(FMError, match="log"):
        side.ask()
    side.close()
    assert "a reason" in (tmp_path / "log").read_text()


def test_the_status_of_a_fork_is_its_own(tmp_path):
    def status(work):
        return os.waitstatus_to_exitcode(os.waitpid(fork(work, tmp_path / "log"), 0)[1])

    assert status(lambda: 75) == 75
    assert status(lambda: None) == 0
    assert status(lambda: 1 // 0) == 1
    done(lambda: "anything", tmp_path / "log")
    with pytest.raises(FMError, match="failed"):
        done(lambda: 1 // 0, tmp_path / "log")
