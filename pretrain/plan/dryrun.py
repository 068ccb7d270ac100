"""What a recipe would build and read, without memory for its weights and without its data."""

from typing import Any

import torch

from fm.errors import UsageError
from fm.rng import CounterRng
from pretrain.build import build, images, token_grids
from pretrain.config import RunConfig
from pretrain.data import check_batch, declared, is_here, open_data
from pretrain.engine.batches import MicroBatch
from pretrain.engine.fragment import read_fragment
from pretrain.labels import made_up
from pretrain.objective import Objective
from pretrain.ranks import collective
from pretrain.settings.optimizer import STATE_BYTES


def describe(config: RunConfig) -> dict[str, Any]:
    """Build a run's model on the meta device and say what the run would be.

    Datasets that are there are looked at. When none is, the recipe's own `modalities`, `bands`
    and `crop` and the tables of `fm.sensors` say what the samples are.

    Args:
        config: of the run.

    Returns:
        plain values: `model`, `parameters` (of the backbone, and of all that is trained),
        `state_bytes` (weights, gradients, the optimiser's), `parts` (name to `samples`, `shapes`,
        `tokens`, `grids`, `predicted` a sample, `share` of the steps), `batch_size`,
        `micro_batch`, `accumulate`, `steps`, `samples`, `passes` (over all samples; None without
        data).

    Raises:
        FMError: anything `fm pretrain` would refuse before it starts, but the run folder; some
            parts are there and others are not.
    """
    here = {name: is_here(part) for name, part in config.data.datasets.items()}
    if any(here.values()) and not all(here.values()):
        lost = next(name for name, found in here.items() if not found)
        raise UsageError(
            f"data.parts.{lost}.path: there is no {config.data.datasets[lost].path}, while other "
            f"parts are there; give its folder"
        )
    data = open_data(config) if all(here.values()) else None
    layout = declared(config.data) if data is None else data.layout
    micro, accumulate = check_batch(config, collective.world_size())
    read_fragment(config.engine)
    with torch.device("meta"):
        objective = build(config.model_copy(update={"init_from": None}), layout)
    if data is not None:
        data.read_labels(objective)
    weights = {name: getattr(p, "weight", 1.0) for name, p in config.data.datasets.items()}
    seen = config.schedule.steps * config.data.batch_size
    parts = {}
    for name, grids in token_grids(layout, objective).items():
        shapes = layout.shapes[name]
        parts[name] = {
            "samples": None if data is None else len(data.parts[name]),
            "shapes": {modality: list(shape) for modality, shape in shapes.items()},
            "grids": {group: list(grid) for group, grid in grids.items()},
            "tokens": sum(rows * columns for rows, columns in grids.values()),
            "predicted": _predicted(objective, shapes, layout.scaling),
            "share": weights[name] / sum(weights.values()),
        }
    total = None if data is None else sum(map(len, data.parts.values()))
    trained = sum(p.numel() for p in objective.parameters() if p.requires_grad)
    return {
        "name": config.name,
        "follows": config.follows,
        "model": config.model.name,
        "parameters": {
            "backbone": sum(p.numel() for p in objective.backbone.parameters()),
            "all": sum(p.numel() for p in objective.parameters()),
        },
        "state_bytes": trained * (8 + STATE_BYTES[config.optimizer.kind]),
        "objective": config.objective.model_dump(mode="json"),
        "parts": parts,
        "batch_size": config.data.batch_size,
        "micro_batch": micro,
        "accumulate": accumulate,
        "steps": config.schedule.steps,
        "samples": seen,
        "passes": None if total is None else seen / total,
    }


def _predicted(objective: Objective, shapes: Any, scaling: Any) -> float:
    """Return the weight of one readable sample: what its loss is a mean over."""
    pixels = images(shapes)
    one = torch.zeros(1, dtype=torch.int64)
    used = {name: scaling[name] for name in pixels}
    labels = made_up(objective, 1, "cpu")
    batch = MicroBatch(
        pixels,
        torch.ones(1),
        used,
        CounterRng(0, one, one),
        lonlat=torch.zeros(1, 2),
        time=torch.zeros(1, dtype=torch.float64),
        labels=labels,
    )
    return float(objective.weight(batch))


def text(found: dict[str, Any]) -> str:
    """Write `describe`'s values for a person."""
    parameters = found["parameters"]
    lines = [
        f"{found['name']}: {found['objective']['kind']} of {found['model']}",
        f"parameters  {parameters['backbone']:,} backbone, {parameters['all']:,} with what is "
        f"thrown away ({found['state_bytes'] / 2**30:.2f} GiB with gradients and optimiser)",
    ]
    for name, part in found["parts"].items():
        count = "not here; as the recipe says" if part["samples"] is None else part["samples"]
        lines.append(f"data {name or '':6} samples: {count}; share of the steps {part['share']:g}")
        for modality, shape in part["shapes"].items():
            lines.append(f"  {modality}: {' x '.join(map(str, shape))}")
        grids = ", ".join(f"{group} {r} x {c}" for group, (r, c) in part["grids"].items())
        lines.append(
            f"  tokens: {part['tokens']} ({grids}); loss terms a sample: {part['predicted']:g}"
        )
    lines.append(
        f"steps       {found['steps']:,} of {found['batch_size']} samples ({found['accumulate']} x "
        f"{found['micro_batch']} on each rank): {found['samples']:,} samples"
        + ("" if found["passes"] is None else f", {found['passes']:.3g} passes")
    )
    return "\n".join(lines)
