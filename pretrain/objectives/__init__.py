"""The objectives, found by the `kind` of their config."""

from fm.errors import UsageError
from fm.models import Backbone
from pretrain.objective import Objective
from pretrain.objectives.mae import MAE, MAEConfig

ObjectiveConfig = MAEConfig
"""The union of all objective configs, told apart by `kind`."""


def build_objective(config: ObjectiveConfig, backbone: Backbone) -> Objective:
    """Build the objective a config describes around a backbone."""
    if isinstance(config, MAEConfig):
        return MAE(backbone, config)
    raise UsageError(f"there is no objective {config!r}")
