"""`fm shards verify`: is every byte what it was."""

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path

from shards.verbs.cache import add_cache

HELP = "check every byte; exit status 1 if one is wrong"
EXAMPLE = (
    "fm shards verify shards/indian-pines\n"
    "fm shards verify shards/big --threads 8 --journal verify.jsonl --json"
)


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("dataset", help="dataset folder or URL")
    parser.add_argument("--threads", type=int, default=4, help="tars read at once (default 4)")
    parser.add_argument(
        "--journal",
        type=Path,
        help="remember finished tars in this file, and pass over those that have not changed",
    )
    add_cache(parser)
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def run(arguments: Namespace) -> int:
    """Print the problems and a verdict."""
    from shards.integrity.verify import verify

    report = verify(
        arguments.dataset,
        threads=arguments.threads,
        journal=arguments.journal,
        cache=arguments.cache,
    )
    if arguments.json:
        print(json.dumps(report.to_dict(), indent=2))
    else:
        for problem in report.problems:
            print(problem)
        skipped = f", {report.skipped} unchanged since the journal" if report.skipped else ""
        print(
            f"{report.path}: {report.samples} samples, {report.shards} shards, "
            f"{report.bytes / 1e6:.1f} MB read{skipped}: {report.verdict}"
        )
    return 0 if report.ok else 1
