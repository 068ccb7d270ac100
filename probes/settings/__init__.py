"""What the YAML of a protocol may say: one class a family, without torch, so listing stays quick.

A family `NAME` has its settings here and its work in `probes.families.NAME` (a dash becomes an
underscore): `run(job)`, see `probes.families.job`.
"""

from typing import Annotated

from pydantic import Field

from probes.settings.attentive import Attentive
from probes.settings.change import Change
from probes.settings.dense import Dense
from probes.settings.features import OnFeatures
from probes.settings.fewshot import Fewshot
from probes.settings.finetune import Finetune
from probes.settings.grid import Grid
from probes.settings.knn import Knn
from probes.settings.linear import Linear
from probes.settings.linear_sgd import LinearSgd
from probes.settings.mlp import Mlp
from probes.settings.place import Gallery, NearestPlace, Prior
from probes.settings.retrieval import Retrieval
from probes.settings.ridge import Ridge
from probes.settings.timeseries import Timeseries

Settings = Annotated[
    Linear
    | Knn
    | Ridge
    | Finetune
    | Dense
    | Change
    | LinearSgd
    | Mlp
    | Attentive
    | Fewshot
    | Retrieval
    | Timeseries
    | Gallery
    | NearestPlace
    | Prior,
    Field(discriminator="family"),
]

__all__ = [
    "Attentive",
    "Change",
    "Dense",
    "Fewshot",
    "Finetune",
    "Gallery",
    "Grid",
    "Knn",
    "Linear",
    "LinearSgd",
    "Mlp",
    "NearestPlace",
    "OnFeatures",
    "Prior",
    "Retrieval",
    "Ridge",
    "Settings",
    "Timeseries",
]
