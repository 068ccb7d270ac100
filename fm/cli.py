"""The `fm` command: finds the rooms' verbs, parses, runs, and turns errors into one line."""

import argparse
import io
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from itertools import pairwise
from typing import Any

from fm.command import Command
from fm.console import note
from fm.errors import FMError, UsageError, suggest
from fm.version import __version__

GROUP = "eofm.commands"
_NO_MEMORY = re.compile(r"out of memory|allocate memory|not enough memory|MemoryError", re.I)
"""What torch says of it on devices and on a CPU, and what a worker process does."""
WIDTH = 78
"""Characters of a line of help."""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line and which shows the example under `--help`."""

    def error(self, message: str) -> "None":  # type: ignore[override]
        note(f"{self.prog}: {message} (see {self.prog} --help)")
        raise SystemExit(2)

    def format_help(self) -> str:
        """Show help; long lines of an example go on in the next one, as a shell reads them."""
        kept = self.description, self.epilog
        self.description = textwrap.fill(kept[0] or "", WIDTH)
        lines = (kept[1] or "").splitlines()
        more: list[str] = []
        for line in lines:
            parts = textwrap.wrap(
                line,
                WIDTH - 2,
                subsequent_indent="      ",
                break_long_words=False,
                break_on_hyphens=False,
            )
            more.append(" \\\n".join(parts))
        self.epilog = "\n".join(more)
        try:
            return super().format_help()
        finally:
            self.description, self.epilog = kept

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        choices = action.choices
        if choices is not None and value not in choices:
            text = f"there is no {value!r}; {suggest(str(value), map(str, choices))}"
            raise argparse.ArgumentError(action, text)


def _verbs() -> dict[str, EntryPoint]:
    return {point.name: point for point in sorted(entry_points(group=GROUP), key=lambda p: p.name)}


def _overview(verbs: dict[str, EntryPoint]) -> str:
    lines = [
        "usage: fm VERB ...",
        "",
        "Pretrain and judge Earth-observation foundation models.",
        "",
    ]
    for name, point in verbs.items():
        command: Command = point.load()
        lines.append(f"  {name:<12} {command.help}")
    lines += [
        "",
        "fm VERB --help shows a verb's arguments and an example; fm --version the version.",
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line.

    Args:
        arguments: the words after `fm`; the process's own when None.

    Returns:
        the exit status: 0, 1 for a failure, 2 for wrong usage.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by who started us
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):  # names that it cannot show are no failure
            stream.reconfigure(errors="backslashreplace")
    verb = f"fm {words[0]}" if words else "fm"
    try:
        status = _run(words)
        sys.stdout.flush()
        return status
    except FMError as error:
        note(f"{verb}: {error}")
        return error.exit_status
    except BrokenPipeError:  # who reads our output has had enough, such as `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        note(f"{verb}: {_reason(error)}{where}; check the path and its permissions")
        return 1
    except KeyboardInterrupt:
        note(f"{verb}: interrupted")
        return 130
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, MemoryError) or _NO_MEMORY.search(str(error))):
            raise
        why = " ".join(str(error).split())[:120]
        note(f"{verb}: not enough memory ({why}); give smaller batches, tiles or images")
        return 1


def _run(words: list[str]) -> int:
    """Run one command line; what goes wrong is raised."""
    verbs = _verbs()
    if not words or words[0] in ("-h", "--help"):
        print(_overview(verbs))
        return 0 if words else 2
    if words[0] == "--version":
        print(__version__)
        return 0
    if words[0] not in verbs:
        note(f"fm: there is no verb {words[0]!r}; {suggest(words[0], verbs)}")
        return 2
    command: Command = verbs[words[0]].load()
    _refuse_empty(words, command)
    parser = _Parser(
        prog=f"fm {words[0]}",
        description=command.help,
        epilog="example:\n" + "\n".join(f"  {line}" for line in command.example.splitlines()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.configure(parser)
    try:
        if any(isinstance(a, argparse._SubParsersAction) for a in parser._actions):
            parsed = parser.parse_args(words[1:])
        else:  # options may stand between positional words
            parsed = parser.parse_intermixed_args(words[1:])
    except SystemExit as stop:
        return int(stop.code or 0)
    return int(getattr(parsed, "run", command.run)(parsed) or 0)


def _reason(error: OSError) -> str:
    """What the system said; of a folder that could not be copied what it said of the first file."""
    told = error.args[0] if isinstance(error, shutil.Error) and error.args else None
    return str(told[0][-1]) if isinstance(told, list) and told else str(error.strerror or error)


def _refuse_empty(words: list[str], command: Command) -> None:
    """Refuse what a shell makes of a variable that is not set: an empty path is where one is."""
    for before, word in pairwise(words):
        option, sign, value = word.partition("=")
        if not word.startswith("--"):
            option, value = before, word
        elif not sign:
            continue
        if not value and option not in command.may_be_empty:
            where = option if option.startswith("-") else f"after {option!r}"
            raise UsageError(f"{where}: an empty word, as of a variable that is not set; fill it")


if __name__ == "__main__":
    sys.exit(main())
