"""`fm models adapt`: a checkpoint for other bands, another sensor, other sizes."""

import argparse
import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fm.errors import UsageError

if TYPE_CHECKING:
    from fm.models import Backbone
    from fm.sensors import Band


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `fm models adapt`."""
    parser.add_argument("model", help="checkpoint folder, or eofm/NAME")
    parser.add_argument("--out", help="checkpoint folder to write; none only prints the report")
    new = parser.add_argument_group("bands")
    new.add_argument("--sensor", metavar="NAME", help="all bands of a sensor")
    new.add_argument(
        "--bands",
        action="append",
        metavar="SENSOR[:BAND,...][@METRES]",
        help="bands that will come in, on their own grids or on one; once a sensor",
    )
    new.add_argument(
        "--policy",
        default="refuse",
        metavar="NAME",
        help="for bands that the model never saw: refuse (default), nearest, response or zero",
    )
    new.add_argument("--tolerance", type=float, metavar="NM", help="of the policy nearest")
    new.add_argument(
        "--beyond",
        default="refuse",
        metavar="NAME",
        help="for bands where the policy finds nothing: refuse (default) or zero",
    )
    new.add_argument(
        "--like",
        action="append",
        metavar="NEW=OLD",
        help="modality (under a policy also group) of the model that a new one takes the place of",
    )
    new.add_argument(
        "--normalisation",
        metavar="FILE",
        help="JSON (kind, shift, scale) of the new pixels, where units differ",
    )
    sizes = parser.add_argument_group("sizes")
    sizes.add_argument("--patch-size", type=int, metavar="PX", help="pixels of a token's side")
    sizes.add_argument("--image-size", type=int, metavar="PX", help="pixels of an image's side")
    sizes.add_argument(
        "--resize", metavar="NAME", help="of kernels: area (default), bilinear or bicubic"
    )
    parser.add_argument("--name", help="of the new model in its card")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing checkpoint")
    parser.add_argument("--json", action="store_true", help="the reports as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Adapt, tell what became of what, and write the checkpoint."""
    from dataclasses import replace

    from fm import checkpoint
    from fm.adapt import to_size, told
    from fm.models.embed.patch_size import LARGEST

    wanted = _bands(arguments)
    sized = arguments.patch_size is not None or arguments.image_size is not None
    if not wanted and not sized:
        raise UsageError(
            "name what is to be other: --sensor or --bands, --patch-size, --image-size"
        )
    if not wanted and (used := _of_bands(arguments)):
        raise UsageError(f"--{used[0]} says how bands are adapted; give --sensor or --bands too")
    patch = arguments.patch_size
    if patch is not None and not 1 <= patch <= LARGEST:
        raise UsageError(f"--patch-size {patch}: give 1 to {LARGEST} px")
    model = checkpoint.load(arguments.model)
    reports: list[dict[str, Any]] = []
    if wanted:
        model, report = _other_bands(model, wanted, arguments)
        reports.append(report)
        if arguments.policy != "refuse":
            patch = None  # the kernels have it already
    if patch is not None or arguments.image_size is not None:
        how = {} if arguments.resize is None else {"how": arguments.resize}
        model, report = to_size(model, patch_size=patch, image_size=arguments.image_size, **how)
        reports.append(report)
    elif arguments.resize is not None:
        raise UsageError(
            "--resize is for --patch-size without a policy; kernels of other bands are resized by "
            "area, which keeps their sums"
        )
    assert model.card is not None
    if arguments.name is not None:
        model.card = replace(model.card, name=arguments.name)
    if arguments.out is not None:
        from fm.files import refuse_within

        refuse_within(arguments.model, arguments.out)
        checkpoint.save(arguments.out, model, overwrite=arguments.overwrite)
    if arguments.json:
        shown = {"name": model.card.name, "out": arguments.out, "reports": reports}
        print(json.dumps(shown, indent=2))
        return 0
    for report in reports:
        print(told(report))
    where = f"written to {arguments.out}" if arguments.out else "not written; --out FOLDER does"
    print(f"{model.card.name}: {where}")
    return 0


def _bands(arguments: argparse.Namespace) -> dict[str, "tuple[Band, ...]"]:
    from fm.foreign.bands import parse

    texts = list(arguments.bands or ())
    if arguments.sensor is not None:
        if ":" in arguments.sensor:
            raise UsageError(f"--sensor {arguments.sensor}: one name; --bands chooses bands of it")
        texts.insert(0, arguments.sensor)
    wanted: dict[str, tuple[Band, ...]] = {}
    for text in texts:
        for modality, items in parse(text, native=True).items():
            if modality in wanted:
                raise UsageError(f"{modality} is given twice; list all its bands at once")
            wanted[modality] = items
    return wanted


def _of_bands(arguments: argparse.Namespace) -> list[str]:
    given = [
        name
        for name in ("tolerance", "like", "normalisation")
        if getattr(arguments, name) is not None
    ]
    return given + [n for n in ("policy", "beyond") if getattr(arguments, n) != "refuse"]


def _other_bands(
    model: "Backbone", wanted: "Mapping[str, tuple[Band, ...]]", arguments: argparse.Namespace
) -> "tuple[Backbone, dict[str, Any]]":
    from fm.adapt import to_bands
    from fm.foreign.bands import parse_normalisation
    from fm.models.layout import group_of

    like: dict[str, str] = {}
    for text in arguments.like or ():
        new, found, old = text.partition("=")
        if not found or not new or not old:
            raise UsageError(f"--like {text!r}: write NEW=OLD")
        like[new] = old
    normalisation = None
    if arguments.normalisation is not None:
        counts = {modality: len(items) for modality, items in wanted.items()}
        normalisation = parse_normalisation(arguments.normalisation, counts)
    token_m: dict[str, float] | None = None
    if arguments.policy != "refuse" and arguments.patch_size is not None:
        finest: dict[str, float] = {}
        for modality, items in wanted.items():
            group = group_of(modality)
            finest[group] = min(finest.get(group, math.inf), *(b.gsd_m for b in items))
        token_m = {group: arguments.patch_size * gsd for group, gsd in finest.items()}
    return to_bands(
        model,
        wanted,
        like=like,
        policy=arguments.policy,
        tolerance_nm=arguments.tolerance,
        beyond=arguments.beyond,
        token_m=token_m,
        normalisation=normalisation,
    )
