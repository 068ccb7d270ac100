"""`fm shards show`: samples as a picture."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from shards.verbs.cache import add_cache

HELP = "draw samples as a PNG contact sheet"
EXAMPLE = "fm shards show shards/indian-pines --out sheet.png"


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("dataset", help="dataset folder or URL")
    parser.add_argument("--out", type=Path, required=True, help="PNG file")
    parser.add_argument("--count", type=int, default=12, help="samples, spread over the dataset")
    parser.add_argument("--where", help="index filter, such as \"split == 'train'\"")
    add_cache(parser)


def run(arguments: Namespace) -> int:
    """Write the picture."""
    from shards.seeing.show import contact_sheet

    contact_sheet(
        arguments.dataset,
        arguments.out,
        count=arguments.count,
        where=arguments.where,
        cache=arguments.cache,
    )
    print(arguments.out)
    return 0
