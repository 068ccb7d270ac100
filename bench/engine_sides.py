"""The sides of `bench engine`: one training step at a time, each side in a process of its own.

All read the same samples through the same loader and turn them the same way. Ours is
`pretrain.run` as a person starts it, all bookkeeping included; it is stopped between steps by a
watcher. The others are what one would write by hand.
"""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from fm.config import parse
from fm.rng import CounterRng
from pretrain.augment import dihedral
from pretrain.build import build
from pretrain.config import RunConfig
from pretrain.data import RunData, open_data
from pretrain.engine.batches import MicroBatch
from pretrain.engine.fragment import read_fragment
from pretrain.engine.groups import parameter_groups
from pretrain.engine.zero3 import own_units
from pretrain.loop import Loop, Moment, Watcher
from pretrain.objective import Objective
from pretrain.ranks.allocator import OWN
from pretrain.ranks.processes import processes, quiet_stderr
from pretrain.settings.optimizer import OptimizerConfig

Ask = Callable[[Any], Any]
"""Gives an answer and waits for the next request."""
Advance = Callable[[MicroBatch], float]
"""Takes a training step and returns its loss."""


def config(data: Path, out: Path, *, quick: bool, zero: int = 0, **checkpoint: int) -> RunConfig:
    """Return the run: a masked autoencoder of a ViT-S on all 13 bands, at a constant rate."""
    values = {
        "name": "bench-engine",
        "out": str(out),
        "seed": 0,
        "data": {"path": str(data), "batch_size": 8 if quick else 32},
        "model": {"name": "vit_nano" if quick else "vit_small", "token_m": 120},
        "objective": {
            "kind": "mae",
            "mask_ratio": 0.75,
            "decoder": {"kind": "cross", "width": 128, "depth": 2, "heads": 4},
        },
        "optimizer": {"lr": 1e-4, "clip": 1.0},
        "schedule": {"steps": 1_000_000, "warmup": 0, "min_lr": 1e-4},
        "engine": {"precision": "fp32", "deepspeed": f"zero{zero}"},
        "checkpoint": {"every": 1_000_000, **checkpoint},
        "monitor": {"pictures": 0},
    }
    return parse(RunConfig, values, "bench engine")


class Gate(Watcher):
    """Lets a run take a step when it is asked to, and says how long it took.

    Its place is before the watchers of the run itself, so their work after a step counts with the
    next one; a checkpoint's too.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def begin(self, loop: Loop) -> None:
        """Say what runs; wait for the first request."""
        del loop
        self._ask({"threads": torch.get_num_threads()})
        self._since = time.perf_counter()

    def after_step(self, moment: Moment) -> None:
        """Answer; wait for the next request."""
        seconds = time.perf_counter() - self._since
        self._ask((seconds, moment.result.loss))
        self._since = time.perf_counter()


def ours(ask: Ask, settings: RunConfig) -> None:
    """Be our loop."""
    import pretrain

    pretrain.run(settings, watchers=[Gate(ask)])


def _adamw(module: torch.nn.Module, optimizer: OptimizerConfig) -> torch.optim.AdamW:
    return torch.optim.AdamW(
        parameter_groups(module, optimizer.weight_decay),
        lr=optimizer.lr,
        betas=optimizer.betas,
        eps=optimizer.eps,
        fused=True,
    )


def _batches(settings: RunConfig, data: RunData, device: torch.device) -> Iterator[MicroBatch]:
    """Yield the batches that our loop would take."""
    stream = data.loader(
        batch_size=settings.data.batch_size,
        seed=settings.seed,
        rank=0,
        world_size=1,
        position=0,
        threads=settings.data.threads,
        shuffle=True,
        device=device,
        max_bad=0.0,
    )
    for step, batch in enumerate(stream):
        rng = CounterRng(settings.seed, batch.epochs, batch.positions)
        batch.pixels = dihedral(batch.pixels, rng)
        yield MicroBatch.of(batch, rng, step)


def _by_hand(
    ask: Ask,
    settings: RunConfig,
    prepare: Callable[[Objective, OptimizerConfig, torch.device], Advance],
) -> None:
    with processes() as device:
        data = open_data(settings)
        objective = build(settings, data.layout).to(device)
        advance = prepare(objective, settings.optimizer, device)
        ask({"threads": torch.get_num_threads()})
        since = time.perf_counter()
        for batch in _batches(settings, data, device):
            loss = advance(batch)  # reading it waits for the device
            ask((time.perf_counter() - since, loss))
            since = time.perf_counter()


def bare(ask: Ask, settings: RunConfig) -> None:
    """Be autograd and an optimiser, nothing else."""

    def prepare(objective: Objective, optimizer: OptimizerConfig, device: torch.device) -> Advance:
        del device
        adamw = _adamw(objective, optimizer)
        parameters = list(objective.parameters())

        def advance(batch: MicroBatch) -> float:
            adamw.zero_grad(set_to_none=True)
            out = objective(batch, batch.rng)
            loss = out.loss_sum / out.weight
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, optimizer.clip)
            adamw.step()
            return loss.item()

        return advance

    _by_hand(ask, settings, prepare)


def bare_as_it_comes(ask: Ask, settings: RunConfig) -> None:
    """Be the same, with glibc's own way of giving freed memory back."""
    os.environ[OWN[0]] = "131072"  # as if the user had chosen, so that `processes` leaves it
    bare(ask, settings)


class _Mean(torch.nn.Module):
    """An objective that returns the loss of a step."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, batch: MicroBatch) -> torch.Tensor:
        out = self.objective(batch, batch.rng)
        return out.loss_sum / out.weight


def deepspeed(ask: Ask, settings: RunConfig) -> None:
    """Be DeepSpeed's own loop: initialize, forward, backward, step."""
    import deepspeed

    def prepare(objective: Objective, optimizer: OptimizerConfig, device: torch.device) -> Advance:
        del device
        module = _Mean(objective)
        told = {
            "train_batch_size": settings.data.batch_size,
            "gradient_clipping": optimizer.clip,
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,
            "steps_per_print": 10**9,
            **read_fragment(settings.engine),
        }
        with quiet_stderr():
            engine, *_ = deepspeed.initialize(
                model=module,
                optimizer=_adamw(module, optimizer),
                config=told,
                dist_init_required=False,
            )

        if settings.engine.deepspeed == "zero3":  # by itself it loses weights used outside modules
            own_units(module, objective.block_modules())

        def advance(batch: MicroBatch) -> float:
            loss = engine(batch)
            engine.backward(loss)
            engine.step()
            return loss.item()

        return advance

    _by_hand(ask, settings, prepare)


def fabric(ask: Ask, settings: RunConfig) -> None:
    """Be Lightning Fabric on one process."""
    from lightning_fabric import Fabric

    def prepare(objective: Objective, optimizer: OptimizerConfig, device: torch.device) -> Advance:
        kind = "cuda" if device.type == "cuda" else "cpu"
        made = Fabric(accelerator=kind, devices=1, precision="32-true")
        module, adamw = made.setup(objective, _adamw(objective, optimizer))

        def advance(batch: MicroBatch) -> float:
            adamw.zero_grad(set_to_none=True)
            out = module(batch, batch.rng)
            loss = out.loss_sum / out.weight
            made.backward(loss)
            torch.nn.utils.clip_grad_norm_(list(module.parameters()), optimizer.clip)
            adamw.step()
            return loss.item()

        return advance

    _by_hand(ask, settings, prepare)
