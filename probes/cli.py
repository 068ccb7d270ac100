"""The verb `probe`; `embed` and `leaderboard` are in rooms of their own."""

import json
import re
import sys
from argparse import ArgumentParser, BooleanOptionalAction, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fm.command import Command
from fm.console import note
from fm.errors import UsageError, suggest
from fm.files import refuse_unwritable
from probes.embed.search_verb import search
from probes.embed.verb import embed
from probes.leaderboard.verbs import leaderboard

if TYPE_CHECKING:
    from probes.result import Result


def _configure_probe(parser: ArgumentParser) -> None:
    parser.add_argument(
        "model",
        nargs="?",
        metavar="MODEL",
        help="checkpoint folder, eofm/NAME, or timm:NAME, torchgeo:WEIGHTS, onnx:FILE, "
        "package:NAME, location:ENCODER; none for floors",
    )
    parser.add_argument(
        "--benchmark",
        metavar="NAME",
        help="see --list; or a label of your own dataset: class:LABEL, multilabel:LABEL or "
        "regression:LABEL, with :SPLIT.json behind it for a split of fm shards split",
    )
    parser.add_argument("--protocol", default="linear", metavar="NAME[,NAME]", help="see --list")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="the benchmark's dataset")
    parser.add_argument("--out", type=Path, metavar="RESULTS", help="folder for the result JSON")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keep features here")
    parser.add_argument("--name", metavar="NAME", help="of the model in results, not its card's")
    parser.add_argument("--adapt", action="store_true", help="fit other bands by the shared ones")
    parser.add_argument(
        "--adapt-policy",
        metavar="NAME",
        help="and estimate those that the model never saw: response, nearest:NM or zero",
    )
    parser.add_argument(
        "--floors",
        action=BooleanOptionalAction,
        default=True,
        help="also judge random weights and the protocol's floors",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of draws and new weights (0)"
    )
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="encode in N processes")
    parser.add_argument(
        "--scratch", metavar="PROTOCOL", help="also train from random weights, such as finetune"
    )
    parser.add_argument("--robustness", action="store_true", help="also score disturbed images")
    parser.add_argument(
        "--exclude-near",
        metavar="KM[,DAYS]",
        help="leave out test samples so near what the card says was seen",
    )
    parser.add_argument("--list", action="store_true", help="benchmarks, protocols and backbones")
    parser.add_argument("--json", action="store_true", help="print JSON")
    foreign = parser.add_argument_group("models of others")
    foreign.add_argument("--from", dest="file", type=Path, metavar="FILE", help="their weights")
    foreign.add_argument("--weights", choices=("random",), help="random ones, asked for in words")
    foreign.add_argument("--bands", metavar="SENSOR:BAND,BAND", help="of the channels, in order")
    foreign.add_argument(
        "--packages", type=Path, metavar="DIR", help="pip packages (default: EOFM_CACHE)"
    )
    places = parser.add_argument_group("location encoders")
    places.add_argument("--suite", metavar="NAME", help="location, or satclip with --data FOLDER")
    places.add_argument("--seeds", metavar="N[,N]", help="of the splits, in the place of --seed")
    places.add_argument(
        "--maps",
        type=Path,
        metavar="FOLDER",
        help="maps of answers and errors; of models of images, on the benchmarks geolocation-*",
    )
    places.add_argument(
        "--database",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="also with retrieval from it: RANGE's .npz, or .parquet of fm embed (keys, values)",
    )
    axes = parser.add_argument_group(
        "axes", "how pixels come to the model; several values make a table, one result a cell"
    )
    axes.add_argument("--resize", metavar="PX[,PX]", help="pixels of the shorter side, or native")
    axes.add_argument(
        "--normaliser",
        metavar="NAME[,NAME]",
        help="model, divide, zscore, minmax, seco or identity",
    )
    axes.add_argument("--interpolation", metavar="NAME[,NAME]", help="bilinear or nearest")
    axes.add_argument(
        "--antialias",
        action=BooleanOptionalAction,
        default=None,
        help="average over the pixels that a smaller image leaves out",
    )
    axes.add_argument("--order", metavar="NAME[,NAME]", help="normalise-first or resize-first")
    axes.add_argument("--precision", metavar="NAME[,NAME]", help="float32 or bfloat16")
    axes.add_argument("--missing", metavar="NAME", help="refuse, zero, mean or nearest")
    axes.add_argument("--tolerance-nm", type=float, metavar="NM", help="of bands' centres")


