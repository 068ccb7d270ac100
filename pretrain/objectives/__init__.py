"""The objectives, found by the `kind` of their config."""

from fm.models import Backbone
from pretrain.objective import Objective
from pretrain.objectives.mae import MAE, MAEConfig

ObjectiveConfig = MAEConfig
"""The union of all objective configs, told apart by `kind`."""

OBJECTIVES: dict[type, type] = {MAEConfig: MAE}
"""Config to the objective it describes, built as `kind(backbone, config)`."""


def build_objective(config: ObjectiveConfig, backbone: Backbone) -> Objective:
    """Build the objective a config describes around a backbone."""
    made: Objective = OBJECTIVES[type(config)](backbone, config)
    return made
