"""`fm shards split`: lists of samples to train and test on."""

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path

from shards.verbs.cache import add_cache

HELP = "divide a dataset by place, time or chance, as lists of keys"
EXAMPLE = """\
fm shards split shards/s2 --by block --km 100 --buffer-km 5 --out block.json
fm shards split shards/s2 --by continent --part test=Africa --part "val=South America" --out a.json
fm shards split shards/s2 --by time --part train=..2020 --part test=2021.. --out time.json
fm shards split shards/s2 --by random --share train=0.9 --share test=0.1 --out random.json"""
METHODS = ("block", "continent", "time", "random")
_OPTIONS = {
    "share": ("block", "random"),
    "seed": ("block", "random"),
    "km": ("block",),
    "buffer_km": ("block",),
    "part": ("continent", "time"),
    "rest": ("continent",),
    "missing": ("block", "continent", "time"),
}


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("dataset", help="dataset folder or URL")
    parser.add_argument("--by", choices=METHODS, required=True, help="what decides")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--name", help="of the split (default: the file's)")
    parser.add_argument("--where", help="divide only samples for which this holds")
    parser.add_argument(
        "--share",
        action="append",
        metavar="PART=SHARE",
        help="of a part, once a part (block, random; default train=0.8 val=0.1 test=0.1)",
    )
    parser.add_argument("--seed", type=int, help="of the draw (block, random)")
    parser.add_argument("--km", type=float, help="side of a block (block; default 100)")
    parser.add_argument(
        "--buffer-km",
        type=float,
        help="distance that parts keep (block; default 0)",
    )
    parser.add_argument(
        "--part",
        action="append",
        metavar="PART=WHAT",
        help="continents with commas between (continent), or a range FROM..TO (time)",
    )
    parser.add_argument(
        "--rest",
        help="part of the other continents, or '' for none (default train)",
    )
    parser.add_argument(
        "--missing",
        choices=("error", "leave"),
        help="samples without coordinates or time: refuse (default), or leave in no part",
    )
    add_cache(parser)
    parser.add_argument("--json", action="store_true", help="print what was written as JSON")


def run(arguments: Namespace) -> int:
    """Write the split and say how large its parts are."""
    from fm.errors import FMError, UsageError
    from shards import splits
    from shards.dataset import open as open_dataset
    from shards.splits.splitfile import Split

    given = {option: getattr(arguments, option) for option in _OPTIONS}
    given = {option: value for option, value in given.items() if value is not None}
    for option in given:
        if arguments.by not in _OPTIONS[option]:
            name = option.replace("_", "-")
            raise UsageError(f"--{name} does not go with --by {arguments.by}")
    if arguments.out.exists():
        raise FMError(f"{arguments.out} exists already; name another --out or remove it first")
    if "share" in given:
        given["shares"] = {part: _number(v) for part, v in _pairs("share", given.pop("share"))}
    if "part" in given:
        pairs = dict(_pairs("part", given.pop("part")))
        given["parts"] = (
            {part: [one.strip() for one in text.split(",")] for part, text in pairs.items()}
            if arguments.by == "continent"
            else pairs
        )
    if "rest" in given:
        given["rest"] = given["rest"] or None
    ds = open_dataset(arguments.dataset, where=arguments.where, cache=arguments.cache)
    make: dict[str, Callable[..., Split]] = {
        "block": splits.by_block,
        "continent": splits.by_continent,
        "time": splits.by_time,
        "random": splits.random,
    }
    split = make[arguments.by](ds, name=arguments.name or arguments.out.stem, **given)
    split.write(arguments.out)
    counts = {part: len(keys) for part, keys in split.lists.items()}
    if arguments.json:
        about = {"file": str(arguments.out), "counts": counts, "left_out": dict(split.left_out)}
        print(json.dumps({**about, "sha256": split.sha256}, indent=2))
        return 0
    left = "".join(f", {count} left out ({why})" for why, count in split.left_out.items())
    parts = ", ".join(f"{part} {count}" for part, count in counts.items())
    print(f"{arguments.out}: {parts} of {len(ds)} samples{left}")
    return 0


def _pairs(option: str, texts: list[str]) -> list[tuple[str, str]]:
    from fm.errors import UsageError

    result: list[tuple[str, str]] = []
    for text in texts:
        part, equals, value = text.partition("=")
        if not (part and equals and value) or part in dict(result):
            raise UsageError(f"--{option} {text}: write PART=WHAT, each part once")
        result.append((part, value))
    return result


def _number(text: str) -> float:
    from fm.errors import UsageError

    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--share: {text!r} is no number") from None