def _probe(arguments: Namespace) -> int:
    if arguments.list:
        return _list(arguments.json)
    from probes.location import is_location
    from probes.location import verb as of_places

    if is_location(arguments.model):
        return _probe_places(arguments)
    if why := of_places.refusal(arguments.model, arguments.benchmark):
        raise UsageError(why)
    for option in ("suite", "seeds", "database"):
        if getattr(arguments, option) is not None:
            raise UsageError(f"--{option} is for location encoders (location:ENCODER)")
    for option in ("benchmark", "data"):
        if getattr(arguments, option) is None:
            raise UsageError(f"--{option} is missing; fm probe --list shows what there is")
    if arguments.seed < 0:
        raise UsageError(f"--seed {arguments.seed}: give a whole number from 0")
    for option in ("out", "cache", "maps"):
        if (folder := getattr(arguments, option)) is not None:
            refuse_unwritable(folder, f"--{option}")
    if arguments.workers < 1:
        raise UsageError(f"--workers {arguments.workers}: give a whole number from 1")
    protocols = [name for name in arguments.protocol.split(",") if name]
    if not protocols:
        raise UsageError(f"--protocol {arguments.protocol!r} names nothing; see fm probe --list")
    if arguments.name is not None and (arguments.model is None or not _word(arguments.name)):
        raise UsageError(f"--name {arguments.name!r}: give a word for the model, and the model")
    cells = _cells(arguments, protocols)
    model = _model(arguments)
    from probes.judging.evaluation import evaluate_many

    results = evaluate_many(
        model,
        arguments.benchmark,
        protocols,
        data=arguments.data,
        seed=arguments.seed,
        cache=arguments.cache,
        out=arguments.out,
        adapt=arguments.adapt_policy or arguments.adapt,
        with_floors=arguments.floors,
        cells=cells,
        processes=arguments.workers,
        scratch=arguments.scratch,
        robustness=arguments.robustness,
        exclude_near=arguments.exclude_near,
        name=arguments.name,
        command="fm " + " ".join(sys.argv[1:]),
        maps=arguments.maps,
    )
    if arguments.json:
        print(json.dumps([result.to_dict() for result in results], indent=2))
    else:
        print(table(results))
        if len(cells) > 1:
            print(grid(results))
        if arguments.out is not None:
            note(f"{len(results)} results in {arguments.out}")
    return 0


def _probe_places(arguments: Namespace) -> int:
    """The same verb for location encoders."""
    from probes.location import verb

    if arguments.seed < 0 or arguments.workers < 1:
        raise UsageError("--seed is a whole number from 0, --workers one from 1")
    for option in ("out", "maps"):
        if (folder := getattr(arguments, option)) is not None:
            refuse_unwritable(folder, f"--{option}")
    if _cells(arguments, [name for name in arguments.protocol.split(",") if name]) != [{}]:
        raise UsageError("axes say how pixels come to a model; location encoders take none")
    return verb.run(arguments)


def _word(name: str) -> bool:
    """Say whether a name leaves something in the name of a file."""
    return re.search(r"[A-Za-z0-9]", name) is not None


def _model(arguments: Namespace) -> Any:
    """The model as `evaluate_many` takes it; foreign ones are loaded here."""
    from fm.checkpoint import read_card
    from probes import backbones

    options = {key: getattr(arguments, key) for key in ("file", "weights", "bands")}
    if backbones.is_backbone(arguments.model):
        return backbones.load(
            arguments.model, seed=arguments.seed, packages=arguments.packages, **options
        )
    kind, colon, _ = (arguments.model or "").partition(":")
    if colon and not Path(arguments.model).exists():
        raise UsageError(
            f"there is no model {arguments.model!r}: no such folder, and no kind of backbone "
            f"{kind!r}; {suggest(kind, backbones.KINDS)}"
        )
    for key, value in options.items():
        if value is not None:
            option = "from" if key == "file" else key
            kinds = ", ".join(f"{kind}:" for kind in backbones.KINDS)
            raise UsageError(f"--{option} is for models of others ({kinds})")
    if arguments.model is not None:
        read_card(arguments.model)  # before a benchmark is opened for a model that is not there
    return arguments.model


