"""`fm shards index`: third-party WebDataset tars, read where they lie."""

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

HELP = "index third-party WebDataset tars in place, without rewriting them"
EXAMPLE = (
    "fm shards index SSL4EO-S12/val/S2L2A SSL4EO-S12/val/S1GRD --layout ssl4eo-s12-v1.1 "
    "--split val --out ssl4eo-val\n"
    "fm shards index tars --declare plots.yaml --out plots\n"
    "fm shards index tars --member s2.npy=s2l1c_10:sentinel2-l1c:B02,B03,B04,B08:CHW:0 "
    "--ignore json --name mine --licence CC-BY-4.0 --out mine"
)


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    from shards.foreign.layouts import LAYOUTS

    parser.add_argument(
        "tars", nargs="+", help="tars, folders with tars (in them or one level below), or URLs"
    )
    parser.add_argument("--out", type=Path, help="folder for the index; the tars' own is allowed")
    said = parser.add_mutually_exclusive_group()
    said.add_argument("--layout", help=f"a known layout: {', '.join(LAYOUTS)}")
    said.add_argument("--declare", type=Path, help="YAML file that says what the members are")
    said.add_argument(
        "--member",
        action="append",
        metavar="ENDING=MODALITY:SENSOR:BANDS:AXES:NODATA",
        help="say it here instead; ENDING#NAME for an array of a zarr.zip or safetensors member",
    )
    parser.add_argument(
        "--offset",
        action="append",
        default=[],
        metavar="MODALITY=NUMBER",
        help="physical = stored * scale + offset, where the declaration leaves it open",
    )
    parser.add_argument(
        "--rename",
        action="append",
        default=[],
        metavar="MODALITY=NAME",
        help="call a modality as others of its bands and grid are called, such as s2l2a=s2l2a_10",
    )
    parser.add_argument(
        "--ignore", action="append", default=[], metavar="ENDING", help="pass over such members"
    )
    parser.add_argument("--name", default="", help="of the dataset, where the declaration has none")
    parser.add_argument("--licence", default="", help="of the data, likewise")
    parser.add_argument("--split", help="split of every sample that does not say its own")
    counted = parser.add_mutually_exclusive_group()
    counted.add_argument(
        "--no-statistics",
        action="store_true",
        help="do not decode: faster, but models that normalise by the dataset refuse it",
    )
    counted.add_argument(
        "--statistics-every",
        type=int,
        default=1,
        metavar="N",
        help="statistics of one sample in N, chosen by key (default 1: of all)",
    )
    parser.add_argument("--workers", type=int, help="threads (default: cores, at most 8)")
    parser.add_argument("--cache", type=Path, help="folder for tars behind URLs")
    parser.add_argument(
        "--convert-pickles",
        type=Path,
        metavar="FOLDER",
        help="write copies of the tars whose pickled tensors are .npy members, and stop there",
    )
    parser.add_argument("--json", action="store_true", help="print what was made as JSON")


def run(arguments: Namespace) -> int:
    """Index, or convert."""
    from fm.errors import UsageError

    if arguments.convert_pickles is not None:
        from shards.foreign.pickles import convert

        made = convert(arguments.tars, arguments.convert_pickles)
        print(f"{arguments.convert_pickles}: {len(made)} tars without pickles; index those")
        return 0
    if arguments.out is None:
        raise UsageError("--out is missing: name a folder for the index")
    return _index(arguments)


def _index(arguments: Namespace) -> int:
    from dataclasses import replace

    from fm.errors import UsageError
    from shards.foreign import declare_file
    from shards.foreign.index import index_tars
    from shards.foreign.layouts import layout, with_names, with_offsets

    if arguments.layout:
        declared = layout(arguments.layout)
    elif arguments.declare:
        declared = declare_file.read_declaration(arguments.declare)
    elif arguments.member:
        declared = declare_file.from_options(arguments.member)
    else:
        raise UsageError("say what the members are: --layout, --declare or --member")
    offsets = {}
    for option in arguments.offset:
        modality, equals, text = option.partition("=")
        try:
            offsets[modality] = float(text)
        except ValueError:
            equals = ""
        if not equals:
            raise UsageError(f"--offset {option}: write MODALITY=NUMBER")
    declared = with_offsets(declared, offsets)
    renamed = dict(option.partition("=")[::2] for option in arguments.rename)
    declared = with_names(declared, renamed)
    declared = replace(declared, ignore=(*declared.ignore, *arguments.ignore))
    if arguments.statistics_every < 1:
        raise UsageError("--statistics-every: give a whole number from 1, or --no-statistics")
    if arguments.workers is not None and arguments.workers < 1:
        raise UsageError("--workers: give a whole number from 1")
    made = index_tars(
        arguments.tars,
        arguments.out,
        declared,
        name=arguments.name,
        licence=arguments.licence,
        split=arguments.split,
        every=0 if arguments.no_statistics else arguments.statistics_every,
        workers=arguments.workers,
        cache=arguments.cache,
    )
    info = made.info
    if arguments.json:
        about: dict[str, Any] = {"folder": str(arguments.out), "root": info.root}
        about |= {"samples": info.count}
        about |= {"shards": len(info.shards), "bytes": sum(shard.bytes for shard in info.shards)}
        about |= {"absent": made.absent, "ignored": made.ignored}
        print(json.dumps({**about, "manifest_hash": info.manifest_hash}, indent=2))
        return 0
    print(f"{arguments.out}: {info.count} samples in {len(info.shards)} tars, left where they are")
    for member, count in made.absent.items():
        print(f"  {count} samples have no {member}")
    for ending, count in made.ignored.items():
        print(f"  {count} members .{ending} passed over")
    return 0
