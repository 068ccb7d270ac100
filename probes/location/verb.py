"""`fm probe location:ENCODER --benchmark location-TASK-SPLIT | --suite location`."""

import json
import os
import re
import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from fm.console import note
from fm.errors import UsageError, suggest
from probes.location import PREFIX, is_location
from probes.location.splits import HELD_OUT
from probes.location.splits import NAMES as SPLITS
from probes.location.tasks import BY_NAME, TASKS, Task

if TYPE_CHECKING:
    from probes.location.encoders import Encoder

BENCHMARKS = {f"location-{task.name}-{split}": (task, split) for task in TASKS for split in SPLITS}
SUITES = ("location", "satclip")
"""The offline suite, and the published tables that a user has in a folder."""
_FOR_IMAGES = (
    "cache",
    "adapt",
    "adapt_policy",
    "robustness",
    "exclude_near",
    "scratch",
    "weights",
    "bands",
)


def is_benchmark(name: str | None) -> bool:
    """Say whether a name is of a benchmark of places."""
    return (name or "").partition("@")[0] in BENCHMARKS


def refusal(model: str | None, benchmark: str | None) -> str | None:
    """Why a model and a benchmark do not go together; None where they do, or are both of images.

    Args:
        model: as on the command line.
        benchmark: likewise.
    """
    if is_location(model) and benchmark is not None and not is_benchmark(benchmark):
        if benchmark.startswith("location-"):
            return f"there is no benchmark {benchmark!r}; {suggest(benchmark, BENCHMARKS)}"
        return (
            f"{benchmark} gives images and {model} takes places; give one of the benchmarks "
            f"location-TASK-SPLIT, or --suite {SUITES[0]}"
        )
    if is_benchmark(benchmark) and not is_location(model):
        return (
            f"{benchmark} gives places and {model or 'a floor on pixels'} takes images; name a "
            f"location encoder, such as {PREFIX}sh40"
        )
    return None


def run(arguments: Namespace) -> int:
    """Judge a location encoder, and with --database the retrieval heads on it.

    The raw encodings stand beside it unless --no-floors.
    """
    from probes.location import points, report, suite
    from probes.location.database import open_database
    from probes.location.encoders import get_encoder
    from probes.location.names import FLOORS
    from probes.location.published import open_published
    from probes.protocols import get_protocol

    tasks, splits = _asked(arguments)
    for option in _FOR_IMAGES:
        if getattr(arguments, option):
            shown = option.replace("_", "-")
            raise UsageError(f"--{shown} is for models of images; location encoders take none")
    folder = arguments.packages or os.environ.get("EOFM_CACHE") or None
    if folder is None:
        raise UsageError("--packages is missing: name a folder for pip packages, or set EOFM_CACHE")
    cache = Path(folder)
    seeds = _seeds(arguments)
    if "continents" in splits and len({seed % len(HELD_OUT) for seed in seeds}) < len(seeds):
        note(f"--seeds: there are {len(HELD_OUT)} continents; seeds that far apart ask on the same")
    recipes = [get_protocol(n) for n in dict.fromkeys(arguments.protocol.split(",")) if n]
    if not recipes:
        raise UsageError(f"--protocol {arguments.protocol!r} names nothing; see fm probe --list")
    model = get_encoder(arguments.model, cache, arguments.file)
    if arguments.name is not None:
        model.name = _called(arguments.name, model, floors=arguments.floors)
    names = [name for name in FLOORS if name != model.name] if arguments.floors else []
    heads = open_database(arguments.database).on(model) if arguments.database else []
    encoders = {name: get_encoder(name, cache) for name in names}
    encoders |= {one.name: one for one in (model, *heads)}
    if arguments.suite == "satclip":
        tasks, places = open_published(arguments.data)
    else:
        places = points.open_places(cache)
    everything = []
    if arguments.out is not None:
        for one in (model, *heads):
            report.refuse_others(arguments.out, one, recipes, places, tasks, splits, seeds)
    for recipe in recipes:
        mine = [t for t in tasks if recipe.settings.family != "linear" or t.kind == "class"]
        if not mine:
            raise UsageError(f"{recipe.full_name} is for classes; {tasks[0].name} asks for numbers")
        table = suite.run(
            list(encoders.values()),
            places,
            tasks=mine,
            splits=splits,
            seeds=seeds,
            protocol=recipe,
            workers=arguments.workers,
        )
        found = report.results(table, encoders, places, "fm " + " ".join(sys.argv[1:]))
        everything += found
        if arguments.out is not None:
            report.save(found, arguments.out)
        if not arguments.json:
            print(f"{recipe.full_name}\n{report.lines(table)}")
        if arguments.maps is not None:
            from probes.location.pictures import draw

            for one in (model, *heads):
                for cell in table.cells[one.name]:
                    draw(cell, places[cell.task.places], one.name, arguments.maps)
    if arguments.json:
        print(json.dumps([result.to_dict() for result in everything], indent=2))
    elif arguments.out is not None:
        note(f"{len(everything)} results in {arguments.out}")
    return 0


def _asked(arguments: Namespace) -> tuple[list[Task], list[str]]:
    if arguments.suite is not None:
        if arguments.suite not in SUITES:
            hint = suggest(arguments.suite, SUITES)
            raise UsageError(f"there is no suite {arguments.suite!r}; {hint}")
        if (arguments.suite == "satclip") != (arguments.data is not None):
            raise UsageError("--data FOLDER is for --suite satclip, and it needs one")
        if arguments.benchmark is not None:
            raise UsageError("--suite is many benchmarks; leave --benchmark out")
        return list(TASKS), list(SPLITS)
    if arguments.data is not None:
        raise UsageError("--data is for models of images; places come out of --packages")
    if arguments.benchmark is None:
        raise UsageError(
            f"--benchmark is missing; fm probe --list shows them, or --suite {SUITES[0]}"
        )
    if why := refusal(arguments.model, arguments.benchmark):
        raise UsageError(why)
    from probes.location.points import VERSION

    name, sign, version = arguments.benchmark.partition("@")
    if sign and version != str(VERSION):
        raise UsageError(f"there is no benchmark {arguments.benchmark!r}; {name}@{VERSION} is")
    task, split = BENCHMARKS[name]
    return [BY_NAME[task.name]], [split]


def _seeds(arguments: Namespace) -> list[int]:
    text = arguments.seeds
    if text is None:
        return [arguments.seed]
    words = [word for word in text.split(",") if word]
    if not words or not all(word.isdecimal() for word in words):
        raise UsageError(f"--seeds {text!r}: give whole numbers from 0, such as 0,1,2")
    seeds = [int(word) for word in words]
    if len(set(seeds)) < len(seeds):
        raise UsageError(f"--seeds {text}: one is there twice, which counts as no further seed")
    if arguments.seed:
        raise UsageError(f"--seed {arguments.seed} and --seeds {text}: give one of them")
    return seeds


def _called(name: str, model: "Encoder", *, floors: bool) -> str:
    """Return the name of a model in results, where its files are not those of a floor beside it."""
    from probes.location.names import FLOORS
    from probes.result import in_a_file

    if not re.search(r"[A-Za-z0-9]", name):
        raise UsageError(f"--name {name!r}: give a word, with a letter or digit for its files")
    if floors and name != model.name and (floor := in_a_file(name)) in FLOORS:
        raise UsageError(
            f"--name {name!r}: a floor of the table is called {floor}; give another word"
        )
    return name
