"""`fm models`: what backbones there are and what a checkpoint says of itself."""

import argparse
import json

from fm.command import Command


def _configure(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", metavar="list|show", required=True)
    listing = verbs.add_parser("list", help="the backbones fm.create_model knows")
    listing.set_defaults(run=_list)
    show = verbs.add_parser("show", help="the card of a checkpoint")
    show.add_argument("model", help="checkpoint folder")
    show.add_argument("--json", action="store_true", help="the card as JSON")
    show.set_defaults(run=_show)


def _list(arguments: argparse.Namespace) -> int:
    del arguments
    from fm.models.registry import SIZES

    for name, size in SIZES.items():
        print(f"{name:<10} " + "  ".join(f"{key} {value}" for key, value in size.items()))
    return 0


def _show(arguments: argparse.Namespace) -> int:
    from fm.checkpoint import read_card

    card = read_card(arguments.model)
    print(json.dumps(card.to_dict(), indent=2) if arguments.json else card.readme())
    return 0


command = Command(
    help="list backbones, show a checkpoint's card",
    example="fm models show runs/mae_s2_tiny/export",
    configure=_configure,
    run=_list,
)
