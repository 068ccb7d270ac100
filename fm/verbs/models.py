"""`fm models`: what backbones there are, what a checkpoint says, and weights of others."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fm.command import Command


def _configure(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", metavar="list|show|convert", required=True)
    listing = verbs.add_parser("list", help="the backbones fm.create_model knows")
    listing.add_argument(
        "--known", action="store_true", help="released weights whose bands and numbers are known"
    )
    listing.add_argument("--json", action="store_true", help="as JSON")
    listing.set_defaults(run=_list)
    show = verbs.add_parser("show", help="the card of a checkpoint, or what a foreign file is")
    show.add_argument(
        "model", help="checkpoint folder, weight file of others, or name of known weights"
    )
    show.add_argument("--part", help="entry of the file with the weights, such as teacher")
    show.add_argument("--json", action="store_true", help="as JSON")
    show.set_defaults(run=_show)
    convert = verbs.add_parser("convert", help="turn a foreign weight file into a checkpoint")
    convert.add_argument("file", help="safetensors or torch file")
    convert.add_argument("--out", required=True, help="checkpoint folder to write")
    convert.add_argument(
        "--bands",
        action="append",
        metavar="SENSOR[:BAND,...][@METRES]",
        help="bands of the file's channels in its order, on the grid it takes; once a sensor",
    )
    convert.add_argument(
        "--normalisation",
        metavar="identity|FILE|NAME",
        help="identity for pixels that come normalised, or JSON: kind, shift, scale; with --known "
        "the name of one of its",
    )
    convert.add_argument(
        "--known", metavar="NAME", help="what fm models list --known says of the file"
    )
    convert.add_argument("--family", help="where families look alike, such as scale_mae")
    convert.add_argument("--heads", type=int, help="attention heads")
    convert.add_argument("--pooling", choices=("mean", "cls"))
    convert.add_argument("--groups", metavar="NAME=BAND,...;...", help="of grouped channels")
    convert.add_argument("--channel-order", choices=("rgb", "bgr", "reversed"))
    convert.add_argument("--reference-gsd", type=float, metavar="METRES", help="of Scale-MAE")
    convert.add_argument("--layer", choices=("v1", "v2"), help="of DOFA's generator")
    convert.add_argument(
        "--wavelength-range", type=float, nargs=2, metavar=("LOW", "HIGH"), help="of LESS ViT, nm"
    )
    convert.add_argument(
        "--perception", type=float, metavar="METRES", help="of LESS ViT's field; 0 for none"
    )
    convert.add_argument("--position-resize", choices=("timm", "dinov2"), help="to other grids")
    convert.add_argument(
        "--part", help="entry or network with the weights, such as teacher or backbone_2"
    )
    convert.add_argument("--licence", help="SPDX name for the card")
    convert.add_argument("--max-bytes", type=int, metavar="N", help="largest file to read")
    convert.add_argument("--overwrite", action="store_true", help="replace an existing checkpoint")
    convert.add_argument("--json", action="store_true", help="the report as JSON")
    convert.set_defaults(run=_convert)


def _list(arguments: argparse.Namespace) -> int:
    from fm.models.registry import FAMILIES

    if getattr(arguments, "known", False):
        return _list_known(arguments.json)
    if arguments.json:
        rows = [
            {"name": f"{family}_{name}", "help": item.help, **size}
            for family, item in FAMILIES.items()
            for name, size in item.sizes.items()
        ]
        print(json.dumps(rows, indent=2))
        return 0
    for family, item in FAMILIES.items():
        for name, size in item.sizes.items():
            numbers = "  ".join(f"{key} {value}" for key, value in size.items())
            print(f"{family + '_' + name:<20} {numbers}  ({item.help})")
    return 0


def _list_known(as_json: bool) -> int:
    from fm.foreign.catalogue import catalogue

    items = catalogue().values()
    if as_json:
        rows = [{**asdict(item), "normalisation": list(item.normalisation)} for item in items]
        print(json.dumps(rows, indent=2))
        return 0
    for item in items:
        print(f"{item.name:<24} {item.title}; {item.objective}; {item.data}; {item.licence}")
    return 0


def _show_known(name: str, as_json: bool) -> int:
    from fm.foreign.catalogue import known

    values = {key: value for key, value in asdict(known(name)).items() if value}
    if as_json:
        print(json.dumps(values, indent=2))
        return 0
    for key, value in values.items():
        if key == "normalisation":
            for number, (choice, item) in enumerate(value.items()):
                print(f"{key if not number else '':<14} {choice}: {item['source']}")
        else:
            listed = isinstance(value, list | tuple)
            print(f"{key:<14} {', '.join(value) if listed else value}")
    return 0


def _show(arguments: argparse.Namespace) -> int:
    if Path(arguments.model).is_file():
        return _show_foreign(arguments)
    if not Path(arguments.model).exists():
        from fm.foreign.catalogue import catalogue

        torchgeo = {item.torchgeo for item in catalogue().values()}
        if arguments.model in catalogue() or arguments.model in torchgeo:
            return _show_known(arguments.model, arguments.json)
    from fm.checkpoint import read_card

    card = read_card(arguments.model)
    print(json.dumps(card.to_dict(), indent=2) if arguments.json else card.readme())
    return 0


def _show_foreign(arguments: argparse.Namespace) -> int:
    from fm import foreign

    reading, found = foreign.inspect(arguments.model, part=arguments.part)
    if arguments.json:
        values = {
            "family": found.family,
            "numbers": dict(found.numbers),
            "unsaid": list(found.unsaid),
            "convertible": found.convertible,
            "keys": len(reading.state),
            "sha256": reading.sha256,
        }
        print(json.dumps(values, indent=2))
    else:
        print(f"{reading.where}: {len(reading.state)} tensors, sha256 {reading.sha256}")
        print(found.text())
    return 0


def _convert(arguments: argparse.Namespace) -> int:
    from fm import checkpoint, foreign
    from fm.errors import UsageError
    from fm.foreign import catalogue
    from fm.foreign.bands import parse, parse_groups, parse_normalisation
    from fm.foreign.reading import MAX_BYTES
    from fm.sensors import Band

    bands: dict[str, tuple[Band, ...]] = {}
    if arguments.known is None:
        for word in ("bands", "normalisation"):
            if getattr(arguments, word) is None:
                raise UsageError(
                    f"--{word} is missing: {arguments.file} cannot say; or give --known NAME"
                )
    for text in arguments.bands or ():
        for modality, items in parse(text).items():
            if modality in bands:
                raise UsageError(
                    f"--bands {text}: {modality} was given before; list all its bands at once"
                )
            bands[modality] = items
    normalisation: Any = arguments.normalisation
    if arguments.known is None or Path(str(normalisation)).is_file() or normalisation == "identity":
        listed = bands or catalogue.known(arguments.known).band_list()
        counts = {modality: len(items) for modality, items in listed.items()}
        normalisation = parse_normalisation(normalisation, counts)
    model, report = foreign.load(
        arguments.file,
        bands=bands or None,
        normalisation=normalisation,
        known=arguments.known,
        family=arguments.family,
        heads=arguments.heads,
        pooling=arguments.pooling,
        token_groups=parse_groups(arguments.groups) if arguments.groups else None,
        channel_order=arguments.channel_order,
        reference_gsd_m=arguments.reference_gsd,
        layer=arguments.layer,
        wavelength_range_nm=arguments.wavelength_range,
        perception_m=arguments.perception,
        position_resize=arguments.position_resize,
        licence=arguments.licence,
        part=arguments.part,
        max_bytes=arguments.max_bytes or MAX_BYTES,
    )
    checkpoint.save(arguments.out, model, overwrite=arguments.overwrite)
    print(json.dumps(report.to_dict(), indent=2) if arguments.json else report.text())
    if not arguments.json:
        print(f"written to {arguments.out}")
    return 0


command = Command(
    help="list backbones, show a checkpoint, convert weights of others",
    example=(
        "fm models show runs/mae_s2_tiny/export\n"
        "fm models convert mae.pth --out mae_rgb --bands sentinel2-l1c:B04,B03,B02@10 "
        "--normalisation identity --heads 16"
    ),
    configure=_configure,
    run=_list,
)