def _cells(arguments: Namespace, protocols: list[str]) -> list[dict[str, Any]]:
    """The cells of the table that the axes span; wrong values are told before anything is read."""
    from probes.axes import cells, vary
    from probes.protocols import get_protocol

    choices: dict[str, list[Any]] = {}
    for name in ("resize", "normaliser", "interpolation", "order", "missing", "precision"):
        text = getattr(arguments, name)
        if text is not None:
            choices[name] = list(dict.fromkeys(word for word in text.split(",") if word))
            if not choices[name]:
                raise UsageError(f"--{name} {text!r} names nothing")
    for name in ("antialias", "tolerance_nm"):
        if (value := getattr(arguments, name)) is not None:
            choices[name] = [value]
    if "resize" in choices:
        choices["resize"] = [_pixels(word) for word in choices["resize"]]
    if choices and arguments.model is None:
        option = next(iter(choices)).replace("_", "-")
        raise UsageError(f"--{option} says how pixels come to a model; name one")
    found = cells(choices)
    for protocol in protocols:
        for cell in found:
            vary(get_protocol(protocol), cell)
    return found


def _pixels(word: str) -> int | None:
    if word == "native":
        return None
    if not word.isdigit():
        raise UsageError(f"--resize {word!r}: give native, or a whole number of pixels")
    return int(word)


def _list(as_json: bool) -> int:
    from probes.backbones import KINDS, PACKAGES
    from probes.benchmarks import get_benchmark, list_benchmarks
    from probes.benchmarks.labelled import FORM
    from probes.location import PREFIX
    from probes.location.names import ALIASES, PRETRAINED
    from probes.location.verb import BENCHMARKS
    from probes.protocols import get_protocol, list_protocols

    benchmarks = {name: get_benchmark(name) for name in list_benchmarks()}
    protocols = {name: get_protocol(name) for name in list_protocols()}
    if as_json:
        everything = {
            "benchmarks": {
                n: {"help": b.help, "task": b.task, "source": b.source, "verified": b.verified}
                for n, b in benchmarks.items()
            }
            | {
                n: {"help": t.help, "task": t.kind, "source": t.source, "verified": "real files"}
                for n, (t, _) in BENCHMARKS.items()
            },
            "protocols": {n: p.model_dump(mode="json") for n, p in protocols.items()},
            "backbones": {**{f"{k}:": v for k, v in KINDS.items()}, **_packages(PACKAGES)},
        }
        print(json.dumps(everything, indent=2))
        return 0
    print("benchmarks")
    for name, benchmark in benchmarks.items():
        print(f"  {name:<28} {benchmark.checked_on:<13} {benchmark.help}")
    for name, (task, split) in BENCHMARKS.items():
        print(f"  {name:<28} {'real files':<13} {task.help}; places, {split} split")
    print(f"  {FORM}: a label (class, multilabel, regression) of the dataset of --data")
    print("protocols")
    for name, protocol in protocols.items():
        print(f"  {name:<28} {protocol.help}")
    print("backbones")
    for name, text in {**{f"{k}:": v for k, v in KINDS.items()}, **_packages(PACKAGES)}.items():
        print(f"  {name:<28} {text}")
    names = ", ".join((*ALIASES, *PRETRAINED, "geoclip-untrained"))
    print(f"  {PREFIX:<28} {names}, or an encoding with options such as sh,L=30")
    return 0


def _packages(known: dict[str, str]) -> dict[str, str]:
    return {f"package:{name}": text for name, text in known.items()}


def table(results: "list[Result]") -> str:
    """Lay out results, their paired differences and what to know of them for a terminal."""
    lines = []
    for result in results:
        score = result.metrics[result.primary]
        name = f"{result.model['name']} ({result.model['kind']})"
        if cell := _cell(result):
            name += f" {cell}"
        lines.append(
            f"{result.protocol['name']:<18} {name:<48} {result.primary} "
            f"{score['value']:.3f} {_interval(score)}"
        )
        for other in result.versus:
            lines.append(
                f"{'':<18}   minus {other['name']}: {other['difference']:+.3f} {_interval(other)}"
            )
        lines += _disturbed(result)
        if result.model["kind"] == "pretrained":
            lines.append(f"{'':<18}   overlap: {result.overlap['statement']}")
            if result.contamination:
                lines.append(f"{'':<18}   near: {result.contamination['statement']}")
    if results:
        about = results[0].benchmark
        counts = "/".join(str(about[f"n_{name}"]) for name in ("train", "val", "test"))
        unit = (results[0].interval or {}).get("unit")
        lines.append(
            f"{about['name']}@{about['version']}, train/val/test {counts}, intervals 95 % by {unit}"
        )
    return "\n".join([*lines, *_notes(results)])


