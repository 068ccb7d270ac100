"""`fm pretrain`."""

import argparse
import json
from dataclasses import asdict

from fm.command import Command


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", nargs="?", help="recipe name or YAML file; with --export a run")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="such as optimizer.lr=1e-3"
    )
    parser.add_argument("--force", action="store_true", help="go on with a changed config or data")
    parser.add_argument("--list", action="store_true", help="list the recipes")
    parser.add_argument("--print-config", action="store_true", help="print the config and stop")
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be built and read, and stop"
    )
    parser.add_argument(
        "--export",
        metavar="FOLDER",
        help="write the weights of a run folder, or of one of its checkpoints, and stop",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    # torch.distributed.launch and the deepspeed launcher add this word; ranks come from RANK
    parser.add_argument("--local_rank", "--local-rank", help=argparse.SUPPRESS)


def _run(arguments: argparse.Namespace) -> int:
    from fm.config import dump_yaml, list_recipes
    from fm.errors import UsageError

    if arguments.list:
        print("\n".join(list_recipes("pretrain")))
        return 0
    if arguments.config is None:
        raise UsageError("name a recipe or a YAML file; fm pretrain --list shows the recipes")

    if arguments.export is not None:
        from pretrain.runs.offline import export

        if arguments.overrides:
            raise UsageError(f"--export takes a run and nothing else, not {arguments.overrides[0]}")
        card = export(arguments.config, arguments.export)
        print(
            json.dumps(card.to_dict())
            if arguments.json
            else f"{card.name}: {card.training['steps']} steps; export: {arguments.export}"
        )
        return 0

    from pretrain.ranks.processes import abandon_rank, end_rank
    from pretrain.ranks.watchdog import RankEnded
    from pretrain.trainer import STOPPED_STATUS, load_config, run

    config = load_config(arguments.config, arguments.overrides)
    if arguments.print_config:
        print(dump_yaml(config), end="")
        return 0
    if arguments.dry_run:
        from pretrain.data import is_here
        from pretrain.plan.dryrun import describe, text

        # a recipe's own path stands for the user's data; one that the user typed must be there
        if any(word.startswith("data.") and ".path=" in word for word in arguments.overrides):
            for name, part in config.data.datasets.items():
                if not is_here(part):
                    where = f"data.parts.{name}.path" if name else "data.path"
                    raise UsageError(f"{where}: there is no {part.path}; give a dataset folder")
        found = describe(config)
        print(json.dumps(found) if arguments.json else text(found))
        return 0
    try:
        result = run(config, force=arguments.force)
    except RankEnded as end:
        return abandon_rank(int(end.code or 1))

    from pretrain.ranks.collective import first_process

    if first_process():
        if arguments.json:
            print(json.dumps(asdict(result)))
        else:
            ends = [result.loss_start, result.loss_end]
            loss = " -> ".join("not logged yet" if x is None else f"{x:.4f}" for x in ends)
            print(
                f"{result.name}: {result.steps} steps, {result.samples} samples, loss {loss}, "
                f"{result.seconds:.0f} s"
            )
            print(f"export: {result.export}" if result.export else "stopped; run again to go on")
    return end_rank(0 if result.export else STOPPED_STATUS)


command = Command(
    help="train a model on shards, or go on with a run",
    example=(
        "fm pretrain mae_s2_tiny data.path=shards/s2 out=runs/s2 schedule.steps=200\n"
        "fm pretrain mae_s2_tiny --dry-run\n"
        "fm pretrain runs/s2/checkpoints/step-00000100 --export models/s2-100\n"
        "torchrun --nproc-per-node 2 -m pretrain mae_s2_tiny data.path=shards/s2 out=runs/s2"
    ),
    configure=_configure,
    run=_run,
)
