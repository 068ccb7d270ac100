"""`fm shards label`: land cover of each sample, from files, rasters or masks."""

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path

from shards.verbs.cache import add_cache

HELP = "give each sample a land-cover label, as a new dataset whose tars are those of the old one"
EXAMPLE = """\
fm shards label data/ssl4eo --from ssl4eo_s12_ml.json --out data/ssl4eo-ml
fm shards label data/s2 --from worldcover.tif --legend worldcover --out data/s2-cover
fm shards label data/s2 --from 2020-03..2020-05=spring.tif 2020-06..2020-08=summer.tif \
--legend dynamic-world --min-fraction 0.01 --out data/s2-seasons
fm shards label data/nc --from mask:land_cover --kind fractions --out data/nc-fractions"""


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("dataset", help="dataset folder or URL")
    parser.add_argument(
        "--from",
        dest="sources",
        nargs="+",
        required=True,
        metavar="SOURCE",
        help="a .json of SSL4EO-S12-ML's layout; or class maps, FILE or FROM..TO=FILE of a time; "
        "or mask:NAME, a mask of the dataset",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the new dataset")
    parser.add_argument("--name", default="landcover", help="of the label (default landcover)")
    parser.add_argument(
        "--kind",
        default="multilabel",
        choices=("multilabel", "fractions"),
        help="the classes that are there (default), or the share of each",
    )
    parser.add_argument(
        "--legend",
        help="what the numbers mean: dynamic-world, worldcover, corine (111 to 523), corine-grid "
        "(1 to 44), or a JSON file; a mask has its own classes",
    )
    parser.add_argument(
        "--min-fraction",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="a class is there from this share of the known area on (default 0: any)",
    )
    parser.add_argument(
        "--min-valid",
        type=float,
        default=0.5,
        metavar="SHARE",
        help="a sample has a label when this share of its area is known (default 0.5)",
    )
    add_cache(parser)
    parser.add_argument("--json", action="store_true", help="print what was done as JSON")


def run(arguments: Namespace) -> int:
    """Write the dataset and say how many samples have which class."""
    from shards.dataset import open as open_dataset
    from shards.labelling.label import label
    from shards.labelling.shares import Rule

    rule = Rule(arguments.kind, arguments.min_fraction, arguments.min_valid)
    ds = open_dataset(arguments.dataset, cache=arguments.cache)
    done = label(
        ds,
        arguments.sources,
        arguments.out,
        name=arguments.name,
        legend=arguments.legend,
        rule=rule,
    )
    if arguments.json:
        print(json.dumps(done.to_dict(), indent=2))
        return 0
    what = "images" if done.label.images else "samples"
    print(f"{arguments.out}: {done.label.name} of {done.known} of {done.images} {what}")
    for word, count in done.counts.items():
        told = f"{count:.4f}" if done.label.kind == "fractions" else f"{count}"
        print(f"  {word}: {told}")
    return 0
