"""`fm models export`: a checkpoint in another format."""

import argparse
import json

_FORMATS = "torch-export, onnx, timm, single-file, torchgeo or safetensors; see docs/export.md"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `fm models export`."""
    parser.add_argument("model", help="checkpoint folder, such as a run's export/, or eofm/NAME")
    parser.add_argument("--to", required=True, metavar="FORMAT", help=_FORMATS)
    parser.add_argument("--out", required=True, help="folder to write")
    parser.add_argument(
        "--values",
        choices=("physical", "stored"),
        help="pixels a graph takes: reflectance and dB, or the product's integers",
    )
    parser.add_argument(
        "--tokens", type=_tokens, metavar="ROWSxCOLUMNS", help="fix the image size, in tokens"
    )
    parser.add_argument(
        "--modalities", metavar="NAME,...", help="that a graph takes; all when not given"
    )
    parser.add_argument(
        "--any-bands", action="store_true", help="a graph that takes bands by their wavelengths"
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        metavar="SHARE",
        help="largest difference from eofm, as a share of its largest value",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")
    parser.add_argument("--json", action="store_true", help="the report as JSON")
    parser.set_defaults(run=run)


def _tokens(text: str) -> tuple[int, int]:
    rows, _, columns = text.partition("x")
    if not (rows.isdecimal() and columns.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r}: give rows and columns such as 8x8")
    return int(rows), int(columns)


def run(arguments: argparse.Namespace) -> int:
    """Export, and tell every comparison."""
    from fm.export import Settings, export

    names = arguments.modalities.split(",") if arguments.modalities else None
    settings = Settings(
        values=arguments.values,
        tokens=arguments.tokens,
        modalities=tuple(names) if names else None,
        any_bands=arguments.any_bands,
        tolerance=arguments.tolerance,
    )
    report = export(
        arguments.model,
        to=arguments.to,
        out=arguments.out,
        settings=settings,
        overwrite=arguments.overwrite,
    )
    if arguments.json:
        print(json.dumps(report, indent=2))
        return 0
    for row in report["verification"]:
        print(f"{row['on']}: {row['output']} {row['max_abs']:.2g} ({row['max_rel']:.2g} of most)")
    print(f"written to {arguments.out}")
    return 0
