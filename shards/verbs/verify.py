"""`fm shards verify`: is every byte what it was."""

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path

HELP = "check every byte; exit status 1 if one is wrong"
EXAMPLE = "fm shards verify shards/indian-pines"


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("dataset", type=Path, help="dataset folder")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def run(arguments: Namespace) -> int:
    """Print the problems and a verdict."""
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
