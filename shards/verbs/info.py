"""`fm shards info`: what a dataset holds."""

import json
from argparse import ArgumentParser, Namespace

from shards.verbs.cache import add_cache

HELP = "what a dataset holds"
EXAMPLE = "fm shards info shards/indian-pines"


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("dataset", help="dataset folder or URL")
    parser.add_argument("--where", help="count only samples for which this holds")
    add_cache(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: Namespace) -> int:
    """Print the description and what was counted."""
    from shards.dataset import open as open_dataset
    from shards.seeing import overview

    ds = open_dataset(arguments.dataset, where=arguments.where, cache=arguments.cache)
    found = overview.survey(ds)
    if arguments.json:
        print(json.dumps({**ds.info.to_dict(), **found.to_dict()}, indent=2))
    else:
        print(overview.text(ds, found))
    return 0
