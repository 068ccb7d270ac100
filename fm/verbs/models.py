"""`fm models`: what backbones there are, what a checkpoint says, and weights of others."""

import argparse
import json
from pathlib import Path

from fm.command import Command
from fm.verbs import adapting, exporting, listing, pull, pushing, said


def _configure(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(
        dest="verb", metavar="list|show|convert|adapt|export|push|pull", required=True
    )
    listing.configure(verbs.add_parser("list", help="weights there are, and backbones"))
    show = verbs.add_parser("show", help="the card of a checkpoint, or what a foreign file is")
    show.add_argument(
        "model",
        help="checkpoint folder, eofm/NAME, weight file of others, or name of known weights",
    )
    show.add_argument("--part", help="entry of the file with the weights, such as teacher")
    show.add_argument("--json", action="store_true", help="as JSON")
    show.set_defaults(run=_show)
    convert = verbs.add_parser("convert", help="turn a foreign weight file into a checkpoint")
    convert.add_argument("file", help="safetensors or torch file")
    convert.add_argument("--out", required=True, help="checkpoint folder to write")
    convert.add_argument("--known", metavar="NAME", help="what fm models list says of the file")
    said.configure(convert)
    convert.add_argument("--json", action="store_true", help="the report as JSON")
    convert.set_defaults(run=_convert)
    adapting.configure(verbs.add_parser("adapt", help="fit a checkpoint to other bands or sizes"))
    exporting.configure(verbs.add_parser("export", help="write a checkpoint in another format"))
    pushing.configure(verbs.add_parser("push", help="put a folder on the Hugging Face hub"))
    pull.configure(verbs.add_parser("pull", help="get weights by name, converted"))


def _show_known(name: str, as_json: bool) -> int:
    from fm.foreign.catalogue import find

    item = find(name)
    values = listing.values(item)
    if as_json:
        print(json.dumps(values, indent=2))
        return 0
    values = {k: v for k, v in (values | {"normalisation": item.normalisation}).items() if v}
    for key, value in values.items():
        if key == "normalisation":
            for number, (choice, numbers) in enumerate(value.items()):
                print(f"{key if not number else '':<14} {choice}: {numbers['source']}")
        else:
            listed = isinstance(value, list | tuple)
            print(f"{key:<14} {', '.join(map(str, value)) if listed else value}")
    return 0


def _show(arguments: argparse.Namespace) -> int:
    from fm.weights import is_carried

    if Path(arguments.model).is_file():
        return _show_foreign(arguments)
    if (Path(arguments.model) / "location.json").is_file():
        _refuse_part(arguments)
        return _show_places(arguments)
    if not (is_carried(arguments.model) or Path(arguments.model).exists()):
        from fm.errors import UsageError
        from fm.foreign.catalogue import catalogue, near
        from fm.foreign.torchgeo_weights import NAME

        if arguments.model in catalogue() or NAME.fullmatch(arguments.model):
            _refuse_part(arguments)
            return _show_known(arguments.model, arguments.json)
        if "/" not in arguments.model:
            raise UsageError(
                f"{arguments.model}: no such folder or file, and no known weights; "
                f"{near(arguments.model)}"
            )
    from fm.checkpoint import read_card

    card = read_card(arguments.model)
    _refuse_part(arguments)
    if arguments.json:
        print(json.dumps(card.to_dict(), indent=2))
    else:
        print(card.readme(arguments.model) + _worth(arguments.model, card.weights_sha256))
    return 0


def _refuse_part(arguments: argparse.Namespace) -> None:
    if arguments.part is not None:
        from fm.errors import UsageError

        raise UsageError(f"--part is of a weight file, and {arguments.model} is none; leave it out")


def _show_places(arguments: argparse.Namespace) -> int:
    from fm.location.checkpoint import describe

    told = describe(arguments.model)
    if arguments.json:
        print(json.dumps(told, indent=2))
        return 0
    print(f"a location encoder; fm.location.load({arguments.model!r}) takes (lon, lat) in degrees")
    for key, value in told.items():
        print(f"{key:<14} {value if isinstance(value, str) else json.dumps(value)}")
    return 0


def _worth(model: str, digest: str | None) -> str:
    """Return what the page of carried weights, or of a copy, says of their probes; else nothing."""
    from fm.card import WORTH
    from fm.checkpoint import README
    from fm.files import read_json
    from fm.weights import PROBES, place

    probes, page = place(model) / PROBES, place(model) / README
    if not (probes.is_file() and page.is_file()):
        return ""
    if read_json(probes, "list of probes").get("weights_sha256") != digest:
        return ""
    _, heading, section = page.read_text(encoding="utf-8").partition(WORTH + "\n")
    return f"\n{heading}{section}" if heading else ""


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
    from fm.files import refuse_within

    refuse_within(arguments.file, arguments.out)
    if arguments.known is None:
        for word in ("bands", "normalisation"):
            if getattr(arguments, word) is None:
                raise UsageError(
                    f"--{word} is missing: {arguments.file} cannot say; or give --known NAME"
                )
    model, report = foreign.load(
        arguments.file, known=arguments.known, **said.said(arguments, arguments.known)
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
        "--normalisation identity --heads 16\n"
        "fm models adapt runs/mae_s2_tiny/export --sensor landsat8-oli-l2 --policy response "
        "--out mae_l8"
    ),
    configure=_configure,
    run=listing.run,
)
