"""Small contrastive objectives with a teacher, a queue or gathered rows."""

import copy
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fm.rng import CounterRng
from pretrain.engine.batches import MicroBatch
from pretrain.engine.engine import Engine
from pretrain.objective import MomentumPair, Objective, ObjectiveBatch, Output
from pretrain.objectives.queue import Queue
from pretrain.ranks import collective
from pretrain.ranks.processes import processes
from pretrain.schedule import Clock
from pretrain.settings.engine import EngineConfig
from pretrain.settings.optimizer import OptimizerConfig
from pretrain.settings.ramp import Ramp
from tests.pretrain.batches import backbone, s2_batch

WIDTH, GLOBAL_BATCH, STEPS = 8, 4, 4


class Contrast(Objective):
    """Each sample against its mirror image: one is near, all others are far (InfoNCE).

    Args:
        gathered: compare with the student's own rows of the whole batch, gradients and all;
            otherwise with a teacher's rows of earlier steps, in a queue.
        momentum: of the teacher.
    """

    def __init__(self, *, gathered: bool = False, momentum: float | Ramp = 0.9) -> None:
        super().__init__()
        self.backbone = backbone()
        torch.manual_seed(5)
        self.head = nn.Linear(self.backbone.width, WIDTH)
        self.whole_batch, self.momentum = gathered, momentum
        if not gathered:
            self.teacher = copy.deepcopy(self.backbone).requires_grad_(False)
            self.teacher_head = copy.deepcopy(self.head).requires_grad_(False)
            self.queue = Queue(6, WIDTH)

    def momentum_pairs(self) -> list[MomentumPair]:
        if self.whole_batch:
            return []
        return [
            (self.backbone, self.teacher, self.momentum),
            (self.head, self.teacher_head, self.momentum),
        ]

    def weight(self, batch: ObjectiveBatch) -> Tensor:
        return batch.weight.sum()

    def rows(self, batch: ObjectiveBatch, model: nn.Module, head: nn.Module) -> Tensor:
        made = model._encode(self.inputs(batch), hidden=False).pooled  # type: ignore[operator]
        return functional.normalize(head(made).float(), dim=-1)

    def forward(self, batch: ObjectiveBatch, rng: CounterRng) -> Output:
        del rng
        mirror: Any = copy.copy(batch)
        mirror.pixels = {
            name: x.view(torch.int16).flip(-1).view(x.dtype) for name, x in batch.pixels.items()
        }
        ours = self.rows(batch, self.backbone, self.head)
        place = torch.arange(len(ours))
        if self.whole_batch:
            others = collective.gather_rows(self.rows(mirror, self.backbone, self.head))
            counted = collective.gather_rows(batch.weight) > 0
            place = place + collective.rank() * len(ours)
        else:
            with torch.no_grad():
                near = self.rows(mirror, self.teacher, self.teacher_head)
            held, filled = self.queue.read()
            self.queue.add(near, batch.weight > 0)
            others = torch.cat([near, held])
            counted = torch.cat([torch.zeros(len(near), dtype=torch.bool), filled])
        logits = ours @ others.mT / 0.2
        own = functional.one_hot(place, len(others)).bool()
        logits = logits.masked_fill(~own & ~counted, -torch.inf)
        loss = functional.cross_entropy(logits, place, reduction="none")
        return Output((loss * batch.weight).sum(), self.weight(batch))


def batch_of(step: int) -> MicroBatch:
    """Return the global batch of a step; one sample in eight could not be read."""
    batch = s2_batch(GLOBAL_BATCH, seed=step, start=step * GLOBAL_BATCH)
    batch.weight[step % GLOBAL_BATCH] = float(step % 2)
    batch.clock = Clock(step * GLOBAL_BATCH, (STEPS - 1) * GLOBAL_BATCH)
    return batch


def engine_of(
    objective: Objective,
    folder: Path,
    *,
    stage: int = 0,
    precision: str = "fp32",
    accumulate: int = 1,
) -> Engine:
    """Wrap an objective under a ZeRO stage."""
    path = folder / f"zero{stage}-{collective.rank()}.yaml"
    path.write_text(f"zero_optimization: {{stage: {stage}}}\n")
    share = GLOBAL_BATCH // collective.world_size()
    return Engine(
        objective,
        OptimizerConfig(lr=1e-3),
        EngineConfig.model_validate({"precision": precision, "deepspeed": str(path)}),
        micro_batch=share // accumulate,
        accumulate=accumulate,
        device=torch.device("cpu"),
    )


def step(engine: Engine, number: int, **options: Any) -> float:
    """Take a step on this rank's share of its batch; return the loss."""
    share = GLOBAL_BATCH // collective.world_size()
    own = batch_of(number).select(slice(collective.rank() * share, (collective.rank() + 1) * share))
    result, _ = engine.step(own.split(share // engine.accumulate), 1e-3, stop=False, **options)
    return result.loss


def found(engine: Engine) -> dict[str, Any]:
    """Return what teachers and queues hold now, as plain numbers; call on every rank."""
    state = engine.state_of(engine.objective)
    kept = {n: v for n, v in state.items() if n.startswith(("teacher", "queue", "head"))}
    return {name: value.double().flatten().tolist() for name, value in kept.items()}


def main(out: Path, stage: int) -> None:
    """Write the losses, the teachers and the queues of both kinds; on each of some ranks."""
    made = {}
    with processes():
        for gathered in (False, True):
            engine = engine_of(Contrast(gathered=gathered), out.parent, stage=stage)
            losses = [step(engine, number) for number in range(STEPS)]
            first, *others = collective.gather(found(engine))
            assert all(state == first for state in others), "the ranks hold different states"
            made[str(gathered)] = {"losses": losses, "state": first}
        if collective.rank() == 0:
            out.write_text(json.dumps(made))
