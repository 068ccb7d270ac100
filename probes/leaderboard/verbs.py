"""The verb `leaderboard`: build a site, check results, print the schema, start a public board."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from fm.command import Command
from fm.console import note
from fm.errors import UsageError


def _configure(parser: ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", metavar="build|check|schema|init", required=True)
    build = verbs.add_parser("build", help="a site, CSV, Markdown and exports from results")
    build.add_argument("results", type=Path, metavar="RESULTS", help="folder of result JSON files")
    build.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="of the site")
    build.set_defaults(run=_build)
    check = verbs.add_parser("check", help="check a result or a folder of them")
    check.add_argument(
        "path", type=Path, metavar="FILE|FOLDER", help="one result, or a folder of them"
    )
    check.set_defaults(run=_check)
    schema = verbs.add_parser("schema", help="print the JSON Schema of a result")
    schema.set_defaults(run=_schema)
    init = verbs.add_parser("init", help="write what a repository needs to be a public board")
    init.add_argument("folder", type=Path, metavar="FOLDER", help="to make")
    init.set_defaults(run=_init)


def _build(arguments: Namespace) -> int:
    from probes.leaderboard import build

    for path in build(arguments.results, arguments.out).values():
        print(path)
    return 0


def _check(arguments: Namespace) -> int:
    from probes.leaderboard import check

    problems = check(arguments.path)
    for line in problems:
        note(line)
    if not problems:
        print(f"{arguments.path}: sound")
    return 1 if problems else 0


def _schema(arguments: Namespace) -> int:
    del arguments
    from probes.leaderboard.schema import as_text

    print(as_text(), end="")
    return 0


def _init(arguments: Namespace) -> int:
    from probes.leaderboard import init

    for path in init(arguments.folder):
        print(path)
    return 0


def _no_verb(arguments: Namespace) -> int:
    del arguments
    raise UsageError("say what to do: build, check, schema or init")


leaderboard = Command(
    help="Make a site, CSV, Markdown and exports from results",
    example=(
        "fm leaderboard build results --out leaderboard\n"
        "fm leaderboard check results\n"
        "fm leaderboard init my-board"
    ),
    configure=_configure,
    run=_no_verb,
)
