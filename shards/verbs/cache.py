"""The option that every verb has which reads datasets at URLs."""

from argparse import ArgumentParser
from pathlib import Path


def add_cache(parser: ArgumentParser) -> None:
    """Add `--cache`."""
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="folder for what is fetched from URLs (default: the variable EOFM_CACHE)",
    )
