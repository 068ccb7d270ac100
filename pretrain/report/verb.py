"""`fm report`."""

import argparse
from pathlib import Path

from fm.command import Command

NAME = "report.html"


def _configure(parser: argparse.ArgumentParser) -> None:
    # not `run`: that is the name of what a verb runs
    parser.add_argument("folder", metavar="RUN", help="run folder: the out= of fm pretrain")
    parser.add_argument("--out", help=f"file to write; {NAME} in the run folder by default")
    parser.add_argument(
        "--samples",
        type=int,
        default=4,
        help="samples of each part whose features are drawn; 0 for none",
    )


def _run(arguments: argparse.Namespace) -> int:
    from fm.errors import UsageError
    from fm.files import write_atomic
    from pretrain.report.page import render
    from pretrain.report.read import read

    if not 0 <= arguments.samples <= 16:
        raise UsageError(f"--samples {arguments.samples}: give 0 to 16")
    out = Path(arguments.folder) / NAME if arguments.out is None else Path(arguments.out)
    if out.is_dir():
        raise UsageError(f"--out {out} is a folder; name a file")
    page = render(read(Path(arguments.folder)), samples=arguments.samples)
    write_atomic(out, page)
    print(f"{out}: {len(page.encode()) / 2**20:.1f} MB")
    return 0


command = Command(
    help="write one page of a run: curves, reconstructions, feature maps, config",
    example="fm report runs/s2\nfm report runs/s2 --out s2.html --samples 8",
    configure=_configure,
    run=_run,
)
