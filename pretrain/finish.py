"""The end of a run: its export, its pictures, its final state."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fm.checkpoint import save
from fm.tensors import Weights
from pretrain.engine.weights import weights_of, written_by_first
from pretrain.export import draw_pictures, losses_by_part, make_card
from pretrain.located import LOCATION, located, save_located
from pretrain.loop import Loop
from pretrain.ranks import collective
from pretrain.ranks.watchdog import FINISH


@dataclass(frozen=True)
class RunResult:
    """What a run ended with.

    Attributes:
        name: the run's name.
        out: run folder.
        export: checkpoint folder; None when the run was stopped before its end.
        steps: optimiser steps done.
        samples: samples seen.
        loss_start: mean loss of the first tenth of the logged steps (at most 10); of a mixture,
            the mean of the parts' own; None when it was stopped before one was logged.
        loss_end: the same of as many last ones.
        seconds: of training, all sessions together.
    """

    name: str
    out: str
    export: str | None
    steps: int
    samples: int
    loss_start: float | None
    loss_end: float | None
    seconds: float


def finish(loop: Loop) -> RunResult:
    """Write the export, the pictures and the final state; call on every rank.

    Returns:
        how the run, or this session of it, ended.
    """
    config, folder, data, engine = loop.config, loop.folder, loop.data, loop.engine
    state, step, seconds, complete = loop.state, loop.step, loop.seconds, loop.complete
    backbone = engine.objective.model
    loop.watch.phase(FINISH)
    # of all ranks: a signal that came to one stops them all
    came = {name for names in collective.gather(loop.asked) for name in names}
    result, training = None, dict[str, Any]()
    if collective.rank() == 0:
        losses = losses_by_part(folder.metrics())
        result = RunResult(
            name=config.name,
            out=str(folder.path),
            export=str(folder.export) if complete else None,
            steps=step,
            samples=step * config.data.batch_size,
            loss_start=_mean([start for start, _ in losses.values()]),
            loss_end=_mean([end for _, end in losses.values()]),
            seconds=seconds,
        )
        if complete:
            training = {
                "steps": result.steps,
                "samples_seen": result.samples,
                "loss_start": result.loss_start,
                "loss_end": result.loss_end,
                "precision": config.engine.precision,
                "config_hash": config.hash(),
            }
            if config.data.parts is not None:
                training["loss_by_part"] = {name: list(ends) for name, ends in losses.items()}
    if complete:

        def export(weights: Weights) -> None:
            card = make_card(config, data, engine.objective, training)
            save(folder.export, backbone, card, state=weights, overwrite=True)

        written_by_first(weights_of(backbone), export)
        _export_location(loop, training)
    if complete and config.monitor.pictures:
        draw_pictures(config, folder, data, engine, loop.device)
    if collective.rank() == 0:
        assert result is not None
        status = {"status": "finished"} if complete else {"status": "requeue"}
        if not complete:
            status["reason"] = ", ".join(sorted(came))
        folder.write_state(
            **{
                **state,
                **status,
                "step": step,
                "seconds": seconds,
                "result": result.__dict__,
            }
        )
    final = result
    return collective.on_first(lambda: final)  # type: ignore[return-value]


def _export_location(loop: Loop, training: Mapping[str, Any]) -> None:
    """Write the location encoder, if the objective exports one, beside the model."""
    found = located(loop.engine.objective)
    if found is None:
        return
    config, folder = loop.config, loop.folder
    card = make_card(config, loop.data, loop.engine.objective, dict(training))

    def export(weights: Weights) -> None:
        save_located(folder.path / LOCATION, found, card, weights, image_encoder=folder.export)

    written_by_first(weights_of(loop.engine.objective).renamed(found.names), export)


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
