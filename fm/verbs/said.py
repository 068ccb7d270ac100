"""What a foreign file cannot say, as arguments of `fm models convert` and `pull`."""

import argparse
from pathlib import Path
from typing import Any

from fm.errors import UsageError
from fm.sensors import Band


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--bands",
        action="append",
        metavar="SENSOR[:BAND,...][@METRES]",
        help="bands of the file's channels in its order, on the grid it takes; once a sensor",
    )
    parser.add_argument(
        "--normalisation",
        metavar="identity|FILE|NAME",
        help="identity for pixels that come normalised, or JSON: kind, shift, scale; for known "
        "weights the name of one of theirs",
    )
    parser.add_argument("--family", help="where families look alike, such as scale_mae")
    parser.add_argument("--heads", type=int, help="attention heads")
    parser.add_argument(
        "--pooling", choices=("mean", "cls"), help="of the tokens (mean), or the class token"
    )
    parser.add_argument("--groups", metavar="NAME=BAND,...;...", help="of grouped channels")
    parser.add_argument(
        "--channel-order",
        choices=("rgb", "bgr", "reversed"),
        help="what the file's columns are, with --bands listed red, green, blue",
    )
    parser.add_argument("--reference-gsd", type=float, metavar="METRES", help="of Scale-MAE")
    parser.add_argument("--layer", choices=("v1", "v2"), help="of DOFA's generator")
    parser.add_argument(
        "--wavelength-range", type=float, nargs=2, metavar=("LOW", "HIGH"), help="of LESS ViT, nm"
    )
    parser.add_argument(
        "--perception", type=float, metavar="METRES", help="of LESS ViT's field; 0 for none"
    )
    parser.add_argument("--position-resize", choices=("timm", "dinov2"), help="to other grids")
    parser.add_argument(
        "--part", help="entry or network with the weights, such as teacher or backbone_2"
    )
    parser.add_argument("--licence", help="SPDX name for the card")
    parser.add_argument("--max-bytes", type=int, metavar="N", help="largest file to read")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing checkpoint")


def said(arguments: argparse.Namespace, known: str | None) -> dict[str, Any]:
    """Return them as arguments of `fm.foreign.load`.

    Args:
        arguments: parsed.
        known: name of the weights in the catalogue, or of torchgeo's enum.

    Raises:
        UsageError: bands given twice, or not of the form.
        FMError: a normalisation file that cannot be read.
    """
    from fm.foreign import catalogue
    from fm.foreign.bands import parse, parse_groups, parse_normalisation
    from fm.foreign.reading import MAX_BYTES

    bands: dict[str, tuple[Band, ...]] = {}
    for text in arguments.bands or ():
        for modality, items in parse(text).items():
            if modality in bands:
                raise UsageError(
                    f"--bands {text}: {modality} was given before; list all its bands at once"
                )
            bands[modality] = items
    normalisation: Any = arguments.normalisation
    if normalisation is not None and (
        known is None or normalisation == "identity" or Path(normalisation).is_file()
    ):
        if not bands and known is not None:
            bands = catalogue.find(known).band_list()
        counts = {modality: len(items) for modality, items in bands.items()}
        normalisation = parse_normalisation(normalisation, counts)
    return {
        "bands": bands or None,
        "normalisation": normalisation,
        "family": arguments.family,
        "heads": arguments.heads,
        "pooling": arguments.pooling,
        "token_groups": parse_groups(arguments.groups) if arguments.groups else None,
        "channel_order": arguments.channel_order,
        "reference_gsd_m": arguments.reference_gsd,
        "layer": arguments.layer,
        "wavelength_range_nm": arguments.wavelength_range,
        "perception_m": arguments.perception,
        "position_resize": arguments.position_resize,
        "licence": arguments.licence,
        "part": arguments.part,
        "max_bytes": MAX_BYTES if arguments.max_bytes is None else arguments.max_bytes,
    }
