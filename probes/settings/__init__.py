"""What the YAML of a protocol may say: one class a family, without torch, so listing stays quick.

A family `NAME` has its settings here and its work in `probes.families.NAME` (a dash becomes an
underscore): `run(job)`, see `probes.families.job`.
"""

from typing import Annotated

from pydantic import Field

from probes.settings.features import OnFeatures
from probes.settings.finetune import Finetune
from probes.settings.grid import Grid
from probes.settings.knn import Knn
from probes.settings.linear import Linear

Settings = Annotated[Linear | Knn | Finetune, Field(discriminator="family")]

__all__ = ["Finetune", "Grid", "Knn", "Linear", "OnFeatures", "Settings"]
