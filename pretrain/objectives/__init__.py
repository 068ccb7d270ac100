"""The objectives, found by the `kind` of their config."""

from typing import Annotated

from pydantic import Field

from fm.linear import quicken
from fm.models import Backbone
from pretrain.objective import Objective
from pretrain.objectives.contrast.caco import CACo, CACoConfig
from pretrain.objectives.contrast.closp import CLOSP, CLOSPConfig
from pretrain.objectives.contrast.decur import DeCUR, DeCURConfig
from pretrain.objectives.contrast.dino import DINO, DINOConfig
from pretrain.objectives.contrast.moco import MoCo, MoCoConfig
from pretrain.objectives.contrast.seco import SeCo, SeCoConfig
from pretrain.objectives.contrast.softcon import SoftCon, SoftConConfig
from pretrain.objectives.distill.config import DistillConfig
from pretrain.objectives.distill.objective import Distill, Taught
from pretrain.objectives.hyper_mae import HyperMAE, HyperMAEConfig
from pretrain.objectives.landcover import LandCover, LandCoverConfig
from pretrain.objectives.mae import MAE
from pretrain.objectives.masked import MAEConfig
from pretrain.objectives.multiscale import MultiScaleConfig, MultiScaleMAE
from pretrain.objectives.place.satclip import SatCLIP, SatCLIPConfig

ObjectiveConfig = Annotated[
    MAEConfig
    | MultiScaleConfig
    | HyperMAEConfig
    | MoCoConfig
    | SoftConConfig
    | DINOConfig
    | SeCoConfig
    | CACoConfig
    | DeCURConfig
    | LandCoverConfig
    | CLOSPConfig
    | SatCLIPConfig
    | DistillConfig,
    Field(discriminator="kind"),
]
"""The union of all objective configs, told apart by `kind`."""

OBJECTIVES: dict[type, type] = {
    MAEConfig: MAE,
    MultiScaleConfig: MultiScaleMAE,
    HyperMAEConfig: HyperMAE,
    MoCoConfig: MoCo,
    SoftConConfig: SoftCon,
    DINOConfig: DINO,
    SeCoConfig: SeCo,
    CACoConfig: CACo,
    DeCURConfig: DeCUR,
    LandCoverConfig: LandCover,
    CLOSPConfig: CLOSP,
    SatCLIPConfig: SatCLIP,
    DistillConfig: Distill,
}
"""Config to the objective it describes, built as `kind(backbone, config)`; `Distill` takes what it
is taught by, too."""

# it may hold any of the others
LandCoverConfig.model_rebuild(_types_namespace={"ObjectiveConfig": ObjectiveConfig})


def build_objective(
    config: ObjectiveConfig, backbone: Backbone, taught: Taught | None = None
) -> Objective:
    """Build the objective a config describes around a backbone.

    Args:
        config: of the objective.
        backbone: that it trains.
        taught: by whom, where the config names a teacher (`distilling`).
    """
    if isinstance(config, LandCoverConfig) and config.beside is not None:
        return LandCover(backbone, config, build_objective(config.beside, backbone, taught))
    if isinstance(config, DistillConfig):
        if taught is None:
            raise ValueError("distill: no teacher was given")
        return quicken(Distill(backbone, config, taught))
    made: Objective = OBJECTIVES[type(config)](backbone, config)
    return quicken(made)


def distilling(config: ObjectiveConfig) -> DistillConfig | None:
    """Return the part of a config that names a teacher, None where none does."""
    if isinstance(config, LandCoverConfig) and config.beside is not None:
        return distilling(config.beside)
    return config if isinstance(config, DistillConfig) else None
