"""Attention pooling over frozen tokens."""

from typing import Literal

from pydantic import Field

from probes.settings.early import Early
from probes.settings.few import FewLabels


class Attentive(Early, FewLabels):
    """One cross-attention layer over the frozen tokens, then a linear layer.

    `queries`: `one` learned query for all outputs, or one a `class`, each read by its own output.
    Tokens are kept in memory (and in the cache) up to `memory_mb`, and encoded anew for every
    batch above that.
    """

    family: Literal["attentive"]
    queries: Literal["one", "class"]
    heads: int = Field(ge=1)
    memory_mb: int = Field(2048, ge=0)
    precision: Literal["float32", "bfloat16"] = "float32"
