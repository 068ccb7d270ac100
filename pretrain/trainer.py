"""A pretraining run from config to exported checkpoint."""

import contextlib
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from fm.checkpoint import CARD
from fm.config import dump_yaml, find_recipe, override, parse, read_yaml
from fm.console import note
from fm.errors import UsageError
from fm.files import write_atomic, write_json
from pretrain.build import build, token_grids
from pretrain.config import RunConfig
from pretrain.data import RunData, check_batch, open_data
from pretrain.engine.blocks import keep_compiled
from pretrain.engine.engine import check_passes
from pretrain.engine.fragment import read_fragment
from pretrain.export import make_card
from pretrain.finish import RunResult, finish
from pretrain.fit import fit_bases
from pretrain.located import LOCATED, located
from pretrain.loop import Loop, Watcher
from pretrain.monitors.chosen import chosen
from pretrain.ranks import collective
from pretrain.ranks.processes import processes
from pretrain.ranks.signals import stop_signals
from pretrain.ranks.watchdog import Watchdog
from pretrain.runs import room
from pretrain.runs.environment import environment
from pretrain.runs.folder import RunFolder, check_going_on, differing_keys
from pretrain.runs.resume import SPLIT_KEYS
from pretrain.runs.sessions import add_session
from pretrain.teacher import pinned

STOPPED_STATUS = 75
"""Exit status after a stopping signal: a checkpoint was written, start the run again."""


def load_config(name: str, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a recipe by name or path and apply `key=value` overrides.

    Raises:
        UsageError: no such recipe, an unknown key, a wrong value.
    """
    path = find_recipe("pretrain", name)
    return parse(RunConfig, override(read_yaml(path), overrides), str(path))


def run(
    config: str | RunConfig,
    overrides: Sequence[str] = (),
    *,
    force: bool = False,
    watchers: Sequence[Watcher] = (),
) -> RunResult:
    """Start a run, or go on with the one in the run folder.

    Args:
        config: recipe name, file, or a config.
        overrides: `key=value` words.
        force: go on although the config or the data changed.
        watchers: look at the steps beside the run's own, which come after them.

    Returns:
        how it ended; a finished run is not run again.

    Raises:
        FMError: anything a user can mend, in one line.
    """
    settings = config if isinstance(config, RunConfig) else load_config(config, overrides)
    folder = RunFolder(settings.out)
    begun: list[bool] = []

    def ending(status: str, reason: str) -> None:
        if begun:
            folder.write_state(**{**(folder.state() or {}), "status": status, "reason": reason})

    with (
        processes() as device,
        stop_signals() as asked,
        Watchdog(settings.watchdog, folder.path, asked, ending) as watch,
        room.told(folder),
    ):
        # everything that can be wrong with the request is found before anything is written
        settings = pinned(settings)
        data = open_data(settings)
        own = chosen(settings, folder, data)
        objective = build(settings, data.layout)
        data.read_labels(objective)
        token_grids(data.layout, objective)
        read_fragment(settings.engine)
        ranks = collective.world_size()
        check_passes(objective, *check_batch(settings, ranks), ranks)
        with contextlib.ExitStack() as stack:
            collective.on_first(lambda: _enter(stack, folder))
            finished = collective.on_first(lambda: _prepare(folder, settings, data, force))
            if finished is not None:
                return finished
            if collective.on_first(folder.latest) is None:  # else the checkpoint holds them
                fit_bases(objective.backbone, data)
            if settings.engine.compile:
                keep_compiled(folder.path / "compiled")
            loop = Loop(settings, folder, data, objective, device, asked, watch)
            state = collective.on_first(lambda: _begin(folder, settings, data, loop))
            begun.append(True)
            loop.go(state, [*watchers, *own])
            return finish(loop)


def _enter(stack: contextlib.ExitStack, folder: RunFolder) -> None:
    stack.enter_context(folder.locked())


def _prepare(folder: RunFolder, config: RunConfig, data: RunData, force: bool) -> RunResult | None:
    """Check what is in the run folder; return the result of a finished run."""
    identity = {**config.identity(), "manifest_hash": data.manifest_hash}
    state = folder.state()
    if state is not None and folder.latest() is not None:
        check_going_on(folder.path, state)
        chosen = config.model_dump(mode="json", exclude_defaults=True)
        keys = differing_keys(state["identity"], identity, chosen)
        changed = [key for key in keys if key not in SPLIT_KEYS]
        begun = [key for key in changed if key.partition(".")[0] in ("init_from", "init")]
        if begun:  # not by force either: those weights would not be read
            began = state["identity"].get("init_from") or "fresh weights"
            raise UsageError(
                f"{folder.path}: the run there began from {began}, and init_from begins a new one; "
                f"name another out=FOLDER, or leave init_from and init as they were to go on"
            )
        if changed and not force:
            raise UsageError(
                f"{folder.path}: the run there was started with other values of "
                f"{', '.join(changed)}; name another out=FOLDER, or go on with --force"
            )
        done = state["status"] == "finished" and (folder.export / "card.json").is_file()
        if done and not changed:
            note(f"{folder.path}: finished already ({state['step']} steps)")
            place = {"out": str(folder.path), "export": str(folder.export)}
            return RunResult(**{**state["result"], **place})
    return None


def _begin(folder: RunFolder, config: RunConfig, data: RunData, loop: Loop) -> dict[str, Any]:
    """Write what this run is, once nothing can be wrong with it any more; return its state."""
    step, before = loop.step, folder.state() or {}
    state = {
        "status": "running",
        "step": step,
        "seconds": before.get("seconds", 0.0) if step else 0.0,
        "identity": {**config.identity(), "manifest_hash": data.manifest_hash},
    }
    write_atomic(folder.path / "config.yaml", dump_yaml(config))
    training = {"precision": config.engine.precision, "config_hash": config.hash()}
    objective = loop.engine.objective
    if objective.model is not objective.backbone:
        training["module"] = objective.model_place
    card = make_card(config, data, objective, training)
    write_json(folder.path / CARD, card.to_dict())  # for exports of its checkpoints
    if (places := located(objective)) is not None:
        write_json(folder.path / LOCATED, asdict(places))  # likewise
    env = environment()
    write_json(folder.path / "env.json", env)
    add_session(folder.path, step, env)
    folder.write_state(**state)
    return state
