"""`fm shards`: build, info, verify, show."""

import json
import os
from argparse import ArgumentParser, Namespace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fm.command import Command

if TYPE_CHECKING:
    from shards.dataset import Dataset


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
    from shards.sources import SOURCES, get_source

    sources = parser.add_subparsers(dest="source", metavar="SOURCE", required=True)
    for name in SOURCES:
        source = get_source(name)
        one = sources.add_parser(name, help=source.HELP, description=source.HELP)
        one.add_argument("--out", type=Path, required=True, help="dataset folder to make")
        one.add_argument(
            "--cache",
            type=Path,
            default=os.environ.get("EOFM_CACHE"),
            help="folder for downloaded packages (default: the variable EOFM_CACHE)",
        )
        one.add_argument("--samples-per-shard", type=int, default=128, help="(default 128)")
        source.configure(one)
        one.set_defaults(run=partial(_build, name))


def _build(name: str, arguments: Namespace) -> int:
    from fm.errors import FMError, UsageError
    from shards.sources import get_source
    from shards.writer import write_dataset

    if arguments.out.exists():
        raise FMError(f"{arguments.out} exists already; name another --out or remove it first")
    if arguments.samples_per_shard < 1:
        raise UsageError("--samples-per-shard: give a whole number from 1")
    if arguments.cache is None and not hasattr(arguments, "folder"):
        raise UsageError("--cache is missing: name a folder for the download, or set EOFM_CACHE")
    content = get_source(name).read(arguments)
    info = write_dataset(
        arguments.out,
        content.samples,
        name=content.name,
        modalities=content.modalities,
        labels=content.labels,
        provenance=content.provenance,
        licence=content.licence,
        samples_per_shard=arguments.samples_per_shard,
        total=content.total,
    )
    size = sum(shard.bytes for shard in info.shards)
    print(f"{arguments.out}: {info.count} samples, {len(info.shards)} shards, {size / 1e6:.1f} MB")
    return 0


def _info(arguments: Namespace) -> int:
    from shards.dataset import open as open_dataset

    ds = open_dataset(arguments.dataset)
    if arguments.json:
        print(json.dumps({**ds.info.to_dict(), "splits": _splits(ds)}, indent=2))
        return 0
    info = ds.info
    size = sum(shard.bytes for shard in info.shards)
    print(f"{info.name}: {len(ds)} samples, {len(info.shards)} shards, {size / 1e6:.1f} MB")
    print(f"licence: {info.licence}")
    print("from: " + ", ".join(f"{key} {value}" for key, value in info.provenance.items()))
    print("splits: " + ", ".join(f"{name} {count}" for name, count in _splits(ds).items()))
    for label in info.labels.values():
        print(f"label {label.name}: {label.kind}, {len(label.classes)} classes")
    for name, modality in info.modalities.items():
        print(
            f"\n{name}: {modality.sensor}, {len(modality.bands)} bands of {modality.gsd_m:g} m, "
            f"{modality.dtype}, {modality.codec}, physical = stored * {modality.scale:g} + "
            f"{modality.offset:g}"
        )
        print(
            f"  {'band':<6} {'mean':>10} {'std':>10} {'min':>10} {'p2':>10} {'p98':>10} {'max':>10}"
        )
        columns = [modality.statistics[k] for k in ("mean", "std", "min", "p2", "p98", "max")]
        rows = list(zip(modality.bands, *columns, strict=True))
        for band, *values in rows if len(rows) <= 16 else [*rows[:5], *rows[-3:]]:
            print(f"  {band:<6} " + " ".join(f"{value:>10.4g}" for value in values))
        if len(rows) > 16:
            print(f"  ({len(rows) - 8} bands in the middle are not shown; --json has all)")
    return 0


def _splits(ds: "Dataset") -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in ds.index.column("split").to_pylist():
        counts[name or "none"] = counts.get(name or "none", 0) + 1
    return counts


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
