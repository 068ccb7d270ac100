"""From a run's config and the layout of its samples to the objective that is trained."""

from collections.abc import Mapping

import torch

from fm.errors import UsageError
from fm.models import Backbone, create_model
from pretrain.config import RunConfig
from pretrain.data import Layout, Shape
from pretrain.objective import Objective
from pretrain.objectives import build_objective
from pretrain.settings.model import ModelConfig
from pretrain.start import start_from
from pretrain.teacher import compared_widths, teacher_of


def build_backbone(model: ModelConfig, layout: Layout) -> Backbone:
    """Build a backbone for the modalities of all parts, normalised by their statistics.

    Raises:
        UsageError: it takes bands that are not read, or there is no such model.
    """
    if model.bands is not None:
        layout = layout.select(model.bands)
    return create_model(
        model.name,
        bands=layout.bands,
        token_m=model.token_m,
        token_groups=model.token_groups,
        normalisation=layout.normalisation(model.normalisation),
        scaling=layout.scaling,
        **model.options,
    )


def build(config: RunConfig, layout: Layout) -> Objective:
    """Build the objective around its backbone, with fresh weights or those of `init_from`."""
    taught = None
    if config.teacher is not None:
        taught = teacher_of(config.teacher, layout, lambda model: build_backbone(model, layout))
    torch.manual_seed(config.seed)  # fresh weights only; nothing else draws from this generator
    backbone = build_backbone(config.model, layout)
    if taught is not None:
        compared_widths(backbone, taught.model)
    objective = build_objective(config.objective, backbone, taught)
    if config.init_from is not None:
        start_from(objective.backbone, config)
    return objective


def images(shapes: Mapping[str, Shape], count: int = 1) -> dict[str, torch.Tensor]:
    """Return `count` samples of these shapes without memory behind them."""
    return {name: torch.empty((count, *shape), device="meta") for name, shape in shapes.items()}


def token_grids(layout: Layout, objective: Objective) -> dict[str, dict[str, tuple[int, int]]]:
    """Return the token grid of each group that a part's samples have, by part.

    Raises:
        FMError: sizes that do not fit the tokens.
        UsageError: series for a model of single images; a group of one token, which leaves
            nothing to predict.
    """
    for part, shapes in layout.shapes.items():
        series = [name for name, shape in shapes.items() if len(shape) == 4]
        if series and not objective.takes_series:
            where = f"data.parts.{part}" if part else "data"
            raise UsageError(
                f"{where}: the samples of {series[0]} are series of {shapes[series[0]][0]} images, "
                f"the model takes single ones; set model.options.time_code_width"
            )
    found = {part: objective.grids(images(shapes)) for part, shapes in layout.shapes.items()}
    for grids in found.values():
        for group, (rows, columns) in grids.items():
            if rows * columns < 2:
                raise UsageError(
                    f"{group}: one token covers the whole sample, so nothing is left to predict; "
                    f"make model.token_m smaller"
                )
    return found
