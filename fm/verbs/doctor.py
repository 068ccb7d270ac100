"""`fm doctor`: is this machine ready?"""

import argparse
import json
from dataclasses import asdict

from fm.command import Command


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seconds",
        type=float,
        default=10.0,
        help="length of each collective test (10); 0 leaves them out",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def _run(arguments: argparse.Namespace) -> int:
    from fm.doctor import examine
    from fm.errors import UsageError

    if not 0 <= arguments.seconds <= 60:
        raise UsageError("--seconds must be from 0 to 60")
    findings = []
    for finding in examine(arguments.seconds):
        findings.append(finding)
        if not arguments.json:
            print(finding.line, flush=True)
    stops = [finding for finding in findings if finding.level == "stop"]
    if arguments.json:
        told = {"ready": not stops, "findings": [asdict(finding) for finding in findings]}
        print(json.dumps(told, indent=2))
    elif stops:
        print(f"not ready: {', '.join(finding.what for finding in stops)}")
    else:
        print("ready")
    return 1 if stops else 0


command = Command(
    help="versions, devices, caches, disk, network, a short collective test",
    example="fm doctor",
    configure=_configure,
    run=_run,
)
