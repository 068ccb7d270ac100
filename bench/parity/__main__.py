"""Compare released weights with their authors' code: `python -m bench.parity NAME ...`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from bench.parity import efficientnet, galileo, presto
from bench.parity.authors import TOLERANCE, Compare
from fm.console import note
from fm.errors import FMError, UsageError, suggest

CASES: dict[str, Compare] = {
    "presto": presto.compare,
    **dict.fromkeys(("galileo-nano", "galileo-tiny", "galileo-base"), galileo.compare),
    **dict.fromkeys((f"efficientnet-lite{n}" for n in range(3)), efficientnet.compare),
}
"""Name of the catalogue to its comparison."""


def main(words: Sequence[str] | None = None) -> int:
    """Run one command line.

    Returns:
        the exit status: 0 where all agree, 1 where outputs differ or nothing could be compared, 2
        for wrong usage.
    """
    parser = argparse.ArgumentParser(
        prog="python -m bench.parity",
        description="Run released weights in their authors' code, which you give, and in ours.",
        epilog="example: python -m bench.parity presto --code presto --weights "
        "presto/data/default_model.pt",
    )
    parser.add_argument("name", metavar="NAME", help=", ".join(CASES))
    parser.add_argument(
        "--code", type=Path, required=True, help="their repository or wheel; it is run"
    )
    parser.add_argument("--weights", type=Path, required=True, metavar="FILE")
    parser.add_argument("--threads", type=int, default=1, help="another number rounds otherwise")
    arguments = parser.parse_args(words)
    torch.set_num_threads(arguments.threads)
    try:
        if arguments.name not in CASES:
            raise UsageError(f"no comparison {arguments.name!r}; {suggest(arguments.name, CASES)}")
        compare = CASES[arguments.name]
        rows = []
        for row in compare(arguments.name, arguments.code.resolve(), arguments.weights):
            rows.append(row)
            said = "agrees" if row.agrees else f"differs by more than {TOLERANCE:g}"
            print(f"{row.what}: {row.difference:.1e} of a spread of {row.spread:.2g}, {said}")
    except FMError as error:
        note(f"bench.parity: {error}")
        return error.exit_status
    largest = max(row.difference for row in rows)
    print(f"{arguments.name}: {len(rows)} comparisons, largest difference {largest:.1e}")
    return 0 if all(row.agrees for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
