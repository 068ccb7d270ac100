"""`fm shards info`: what a dataset holds."""

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path

HELP = "what a dataset holds"
EXAMPLE = "fm shards info shards/indian-pines"


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("dataset", type=Path, help="dataset folder")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: Namespace) -> int:
    """Print the description."""
    from shards import overview
    from shards.dataset import open as open_dataset

    ds = open_dataset(arguments.dataset)
    if arguments.json:
        counted = {"splits": overview.splits(ds), "class_counts": overview.class_counts(ds)}
        print(json.dumps({**ds.info.to_dict(), **counted}, indent=2))
    else:
        print(overview.text(ds))
    return 0
