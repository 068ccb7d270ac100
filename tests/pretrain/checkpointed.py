"""Checkpoints and moments of engines, on some ranks."""

from pathlib import Path

import torch
from torch import Tensor, nn

from pretrain.engine.engine import Engine
from pretrain.ranks import collective
from pretrain.ranks.processes import processes
from pretrain.runs.checkpoints import Checkpoints
from pretrain.runs.folder import Position, RunFolder
from pretrain.runs.resume import load_latest
from pretrain.settings.checkpoint import CheckpointConfig
from pretrain.settings.engine import EngineConfig
from pretrain.settings.optimizer import OptimizerConfig
from tests.pretrain.batches import mae, s2_batch


def write_checkpoint(folder: RunFolder, engine: Engine, step: int) -> None:
    """Write one as a run does; call on every rank."""
    kept = Checkpoints(folder, CheckpointConfig(), engine.device, engine.record)
    kept.save(Position(step, 4 * step, collective.world_size(), engine.zero_stage))
    kept.wait()


def moments(engine: Engine) -> dict[str, Tensor]:
    """Return values, both moments and the steps of all parameters, gathered; on every rank."""
    return _of_stage_3(engine) if engine.zero_stage == 3 else _of_flat_groups(engine)


def _of_flat_groups(engine: Engine) -> dict[str, Tensor]:
    """Under ZeRO 1 and 2 each rank has a piece of each flat group."""
    optimizer = engine.engine.optimizer
    names = {parameter: name for name, parameter in engine.engine.module.named_parameters()}
    pieces: dict[str, list[tuple[int, Tensor]]] = {}
    for number, group in enumerate(optimizer.bit16_groups):
        flat = optimizer.optimizer.param_groups[number]["params"][0]
        state = optimizer.optimizer.state[flat]
        for parameter in group:
            place = parameter._hp_mapping
            if place is None:
                continue
            to, of = place.lp_fragment_address, place.hp_fragment_address
            values = {"value": flat, "exp_avg": state["exp_avg"], "exp_avg_sq": state["exp_avg_sq"]}
            for key, value in values.items():
                piece = value.detach()[of.start : of.start + of.numel].clone()
                pieces.setdefault(f"{names[parameter]}/{key}", []).append((to.start, piece))
        pieces[f"{number}/step"] = [(0, torch.as_tensor(state["step"]).clone().view(1))]
    found: dict[str, list[tuple[int, Tensor]]] = {}
    for rank, one in enumerate(collective.gather(pieces)):
        for name, parts in one.items():
            if rank == 0 or not name.endswith("/step"):
                found.setdefault(name, []).extend(parts)
    return {
        name: torch.cat([part for _, part in sorted(parts, key=lambda p: p[0])])
        for name, parts in found.items()
    }


def _of_stage_3(engine: Engine) -> dict[str, Tensor]:
    from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

    found = {}
    for name, parameter in engine.engine.module.named_parameters():
        if parameter.requires_grad:
            found[f"{name}/value"] = safe_get_full_fp32_param(parameter).flatten().clone()
            for key in ("exp_avg", "exp_avg_sq"):
                state = safe_get_full_optimizer_state(parameter, key)
                found[f"{name}/{key}"] = state.flatten().clone()
    state = engine.engine.optimizer.optimizer.state
    steps = {float(value["step"]) for value in state.values()}
    assert len(steps) == 1
    found["step"] = torch.tensor(steps.pop())
    return found


def main(out: Path, what: str, stage: int) -> None:
    """Write a checkpoint after three steps, or read it under other ranks and keep its moments."""
    with processes() as device:
        objective = mae()
        if what == "read":
            with torch.no_grad():
                for parameter in objective.parameters():
                    parameter.add_(torch.rand_like(parameter))
        value = float(what == "write")
        objective.register_buffer("fitted", torch.full((3,), value))
        objective.frozen = nn.Parameter(torch.full((2, 2), value), requires_grad=False)
        ranks, rank = collective.world_size(), collective.rank()
        engine = Engine(
            objective,
            OptimizerConfig(lr=1e-3, clip=1.0),
            EngineConfig(precision="fp32", deepspeed=f"zero{stage}"),
            micro_batch=6 // ranks,
            accumulate=1,
            device=device,
        )
        folder = RunFolder(out / "run")
        if what == "write":
            for step in range(3):
                batch = s2_batch(6, seed=step, start=6 * step)
                share = slice(rank * 6 // ranks, (rank + 1) * 6 // ranks)
                engine.step([batch.select(share)], 1e-3, stop=False)
            write_checkpoint(folder, engine, step=3)
        else:
            assert load_latest(folder, engine) is not None
        found = moments(engine)
        state = engine.state_of(engine.objective)
        found["fitted"], found["frozen"] = state["fitted"], state["frozen"]
        if rank == 0:
            name = "written.pt" if what == "write" else f"read-{ranks}.pt"
            torch.save(found, out / name)
        collective.barrier()
