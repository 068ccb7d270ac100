"""`fm shards repair`: copy again what is broken, or drop it."""

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path

from shards.verbs.cache import add_cache

HELP = "copy again what is broken, or drop it"
EXAMPLE = (
    "fm shards repair shards/big --from /mnt/backup/big\n"
    "fm shards repair shards/big --drop --dry-run"
)


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("dataset", help="dataset folder")
    parser.add_argument(
        "--from",
        dest="copy",
        metavar="COPY",
        help="another copy of it, a folder or URL; every byte is checked before it is used",
    )
    parser.add_argument(
        "--drop",
        action="store_true",
        help="drop the samples that cannot be copied again; the dataset is another one then",
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    parser.add_argument("--threads", type=int, default=4, help="tars read at once (default 4)")
    parser.add_argument(
        "--journal", type=Path, help="of `fm shards verify`: pass over what has not changed since"
    )
    add_cache(parser)
    parser.add_argument("--json", action="store_true", help="print what was done as JSON")


def run(arguments: Namespace) -> int:
    """Print what was done and what is left."""
    from shards.integrity.repair import repair

    result = repair(
        arguments.dataset,
        arguments.copy,
        drop_lost=arguments.drop,
        dry_run=arguments.dry_run,
        threads=arguments.threads,
        journal=arguments.journal,
        cache=arguments.cache,
    )
    if arguments.json:
        print(json.dumps(result.to_dict(), indent=2))
        return 0 if result.ok else 1
    would = "would be " if result.dry_run else ""
    for name in result.mended:
        print(f"{would}mended: {name}")
    for key, reason in result.dropped.items():
        print(f"{would}dropped: {key}: {reason}")
    for text in result.left:
        print(f"left: {text}")
    verdict = "whole" if result.ok else f"{len(result.left)} things left to do"
    print(f"{arguments.dataset}: {would}{verdict}")
    return 0 if result.ok else 1
