"""The `fm` command: verbs are found, help shows an example, mistakes are one line."""

import io
import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from fm import cli
from fm.cli import main
from fm.command import Command
from fm.console import note
from fm.errors import FMError, UsageError


class Point:
    """Stands in for an entry point."""

    def __init__(self, run) -> None:
        self.run = run

    def load(self) -> Command:
        def configure(parser) -> None:
            parser.add_argument("words", nargs="*")
            parser.add_argument("--force", action="store_true")

        return Command("does it", "fm do it", configure, self.run)


def use(monkeypatch: pytest.MonkeyPatch, run) -> None:
    monkeypatch.setattr(cli, "_verbs", lambda: {"do": Point(run)})


def test_overview_lists_every_verb_with_help(capsys) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for verb in (
        "shards",
        "pretrain",
        "probe",
        "embed",
        "leaderboard",
        "models",
        "plan",
        "report",
        "doctor",
        "demo",
    ):
        assert f"\n  {verb} " in text
    assert main([]) == 2


@pytest.mark.parametrize(
    "verb", ["shards", "pretrain", "probe", "leaderboard", "demo", "doctor", "plan", "report"]
)
def test_help_shows_an_example(verb: str, capsys) -> None:
    assert main([verb, "--help"]) == 0
    assert "example:\n  fm " in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["probe", "search", "plan", "models", "pretrain", "embed"])
def test_help_fits_a_terminal(verb: str, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main([verb, "--help"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    example = re.sub(r" \\\n +", " ", text[text.index("example:") :])
    assert all(line.startswith(("  fm ", "  torchrun ")) for line in example.splitlines()[1:])


def test_unknown_verb_names_the_nearest(capsys) -> None:
    assert main(["pretrian"]) == 2
    assert "did you mean 'pretrain'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (FMError("x is broken; mend it"), 1, "x is broken; mend it"),
        (UsageError("no such y"), 2, "no such y"),
        (PermissionError(13, "Permission denied", "/x"), 1, "Permission denied (/x)"),
        (shutil.Error([("a", "b", "No space"), ("c", "d", "No")]), 1, "fm do: No space; check"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (
            MemoryError("Unable to allocate 9 TiB"),
            1,
            "not enough memory (Unable to allocate 9 TiB)",
        ),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 1, "give smaller batches"),
    ],
)
def test_errors_are_one_line(monkeypatch, capsys, error, status: int, text: str) -> None:
    def run(_arguments) -> None:
        raise error

    use(monkeypatch, run)
    assert main(["do"]) == status
    printed = capsys.readouterr().err
    assert text in printed
    assert len(printed.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--out", ""], "--out: an empty word"),
        (["--out="], "--out: an empty word"),
        (["a", ""], "after 'a': an empty word"),
    ],
)
def test_a_variable_that_is_not_set_is_told(monkeypatch, capsys, words: list, text: str) -> None:
    """Defect: an empty --out is the folder that one is in, an empty --modalities is all."""
    use(monkeypatch, lambda arguments: seen.append(arguments))
    seen: list = []
    assert main(["do", *words]) == 2
    assert text in capsys.readouterr().err
    assert main(["do", "init_from="]) == 0
    assert len(seen) == 1


@pytest.mark.parametrize("error", [KeyError("a bug"), RuntimeError("a bug")])
def test_bugs_keep_their_traceback(monkeypatch, error: Exception) -> None:
    def run(_arguments) -> None:
        raise error

    use(monkeypatch, run)
    with pytest.raises(type(error)):
        main(["do"])


def test_names_with_colons_are_no_pictures(capsys) -> None:
    """Defect: `torchgeo:X: no weights` was shown with a cross in the place of its name."""
    note("torchgeo:X: no weights")
    assert capsys.readouterr().err == "torchgeo:X: no weights\n"


def test_names_that_a_terminal_cannot_show_are_no_failure(monkeypatch) -> None:
    shown = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", shown)
    use(monkeypatch, lambda _arguments: print("caf\udce9 東"))
    assert main(["do"]) == 0
    assert shown.buffer.getvalue() == b"caf\\udce9 \\u6771\n"


def test_a_reader_that_left_is_no_failure_of_help_either() -> None:
    words = [sys.executable, "-c", "import sys, fm.cli; sys.exit(fm.cli.main(['--help']))"]
    shell = f"{shlex.join([*words[:2], words[2].replace('help', 'version')])} >&- 2>&-"
    assert subprocess.run(shell, shell=True, check=False).returncode == 0
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(words, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_options_may_stand_between_words(monkeypatch) -> None:
    seen = []
    use(monkeypatch, lambda arguments: seen.append((arguments.words, arguments.force)))
    assert main(["do", "a", "--force", "b=1"]) == 0
    assert seen == [(["a", "b=1"], True)]
