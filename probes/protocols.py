"""Protocols: named, versioned recipes, one YAML file each under `configs/probes/`."""

from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, Field, field_validator

from fm.config import Config, list_recipes, parse, read_yaml, recipe_folder
from fm.errors import UsageError, suggest
from probes import readout

Parts = Annotated[tuple[str, ...], AfterValidator(readout.check)]
"""Parts of a feature vector, see `probes.readout`."""


class Grid(Config):
    """Values spaced evenly in their logarithm, from `low` to `high`."""

    low: float = Field(gt=0)
    high: float = Field(gt=0)
    count: int = Field(ge=2, le=1000)

    def values(self) -> list[float]:
        """The values, ascending."""
        return [float(v) for v in np.geomspace(self.low, self.high, self.count)]


class Linear(Config):
    """Logistic regression on features standardised with the training mean and deviation.

    `input` says which features: the model's (those that `readout` names), or a floor. C is chosen
    on val by the benchmark's primary metric, the smallest C of equal ones; the model fitted on
    train alone (not on train and val) is scored on test once. `per_class` bounds the training
    samples of each class, drawn by the seed, the same for every model; val and test are whole.
    """

    family: Literal["linear"]
    input: Literal["model", "raw-pixel", "image-statistics"] = "model"
    readout: Parts = ("pooled",)
    per_class: int | None = Field(None, ge=1)
    c: Grid
    search_tol: float = 1e-4
    tol: float = 1e-7
    precision: Literal["float32", "bfloat16"] = "float32"


class Knn(Config):
    """Cosine nearest neighbours; k is chosen on val, the smallest of equal ones."""

    family: Literal["knn"]
    readout: Parts = ("pooled",)
    k: tuple[int, ...]
    temperature: float = Field(0.07, gt=0)
    center: bool = True
    precision: Literal["float32", "bfloat16"] = "float32"

    @field_validator("k")
    @classmethod
    def _ascending(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or min(value) < 1 or list(value) != sorted(set(value)):
            raise ValueError("give ascending whole numbers from 1")
        return value


class Finetune(Config):
    """All weights trained by AdamW; learning rate and epoch chosen on val.

    The head starts as the logistic regression (C = `head_c`) on the frozen features of the same
    training samples, so that a random head does not first distort the backbone.
    `per_class` bounds the training samples of each class (multi-label: the training samples by
    this number times the classes), and `val_per_class` those of val; None takes all. The subsets
    are drawn by the seed, the same for every model. Test is always whole.
    """

    family: Literal["finetune"]
    epochs: int = Field(ge=1)
    learning_rates: tuple[float, ...] = Field(min_length=1)
    batch_size: int = Field(64, ge=1)
    weight_decay: float = Field(0.05, ge=0)
    warmup: float = Field(0.1, ge=0, lt=1)
    clip: float = Field(1.0, gt=0)
    head_c: float = Field(1.0, gt=0)
    per_class: int | None = Field(None, ge=1)
    val_per_class: int | None = Field(None, ge=1)


Settings = Annotated[Linear | Knn | Finetune, Field(discriminator="family")]


class Protocol(Config):
    """A recipe: `NAME@VERSION`, what it follows, and its settings.

    `floors` names the protocols on pixels alone that every table carries beside it.
    """

    name: str
    version: int = Field(ge=1)
    help: str
    reference: str
    floors: tuple[str, ...] = ("image-statistics", "raw-pixel")
    settings: Settings

    @property
    def full_name(self) -> str:
        """`NAME@VERSION`."""
        return f"{self.name}@{self.version}"

    @property
    def needs_model(self) -> bool:
        """False for the floors, which look at pixels alone."""
        return not isinstance(self.settings, Linear) or self.settings.input == "model"


def list_protocols() -> list[str]:
    """List the shipped protocols as `NAME@VERSION`."""
    return list_recipes("probes")


def get_protocol(name: str) -> Protocol:
    """Return a protocol.

    Args:
        name: `NAME@VERSION`, or `NAME` for its newest version.

    Raises:
        UsageError: there is none; names the nearest.
    """
    known = list_protocols()
    if name not in known:
        versions = [k for k in known if k.rpartition("@")[0] == name]
        if not versions:
            raise UsageError(f"there is no protocol {name!r}; {suggest(name, known)}")
        name = max(versions, key=lambda k: int(k.rpartition("@")[2]))
    path = recipe_folder() / "probes" / f"{name}.yaml"
    protocol = parse(Protocol, read_yaml(path), str(path))
    if protocol.full_name != name:
        raise UsageError(f"{path}: the file says {protocol.full_name}; its name must be the same")
    return protocol
