"""Make carried weights again: `python -m bench.weights [NAME ...]`."""

import argparse
import os
from pathlib import Path

import torch

from bench.weights.making import Making
from bench.weights.plan import PLAN
from fm.errors import FMError, UsageError, suggest
from fm.weights import HERE


def main() -> int:
    """Run one command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.weights", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PLAN)}; all")
    parser.add_argument("--work", type=Path, default=Path(".cache/weights"), help="folder for runs")
    parser.add_argument("--cache", type=Path, default=Path(os.environ.get("EOFM_CACHE", ".cache")))
    parser.add_argument("--into", type=Path, default=HERE, help="folder for what is made")
    parser.add_argument("--threads", type=int, default=1, help="another number rounds otherwise")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    try:
        for name in arguments.names:
            if name not in PLAN:
                raise UsageError(f"no weights {name!r} are planned; {suggest(name, PLAN)}")
        making = Making(arguments.work.resolve(), arguments.cache, arguments.into)
        making.run(arguments.names or PLAN)
    except FMError as error:
        parser.exit(2 if isinstance(error, UsageError) else 1, f"{error}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
