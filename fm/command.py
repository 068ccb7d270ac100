"""What a room gives the `fm` command: a verb with its arguments and what it runs.

A room lists its verbs under the entry-point group `eofm.commands` (`pyproject.toml`), so no
room imports another to be found.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """One verb of the `fm` command.

    Attributes:
        help: one line for `fm --help`.
        example: one or more command lines shown under `--help`.
        configure: adds the arguments (and sub-verbs) to the parser.
        run: does the work and returns the exit status (None is 0). It is called with the parsed
            arguments; a sub-verb may set its own function by `set_defaults(run=...)`.
        may_be_empty: options whose empty word means something; elsewhere it is a mistake.
    """

    help: str
    example: str
    configure: Callable[[ArgumentParser], None]
    run: Callable[[Namespace], int | None]
    may_be_empty: tuple[str, ...] = ()
