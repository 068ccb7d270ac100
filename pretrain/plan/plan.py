"""What a run needs on a number of ranks: memory, disk, network and time."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from fm.console import progress
from fm.errors import UsageError
from pretrain.build import build
from pretrain.config import RunConfig
from pretrain.data import RunData, Shape, check_batch, declared, is_here, open_data
from pretrain.engine.fragment import read_fragment
from pretrain.labels import made_up
from pretrain.plan.activations import Activations, activations
from pretrain.plan.cost import Speeds, step_time
from pretrain.plan.dryrun import describe
from pretrain.plan.flops import flops_by_part, meta_batch
from pretrain.plan.memory import Sizes, checkpoint_bytes, memory
from pretrain.settings.optimizer import STATE_BYTES

ELEMENT_BYTES = 2
"""Of a stored pixel where no dataset says it."""


@dataclass(frozen=True)
class Assumed:
    """What a plan takes for granted of the machine.

    Attributes:
        samples: passes a second of one device; None where they follow from `flops`.
        flops: operations a second that one device reaches; without either, time is left out.
        bandwidth: of its memory, bytes a second.
        memory: of one device, bytes; None where unknown.
        link: between ranks of a node, bytes a second each way.
        network: of a rank to other nodes, likewise.
        per_node: ranks in a node.
        words: where these numbers are from, one line each.
    """

    samples: float | None
    flops: float | None
    bandwidth: float
    memory: float | None
    link: float
    network: float
    per_node: int
    words: tuple[str, ...] = ()

    def speeds(self, sample: float) -> Speeds | None:
        """Return what times follow from, for a sample of so many operations."""
        rate = self.samples
        if rate is None:
            if self.flops is None:
                return None
            rate = self.flops / sample
        return Speeds(rate, self.bandwidth, self.link, self.network, self.per_node)


def work(config: RunConfig) -> dict[str, float]:
    """Say what one sample costs: `forward`, `backward` FLOPs and `stored` bytes, means of a step.

    Args:
        config: of the run.
    """
    data = _data(config)
    layout = declared(config.data) if data is None else data.layout
    counted = flops_by_part(config, layout)
    shares = _shares(config)
    bytes_of = {
        part: _declared(shapes) if data is None else _stored(data, part, shapes)
        for part, shapes in layout.shapes.items()
    }
    return {
        "forward": sum(shares[part] * one.forward for part, one in counted.items()),
        "backward": sum(shares[part] * one.backward for part, one in counted.items()),
        "sample_bytes": sum(shares[part] * size for part, size in bytes_of.items()),
    }


def plan(config: RunConfig, ranks: Sequence[int], assumed: Assumed) -> dict[str, Any]:
    """Predict a run on each number of ranks.

    Args:
        config: of the run.
        ranks: numbers of devices.
        assumed: of the machine.

    Returns:
        plain values: all of `describe`, and `flops` (a sample's `forward`, `backward`, a `step`'s),
        `sample_bytes`, `disk` (bytes), `on` (one entry a number of ranks: `ranks`, `micro_batch`,
        `accumulate`, `memory` by stage with and without activation checkpointing, `largest_micro`
        by stage, `time`; or `refused`, why it cannot be), `assumed` (lines).

    Raises:
        FMError: what `describe` raises.
    """
    with progress("planning", 3) as bar:  # a large model takes half a minute
        found = describe(config)
        bar.advance(1, next="counting operations")
        cost = work(config)
        bar.advance(1, next="what a pass keeps")
        sizes, kept = _model(config)
        bar.advance()
    zero = read_fragment(config.engine).get("zero_optimization", {})
    stage = int(zero.get("stage", 0))
    one = checkpoint_bytes(sizes, stage)
    stay, steps, batch = config.checkpoint, config.schedule.steps, config.data.batch_size
    milestones = 0 if stay.milestones is None else steps // stay.milestones
    found["flops"] = {
        "forward": cost["forward"],
        "backward": cost["backward"],
        "step": batch * (cost["forward"] + cost["backward"]),
    }
    found["sample_bytes"] = cost["sample_bytes"]
    found["disk"] = {
        "checkpoint": one,
        "kept": one * (stay.keep + milestones),
        "peak": one * (stay.keep + 1 + milestones),  # the newest is written before the oldest goes
        "export": 4 * found["parameters"]["backbone"],
    }
    found["stage"] = stage
    found["on"] = [_on(config, n, sizes, kept, zero, assumed, cost) for n in ranks]
    found["assumed"] = list(assumed.words)
    return found


def _on(
    config: RunConfig,
    ranks: int,
    sizes: Sizes,
    kept: "Kept",
    zero: Mapping[str, Any],
    assumed: Assumed,
    cost: Mapping[str, float],
) -> dict[str, Any]:
    try:
        micro, accumulate = check_batch(config, ranks)
    except UsageError as error:
        return {"ranks": ranks, "refused": str(error)}
    stage = int(zero.get("stage", 0))
    again = config.engine.activation_checkpointing
    by_stage, largest = {}, {}
    for number in range(4):
        here = memory(sizes, number, ranks, kept.of(micro, again), zero)
        by_stage[number] = {**asdict(here), "device": here.device}
        if assumed.memory is not None:
            room = assumed.memory - memory(sizes, number, ranks, 0.0, zero).device
            largest[number] = kept.fits(room, again)
    speeds = assumed.speeds(cost["forward"] + cost["backward"])
    time = None
    if speeds is not None:
        step = step_time(
            sizes,
            speeds,
            batch=config.data.batch_size,
            stage=stage,
            ranks=ranks,
            accumulate=accumulate,
            overlap=bool(zero.get("overlap_comm", stage == 3)),
        )
        rate = config.data.batch_size / step.seconds
        time = {
            **asdict(step),
            "seconds": step.seconds,
            "samples_per_second": rate,
            "days": config.schedule.steps * step.seconds / 86400,
            "data_bytes_per_second": rate * cost["sample_bytes"],
            "efficiency": step.compute / step.seconds,
        }
    return {
        "ranks": ranks,
        "micro_batch": micro,
        "accumulate": accumulate,
        "activations": {"whole": kept.of(micro, False), "checkpointed": kept.of(micro, True)},
        "memory": by_stage,
        "largest_micro": largest,
        "time": time,
    }


@dataclass(frozen=True)
class Kept:
    """Bytes of a forward pass, a straight line in the size of the micro-batch.

    Attributes:
        two: measured with two samples.
        four: measured with four.
    """

    two: Activations
    four: Activations

    def of(self, micro: int, again: bool) -> float:
        """Return the bytes of a micro-batch, with or without blocks computed again."""
        low, high = self._ends(again)
        return low + (micro - 2) * (high - low) / 2

    def fits(self, room: float, again: bool) -> int:
        """Return the largest micro-batch in so many bytes; 0 where none fits."""
        low, high = self._ends(again)
        return max(int((room - low) / ((high - low) / 2)) + 2, 0)

    def _ends(self, again: bool) -> tuple[int, int]:
        if again:
            return self.two.checkpointed, self.four.checkpointed
        return self.two.whole, self.four.whole


def _model(config: RunConfig) -> tuple[Sizes, Kept]:
    """Build the model without memory; say its sizes and what its largest part keeps."""
    data = _data(config)
    layout = declared(config.data) if data is None else data.layout
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        objective = build(config.model_copy(update={"init_from": None}), layout)
    trained = sum(p.numel() for p in objective.parameters() if p.requires_grad)
    rest = [p for p in objective.parameters() if not p.requires_grad] + list(objective.buffers())
    own = 2 if config.engine.precision == "pure-bf16" else 4
    kept = {id(x) for x in objective.state_dict(keep_vars=True).values()}
    sizes = Sizes(
        trained,
        sum(x.nbytes for x in rest),
        own,
        own,
        STATE_BYTES[config.optimizer.kind],
        unkept=sum(x.nbytes for x in rest if id(x) not in kept),
    )
    measured = []
    for count in (2, 4):
        parts = [
            activations(
                objective,
                replace(
                    meta_batch(shapes, layout.scaling, 0, count),
                    labels=made_up(objective, count, "meta"),
                ),
                config.engine.precision,
            )
            for shapes in layout.shapes.values()
        ]
        measured.append(
            Activations(max(p.whole for p in parts), max(p.checkpointed for p in parts))
        )
    return sizes, Kept(*measured)


def _data(config: RunConfig) -> RunData | None:
    return open_data(config) if all(map(is_here, config.data.datasets.values())) else None


def _shares(config: RunConfig) -> dict[str, float]:
    weights = {name: getattr(p, "weight", 1.0) for name, p in config.data.datasets.items()}
    return {name: weight / sum(weights.values()) for name, weight in weights.items()}


def _declared(shapes: Mapping[str, Shape]) -> float:
    return float(sum(math.prod(shape) for shape in shapes.values()) * ELEMENT_BYTES)


def _stored(data: RunData, part: str, modalities: Iterable[str]) -> float:
    """Return the bytes of a sample's members, whole and compressed: a crop is cut after reading."""
    columns = [f"{name}.bytes" for name in modalities]
    table = pq.read_table(data.parts[part].parquet, columns=columns)
    return float(sum(pc.sum(table.column(name)).as_py() or 0 for name in columns) / len(table))
