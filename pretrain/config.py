"""What a pretraining run is made of: the typed config behind every recipe."""

import hashlib
import json
from typing import Any, Self

from pydantic import Field, model_validator

from fm.config import Config
from pretrain.objectives import ObjectiveConfig, distilling
from pretrain.objectives.place.satclip import SatCLIPConfig
from pretrain.schedule import Clock, between
from pretrain.settings.checkpoint import CheckpointConfig
from pretrain.settings.data import DataConfig
from pretrain.settings.engine import EngineConfig
from pretrain.settings.guard import GuardConfig
from pretrain.settings.init import InitConfig
from pretrain.settings.model import AugmentConfig, ModelConfig
from pretrain.settings.monitor import MonitorConfig
from pretrain.settings.optimizer import OptimizerConfig
from pretrain.settings.probe import ProbeConfig
from pretrain.settings.schedule import ScheduleConfig
from pretrain.settings.teacher import TeacherConfig
from pretrain.settings.validation import ValidationConfig
from pretrain.settings.watchdog import WatchdogConfig


class RunConfig(Config):
    """One pretraining run.

    Attributes:
        name: the run's and the model's name.
        follows: the paper, table and figures a recipe follows.
        out: the run folder.
        seed: of weights, order, masks and augmentation.
        init_from: checkpoint folder, or weight file of others, whose backbone weights start this
            run.
        init: what such a file cannot say, and what becomes of the first layer.
    """

    name: str
    follows: str = ""
    out: str
    seed: int = Field(0, ge=0, lt=2**63)
    init_from: str | None = None
    init: InitConfig | None = None
    data: DataConfig
    model: ModelConfig = ModelConfig()
    objective: ObjectiveConfig
    augment: AugmentConfig = AugmentConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    engine: EngineConfig = EngineConfig()
    guard: GuardConfig = GuardConfig()
    watchdog: WatchdogConfig = WatchdogConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    monitor: MonitorConfig = MonitorConfig()
    probe: ProbeConfig | None = None
    validation: ValidationConfig | None = None

    @model_validator(mode="after")
    def _init_of_something(self) -> Self:
        if self.init is not None and self.init_from is None:
            raise ValueError("init says how init_from begins the run; give init_from, or no init")
        return self

    @model_validator(mode="after")
    def _frozen_weights_of_something(self) -> Self:
        frozen = isinstance(self.objective, SatCLIPConfig) and self.objective.image == "frozen"
        if frozen and self.init_from is None:
            raise ValueError(
                "objective.image: a frozen image encoder has to know something; give its weights "
                "by init_from, or learn it (tuned)"
            )
        return self

    @model_validator(mode="after")
    def _learned_where_it_is_new(self) -> Self:
        objective: Any = self.objective
        while getattr(objective, "beside", None) is not None:
            objective = objective.beside
        policy = None if self.init is None else self.init.first_layer
        if getattr(objective, "frozen_embedding", False) and policy not in (None, "select"):
            raise ValueError(
                f"objective.frozen_embedding keeps the first layer that init.first_layer={policy} "
                f"makes new for weights that never saw it; leave one of the two out"
            )
        return self

    @model_validator(mode="after")
    def _bands_for_somebody(self) -> Self:
        if self.model.bands is not None and self.teacher is None:
            raise ValueError(
                "model.bands: what the model leaves out of the bands that are read is for a "
                "teacher alone (objective.kind=distill); read fewer by data.bands"
            )
        return self

    @property
    def teacher(self) -> TeacherConfig | None:
        """The model that the run learns from, None where there is none."""
        found = distilling(self.objective)
        return None if found is None else found.teacher

    def taught_by(self, teacher: TeacherConfig) -> Self:
        """Return the same run with its teacher described otherwise."""

        def told(objective: Any) -> Any:
            beside = getattr(objective, "beside", None)
            changed = {"teacher": teacher} if beside is None else {"beside": told(beside)}
            return objective.model_copy(update=changed)

        return self.model_copy(update={"objective": told(self.objective)})

    @model_validator(mode="after")
    def _can_be_validated(self) -> Self:
        if self.validation is None:
            return self
        if not isinstance(self.objective, SatCLIPConfig):
            raise ValueError(
                f"validation: {self.objective.kind} cannot be judged on held-out samples; watch "
                f"its backbone by a benchmark (probe)"
            )
        if self.data.parts is not None:
            raise ValueError(
                "validation is of one dataset, and data.parts are several; leave it out"
            )
        return self

    @model_validator(mode="after")
    def _by_the_batch(self) -> Self:
        """Fill in the steps and the rate that are stated in samples or for another batch."""
        for key in ("optimizer", "schedule"):
            # frozen: object's own way in
            object.__setattr__(self, key, getattr(self, key).resolved(self.data.batch_size))
        return self

    def weight_decay(self, clock: Clock) -> float | None:
        """Return the weight decay of a step, None where it stays as the optimizer has it."""
        start, end = self.optimizer.weight_decay, self.schedule.weight_decay_end
        return None if end is None else between(start, end, clock.share())

    def identity(self) -> dict[str, Any]:
        """Return what must not change when a run is resumed: all but paths and display."""
        values = self.model_dump(mode="json")
        for key in (
            "out",
            "follows",
            "guard",
            "watchdog",
            "checkpoint",
            "monitor",
            "probe",
            "validation",
        ):
            values.pop(key)
        values["data"] = self.data.identity()
        if (teacher := self.teacher) is not None:
            place = values["objective"]
            while place.get("beside"):
                place = place["beside"]
            place["teacher"] = teacher.identity()
        if self.model.bands is None:
            del values["model"]["bands"]
        values["optimizer"] = self.optimizer.identity()
        values["schedule"] = self.schedule.identity()
        if self.init is None:  # as if absent: older runs go on
            del values["init"]
        for key in ("micro_batch", "activation_checkpointing", "compile"):
            values["engine"].pop(key)
        return values

    def hash(self) -> str:
        """Hash `identity()`, 16 hex digits."""
        text = json.dumps(self.identity(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
