"""Run a study: `python -m bench.studies NAME`; `--split val` while its settings are open."""

import argparse
import json
import os
from importlib import import_module
from pathlib import Path

import torch

from bench import machine
from bench.studies.page import RESULTS
from fm.files import write_json

NAMES = (
    *(
        "adaptation",
        "board",
        "climate",
        "contrast",
        "distill",
        "folds",
        "geolocation",
        "heads",
        "joint",
        "learns",
    ),
    *("location", "multisensor", "retrieval", "softcon"),
)


def main() -> int:
    """Run one command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.studies", description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument(
        "--work", type=Path, default=Path(".cache/studies"), help="folder to work in"
    )
    parser.add_argument("--cache", type=Path, default=Path(os.environ.get("EOFM_CACHE", ".cache")))
    parser.add_argument("--split", choices=("val", "test"), help="default val; the board's is test")
    parser.add_argument("--seeds", type=int, nargs="+", help="default 0 1 2; the board's is 0")
    parser.add_argument("--methods", nargs="+", help="some of the study's methods")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    study = import_module(f"bench.studies.{arguments.name}")
    work = arguments.work / arguments.name
    split = arguments.split or getattr(study, "SPLIT", "val")
    found = study.run(
        work,
        arguments.cache,
        split=split,
        seeds=arguments.seeds or getattr(study, "SEEDS", (0, 1, 2)),
        methods=arguments.methods or list(study.METHODS),
    )
    found = {"study": arguments.name, "machine": machine.describe(), **found}
    name = arguments.name + ("" if split == "test" else "_val")
    write_json(RESULTS / f"{name}.json", found)
    print(study.summary(found, work) if hasattr(study, "summary") else json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
