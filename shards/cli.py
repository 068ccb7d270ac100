"""`fm shards`: one module a verb, in `shards/verbs/`.

A verb's module has `HELP` (one line), `EXAMPLE` (command lines), `configure(parser)` and
`run(arguments) -> int | None`; heavy imports stand inside its functions.
"""

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from importlib import import_module

from fm.command import Command

VERBS = {
    "build": "shards.verbs.build",
    "index": "shards.verbs.index",
    "info": "shards.verbs.info",
    "verify": "shards.verbs.verify",
    "repair": "shards.verbs.repair",
    "show": "shards.verbs.show",
    "map": "shards.verbs.map",
    "split": "shards.verbs.split",
    "label": "shards.verbs.label",
}


def _configure(parser: ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", metavar="|".join(VERBS), required=True)
    for name, module in VERBS.items():
        verb = import_module(module)
        one = verbs.add_parser(
            name,
            help=verb.HELP,
            description=verb.HELP,
            epilog="example:\n" + "\n".join(f"  {line}" for line in verb.EXAMPLE.splitlines()),
            formatter_class=RawDescriptionHelpFormatter,
        )
        one.set_defaults(run=verb.run)
        verb.configure(one)


def _run(arguments: Namespace) -> int | None:
    status: int | None = arguments.run(arguments)
    return status


command = Command(
    help="build, inspect and check datasets",
    example=(
        "fm shards build indian-pines --out shards/indian-pines --cache .cache\n"
        "fm shards info shards/indian-pines\n"
        "fm shards verify shards/indian-pines"
    ),
    configure=_configure,
    run=_run,
    may_be_empty=("--rest",),
)
