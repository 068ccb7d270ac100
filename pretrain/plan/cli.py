"""`fm plan`: what a run needs and takes, before it is one."""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fm.command import Command

if TYPE_CHECKING:
    from pretrain.config import RunConfig
    from pretrain.plan.plan import Assumed

PER_NODE, MFU, NETWORK = 8, 0.35, 50.0


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", help="recipe name or YAML file")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="such as engine.micro_batch=64"
    )
    parser.add_argument("--gpus", help="numbers of devices, such as 8,64,512 (default 1)")
    parser.add_argument("--nodes", help="numbers of whole nodes instead, such as 1,8")
    parser.add_argument("--per-node", type=int, help=f"devices in a node ({PER_NODE})")
    speed = parser.add_mutually_exclusive_group()
    speed.add_argument(
        "--measured", type=float, metavar="SAMPLES/S", help="passes a second of one device"
    )
    speed.add_argument("--measure", action="store_true", help="measure them on this machine, now")
    parser.add_argument("--device", help="stated figures of a kind, such as h100")
    parser.add_argument(
        "--mfu", type=float, help="share of the device's stated FLOPs that is reached (0.35)"
    )
    parser.add_argument("--link", type=float, metavar="GB/S", help="between ranks of a node")
    parser.add_argument(
        "--network", type=float, metavar="GB/S", help="of each rank to other nodes (50)"
    )
    parser.add_argument("--slurm", type=Path, metavar="DIR", help="write job scripts there")
    parser.add_argument("--time", default="24:00:00", help="limit of a job (24:00:00)")
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")


def _run(arguments: argparse.Namespace) -> int:
    from fm.errors import FMError, UsageError
    from pretrain.plan.plan import plan
    from pretrain.plan.words import text
    from pretrain.trainer import load_config

    config = load_config(arguments.config, arguments.overrides)
    per_node = PER_NODE if arguments.per_node is None else arguments.per_node
    ranks = _ranks(arguments, per_node)
    if arguments.slurm is not None and arguments.slurm.is_file():
        raise UsageError(f"--slurm {arguments.slurm} is a file; name a folder")
    found = plan(config, ranks, _assumed(arguments, config, max(ranks), per_node))
    refused = [row["refused"] for row in found["on"] if "refused" in row]
    impossible = len(refused) == len(ranks)
    if arguments.slurm is not None and not impossible:
        from pretrain.plan.slurm import write_scripts

        words = [arguments.config, *arguments.overrides]
        found["scripts"] = [
            str(path)
            for path in write_scripts(
                arguments.slurm,
                config,
                words,
                ranks=ranks if arguments.gpus or arguments.nodes else (1, 8, 64),
                per_node=per_node,
                limit=arguments.time,
            )
        ]
    if arguments.json:
        print(json.dumps(found))
    else:
        print(text(found))
        for path in found.get("scripts", ()):
            print(f"sbatch {path}")
    if impossible:
        some = ", ".join(map(str, ranks))
        raise FMError(f"the run cannot be on {some} devices: {refused[0]}")
    return 0


def _ranks(arguments: argparse.Namespace, per_node: int) -> tuple[int, ...]:
    from fm.errors import UsageError

    if arguments.gpus and arguments.nodes:
        raise UsageError("--gpus and --nodes both say how many; give one")
    if per_node < 1:
        raise UsageError("--per-node must be 1 or more")
    given = arguments.gpus or arguments.nodes or "1"
    try:
        numbers = tuple(int(word) for word in given.split(","))
    except ValueError:
        numbers = (0,)
    if min(numbers) < 1:
        raise UsageError(f"{given!r} is no list of numbers; give such as 8,64,512")
    return tuple(n * per_node for n in numbers) if arguments.nodes else numbers


def _assumed(
    arguments: argparse.Namespace, config: "RunConfig", ranks: int, per_node: int
) -> "Assumed":
    """Take the machine from the words, and say in words what was not measured."""
    from fm.errors import UsageError
    from pretrain.accelerators import accelerator
    from pretrain.plan.plan import Assumed

    kind = None if arguments.device is None else accelerator(arguments.device)
    if arguments.mfu is not None and kind is None:
        raise UsageError("--mfu is a share of a device's FLOPs; give --device")
    for option in ("link", "network", "measured"):
        given = getattr(arguments, option)
        if given is not None and not 0 < given < float("inf"):
            raise UsageError(f"--{option} must be a number above 0")
    nodes = []
    if arguments.per_node is None and (ranks > 1 or arguments.slurm is not None):
        nodes = [f"{per_node} devices in a node (--per-node)"]
    words = [*nodes]
    link, network = arguments.link, arguments.network
    if network is None:
        network = NETWORK
        words.append(f"{NETWORK:g} GB/s from each rank to other nodes (--network)")
    if link is None:
        link = kind.link / 1e9 if kind else network
        source = f"stated of {arguments.device}" if kind else "as to other nodes"
        words.append(f"{link:g} GB/s between ranks of a node, {source} (--link)")
    known = Assumed(
        samples=None,
        flops=None,
        bandwidth=kind.bandwidth if kind else float("inf"),
        memory=kind.memory if kind else None,
        link=link * 1e9,
        network=network * 1e9,
        per_node=per_node,
    )
    if arguments.measure:
        from pretrain.plan.throughput import optimizer_bandwidth, passes_a_second
        from pretrain.ranks.processes import device, prepare_environment

        prepare_environment()
        place = device()
        # the whole batch of a run of many devices does not fit on the one at hand
        micro = config.engine.micro_batch or max(config.data.batch_size // ranks, 1)
        rate, speed = passes_a_second(config, place, micro), optimizer_bandwidth(place)
        words.append(
            f"measured here: {rate:.4g} samples/s, {micro} at once; AdamW {speed / 1e9:.3g} GB/s"
        )
        known = replace(known, samples=rate, bandwidth=speed)
    elif arguments.measured is not None:
        words.append(f"{arguments.measured:g} samples/s of one device, as given")
        if kind is None:
            words.append("an optimiser that takes no time (--device says how fast memory is)")
        known = replace(known, samples=arguments.measured)
    elif kind is not None:
        if config.engine.precision == "fp32":
            raise UsageError(
                "the stated FLOPs of --device are of bfloat16, engine.precision is fp32; give "
                "--measured SAMPLES/S or --measure"
            )
        mfu = MFU if arguments.mfu is None else arguments.mfu
        if not 0 < mfu <= 1:
            raise UsageError("--mfu must be above 0 and at most 1")
        words.append(
            f"{100 * mfu:g} % of the {kind.flops / 1e12:g} TFLOP/s stated of {arguments.device} "
            f"(--mfu; --measured SAMPLES/S says what a run reached)"
        )
        if config.engine.activation_checkpointing:
            words.append("no time for blocks that are computed again, a third more; lower --mfu")
        known = replace(known, flops=kind.flops * mfu)
    else:
        words = [
            *nodes,
            "nothing of the device, so no time: give --measured, --measure or --device",
        ]
    return replace(known, words=tuple(words))


command = Command(
    help="what a run needs and takes: memory, disk, network, days; Slurm scripts",
    example=(
        "fm plan mae_large engine.micro_batch=8 --gpus 8,64,512 --device h100 --mfu 0.35\n"
        "fm plan mae_large engine.micro_batch=64 --gpus 8,64 --measured 900 --network 25\n"
        "fm plan mae_large data.path=shards/s2 engine.micro_batch=64 out=runs/large --slurm jobs"
    ),
    configure=_configure,
    run=_run,
)
