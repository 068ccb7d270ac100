"""The `fm` command: verbs are found, help shows an example, mistakes are one line."""

import pytest

from fm import cli
from fm.cli import main
from fm.command import Command
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


def test_unknown_verb_names_the_nearest(capsys) -> None:
    assert main(["pretrian"]) == 2
    assert "did you mean 'pretrain'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (FMError("x is broken; mend it"), 1, "x is broken; mend it"),
        (UsageError("no such y"), 2, "no such y"),
        (PermissionError(13, "Permission denied", "/x"), 1, "Permission denied (/x)"),
        (KeyboardInterrupt(), 130, "interrupted"),
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


def test_bugs_keep_their_traceback(monkeypatch) -> None:
    def run(_arguments) -> None:
        raise KeyError("a bug")

    use(monkeypatch, run)
    with pytest.raises(KeyError):
        main(["do"])


def test_options_may_stand_between_words(monkeypatch) -> None:
    seen = []
    use(monkeypatch, lambda arguments: seen.append((arguments.words, arguments.force)))
    assert main(["do", "a", "--force", "b=1"]) == 0
    assert seen == [(["a", "b=1"], True)]