def _cell(result: "Result") -> str:
    """The axes of a result that are not its protocol's own."""
    from probes.axes import tag

    return tag((result.axes or {}).get("changed") or {})


def _notes(results: "list[Result]") -> list[str]:
    """Each note once, with the rows it is of unless it is of all; warnings last."""
    from probes.result import is_warning

    found: dict[str, list[str]] = {}
    for result in results:
        words = (result.protocol["name"], result.model["name"], _cell(result))
        row = " ".join(dict.fromkeys(word for word in words if word))
        for text in dict.fromkeys(result.benchmark["notes"]):
            found.setdefault(text, []).append(row)
    lines = []
    for text, rows in sorted(found.items(), key=lambda item: is_warning(item[0])):
        more = f" and {len(rows) - 2} more" if len(rows) > 2 else ""
        of = "" if len(rows) == len(results) else f" [{'; '.join(rows[:2])}{more}]"
        lines.append(f"{'' if is_warning(text) else 'note: '}{text}{of}")
    return lines


def grid(results: "list[Result]") -> str:
    """Lay the primary metric out as one table a protocol and model: size by everything else.

    The two tables of Corley et al. (arXiv 2305.13456): rows are sizes, columns the normaliser and
    what else was varied. A score that a warning is of has an exclamation mark.
    """
    from probes.axes import tag
    from probes.result import is_warning

    tables: dict[tuple[str, str], dict[str, dict[str, str]]] = {}
    columns: dict[str, None] = {}
    for result in results:
        if result.axes is None:
            continue
        changed = dict(result.axes["changed"])
        changed.pop("resize", None)
        changed.pop("normaliser", None)
        column = tag({"normaliser": result.axes.get("normaliser", "model"), **changed})
        column = column.replace("normaliser-", "", 1)
        columns[column] = None
        key = result.protocol["name"], result.model["name"]
        size = str(result.axes.get("resize") or "native")
        cells = tables.setdefault(key, {}).setdefault(size, {})
        doubt = "!" if any(map(is_warning, result.benchmark["notes"])) else " "
        cells[column] = f"{result.value:.4f}{doubt}"
    lines = []
    wide = {name: max(12, len(name) + 2) for name in columns}
    for (protocol, model), rows in tables.items():
        lines.append(f"{protocol} {model} ({results[0].primary})")
        lines.append(f"  {'px':<8}" + "".join(f"{name:>{wide[name]}} " for name in columns))
        for row, cells in rows.items():
            text = "".join(f"{cells.get(name, ''):>{wide[name] + 1}}" for name in columns)
            lines.append(f"  {row:<8}{text}")
    return "\n".join(line.rstrip() for line in lines)


def _disturbed(result: "Result") -> list[str]:
    """One line a disturbance, where they were asked for."""
    lines = []
    for row in result.robustness or ():
        text = row["how"] if row["value"] is None else f"{row['value']:.3f} {_interval(row)}"
        lost = "" if row["drop"] is None else f", {row['drop']:.3f} lost"
        lines.append(f"{'':<18}   {row['name']}: {text}{lost}")
    return lines


def _interval(score: dict) -> str:
    if score["low"] is None:
        return "[no interval]"
    return f"[{score['low']:.3f}, {score['high']:.3f}]"


probe = Command(
    help="Judge a model on a benchmark, with floors and intervals",
    example=(
        "fm probe runs/mae_indian_pines_tiny/export --benchmark indian-pines "
        "--protocol linear,knn --data data/indian-pines --out results\n"
        "fm probe package:efficientnet-lite0 --benchmark nc-landcover --data data/nc-landcover "
        "--resize native,64 --normaliser divide,zscore --out results\n"
        "fm probe eofm/mae-landsat7 --benchmark class:cover:block.json --data data/mine "
        "--out results\n"
        "fm probe location:geoclip --suite location --protocol ridge --seeds 0,1,2 --out results\n"
        "fm probe --list"
    ),
    configure=_configure_probe,
    run=_probe,
)


__all__ = ["embed", "leaderboard", "probe", "search"]
