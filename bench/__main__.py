"""`python -m bench NAME [NAME ...|all]`: run comparisons and write their results."""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from bench import machine, report
from bench.runner import Bench, measure
from fm.console import note
from fm.errors import FMError, UsageError, suggest


def names(folder: Path = Path(__file__).parent) -> list[str]:
    """List the comparisons: the files that define `BENCH`."""
    files = sorted(folder.glob("*.py"))
    return [path.stem for path in files if "\nBENCH = " in path.read_text(encoding="utf-8")]


def family(name: str) -> list[str]:
    """Return the comparison of a name, or all whose names begin with it and an underscore."""
    found = names()
    return [name] if name in found else [n for n in found if n.startswith(f"{name}_")] or [name]


def find(name: str) -> Bench:
    """Import one comparison.

    Raises:
        UsageError: there is none of that name.
        FMError: its file does not define `BENCH`, or by another name.
    """
    if name not in names():
        raise UsageError(f"there is no bench {name!r}; {suggest(name, [*names(), 'all'])}")
    found = getattr(import_module(f"bench.{name}"), "BENCH", None)
    if not isinstance(found, Bench) or found.name != name:
        raise FMError(f"bench/{name}.py defines no BENCH named {name!r}; give it one")
    return found


def run(bench: Bench, *, quick: bool) -> dict:
    """Run one comparison, print its table and write its result."""
    load = machine.load()
    result = report.document(bench, measure(bench, quick=quick), quick=quick, load=load)
    path = report.save(result)
    rows = [report.HEAD, *report.lines(result)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(report.HEAD))]
    print(f"{bench.name}: {bench.question}")
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  " + "  ".join(cells).rstrip())
    print(f"  {result['rounds']} rounds, spread: {result['spread']}; {path}")
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; a target that does not hold is reported and is not a failure.

    Returns:
        the exit status: 0, 1 when a bench failed, 2 for wrong usage.
    """
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Run comparisons. BENCH_QUICK=1 makes each short and keeps no result.",
        epilog="example: python -m bench engine; shards runs all that begin with shards_",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="a comparison, or all")
    parser.add_argument("--list", action="store_true", help="list the comparisons")
    try:
        parsed = parser.parse_args(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)
    quick = os.environ.get("BENCH_QUICK", "") not in ("", "0")
    try:
        if parsed.list:
            print("\n".join(names()))
            return 0
        if not parsed.names:
            raise UsageError(f"name a bench: {', '.join([*names(), 'all'])}")
        asked = names() if "all" in parsed.names else parsed.names
        wanted = list(dict.fromkeys(n for name in asked for n in family(name)))
        if len(wanted) == 1:
            run(find(wanted[0]), quick=quick)
            return 0
        for name in wanted:
            if name not in names():
                find(name)
    except FMError as error:
        note(f"bench: {error}")
        return error.exit_status
    # each in a process of its own, so that none inherits another's threads, caches or groups
    failed = [n for n in wanted if subprocess.run([sys.executable, "-m", "bench", n]).returncode]
    if failed:
        note(f"bench: failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
