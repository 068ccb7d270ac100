"""`fm shards map`: where samples lie."""

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path

from shards.verbs.cache import add_cache

HELP = "draw a world map of samples as PNG or HTML"
EXAMPLE = """\
fm shards map shards/s2 --out map.png
fm shards map shards/s2 shards/s1 --by dataset --out map.html
fm shards map shards/s2 --by split --split block.json --out split.png"""


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("datasets", nargs="+", help="dataset folders or URLs")
    parser.add_argument("--out", type=Path, required=True, help="PNG or HTML file")
    parser.add_argument(
        "--by",
        default="density",
        choices=("density", "season", "split", "dataset"),
        help="what colours mean (default density)",
    )
    parser.add_argument("--km", type=float, default=100.0, help="side of a block (default 100)")
    parser.add_argument("--split", type=Path, help="split file whose parts to show")
    parser.add_argument("--where", help='index filter, such as "month in (6, 7, 8)"')
    add_cache(parser)
    parser.add_argument("--json", action="store_true", help="print what was counted as JSON")


def run(arguments: Namespace) -> int:
    """Write the map."""
    from shards.seeing.map import draw

    found = draw(
        arguments.datasets,
        arguments.out,
        by=arguments.by,
        km=arguments.km,
        split=arguments.split,
        where=arguments.where,
        cache=arguments.cache,
    )
    if arguments.json:
        about = {"file": str(arguments.out), "samples": found.samples, "blocks": len(found.blocks)}
        totals = {
            kind: dict(zip(found.names[kind], counts.sum(axis=0).tolist(), strict=True))
            for kind, counts in found.months.items()
        }
        print(json.dumps({**about, "unplaced": found.unplaced, **totals}, indent=2))
        return 0
    print(arguments.out)
    return 0
