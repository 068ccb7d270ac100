"""The verb `search`: rows of a file of embeddings like one of them, a place or an image."""

import csv
import io
import json
import re
from argparse import ArgumentParser, Namespace
from pathlib import Path

from fm.command import Command
from fm.console import note
from fm.errors import UsageError


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("embeddings", type=Path, metavar="EMBEDDINGS", help=".parquet of fm embed")
    parser.add_argument("query", metavar="QUERY", help="a row's key, LON,LAT, or an image")
    # a place in the west begins like an option; argparse asks this of what is a negative number
    parser._negative_number_matcher = re.compile(r"-\d+(\.\d+)?,")
    parser.add_argument("--count", type=int, default=10, metavar="N", help="rows to find (10)")
    parser.add_argument(
        "--approximate", action="store_true", help="by an index beside EMBEDDINGS, made once"
    )
    parser.add_argument("--rebuild", action="store_true", help="make that index anew")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write them as CSV")
    parser.add_argument("--map", type=Path, metavar="HTML", help="write a page with a map")
    parser.add_argument("--json", action="store_true", help="print JSON")
    images = parser.add_argument_group("images: a raster, or a folder of a scene's bands")
    images.add_argument("--model", metavar="FOLDER", help="the checkpoint that made EMBEDDINGS")
    images.add_argument("--sensor", metavar="NAME", help="of a folder, such as sentinel2-l1c")
    images.add_argument("--bands", metavar="SENSOR:BAND,BAND", help="of a raster, in order")


def _search(arguments: Namespace) -> int:
    from fm.files import write_atomic
    from probes.embed import approximate, parquet, search

    if arguments.count < 1:
        raise UsageError(f"--count {arguments.count}: give a whole number from 1")
    if arguments.map is not None and arguments.map.suffix.lower() != ".html":
        raise UsageError(f"--map {arguments.map}: name a file ending in .html")
    if arguments.rebuild and not arguments.approximate:
        raise UsageError("--rebuild makes the index of --approximate; give both")
    table: Path = arguments.embeddings
    _check_written(arguments, table)
    stored = parquet.look(table)
    index = None
    if arguments.approximate:
        index = approximate.opened(table, stored.read, rebuild=arguments.rebuild)
    found = stored.whole() if index is None else stored
    place = Path(arguments.query)
    image = arguments.query not in found.keys and place.exists()
    given = [o for o in ("model", "sensor", "bands") if getattr(arguments, o) is not None]
    if given and not image:
        raise UsageError(
            f"--{given[0]} is for images, and {arguments.query!r} is none that is there"
        )
    if image:
        if arguments.model is None:
            raise UsageError(f"{place}: give the checkpoint that made the embeddings by --model")
        query = search.of_image(
            found, arguments.model, place, sensor=arguments.sensor, bands=arguments.bands
        )
    else:
        query = search.of_row(found, arguments.query)
    hits = search.nearest(found, query, arguments.count, index)
    if arguments.csv is not None:
        stream = io.StringIO()
        writer = csv.DictWriter(stream, list(search.Hit.__dataclass_fields__))
        writer.writeheader()
        writer.writerows(hit.to_dict() for hit in hits)
        write_atomic(arguments.csv, stream.getvalue())
    if arguments.map is not None:
        from probes.embed.search_page import page

        write_atomic(arguments.map, page(query, hits, found.about))
    if arguments.json:
        told = {"query": query.text, "words": query.words, "hits": [h.to_dict() for h in hits]}
        print(json.dumps(told, indent=2))
        return 0
    note(query.words)
    for hit in hits:
        where = "" if hit.lon is None else f"{hit.lon:10.4f} {hit.lat:9.4f}"
        away = "" if hit.km is None else f"{hit.km:10.1f} km"
        parts = f"{hit.rank:>4}  {hit.cosine:.4f}  {hit.key:<24} {where:<20}{away}"
        print(f"{parts}  {hit.time or ''}".rstrip())
    return 0


def _check_written(arguments: Namespace, table: Path) -> None:
    """Refuse to write over what is read, and one thing over another."""
    from fm.files import refuse_within

    outs = {name: path for name in ("csv", "map") if (path := getattr(arguments, name)) is not None}
    for name, path in outs.items():
        refuse_within(table, path)
        if Path(arguments.query).exists():
            refuse_within(arguments.query, path)
        if path.is_dir():
            raise UsageError(f"--{name} {path} is a folder; name a file")
    if len({path.resolve() for path in outs.values()}) < len(outs):
        raise UsageError(f"--csv and --map both name {arguments.csv}; give two files")


search = Command(
    help="Find the rows of a file of embeddings most alike to a row, a place or an image",
    example=(
        "fm search features.parquet 12.5,41.9 --count 20 --map alike.html\n"
        "fm search features.parquet chip.tif --model runs/mae_s2_tiny/export "
        "--bands sentinel2-l1c:B02,B03,B04,B08"
    ),
    configure=_configure,
    run=_search,
)
