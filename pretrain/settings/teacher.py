"""`objective.teacher`: the model that a run learns from and does not change."""

from typing import Any, Literal

from pydantic import Field

from pretrain.settings.init import ForeignConfig
from pretrain.settings.model import ModelConfig


class TeacherConfig(ForeignConfig):
    """A checkpoint of ours, or a weight file of others; the other keys are of files.

    Attributes:
        source: checkpoint folder, `eofm/NAME` of weights that eofm carries, or weight file.
        sha256: of its weights; others are refused. A run writes it into its resolved config and
            goes on with no other weights, wherever they lie.
        model: its network, as in `model`: what a plan builds where `source` is not there. Where
            it is there, its architecture must say the same.
        normalisation: `identity` where the file takes physical units as they are, the name of one
            that `known` weights circulate with, or by modality `{kind, shift, scale}`.
        pooling: of files with a `norm`; `mean` when null.
    """

    source: str
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    model: ModelConfig | None = None
    normalisation: str | dict[str, dict[str, Any]] | None = None
    pooling: Literal["mean", "cls"] | None = None

    def identity(self) -> dict[str, Any]:
        """Return what must not change when a run is resumed: the weights, wherever they lie."""
        values = self.model_dump(mode="json", exclude={"model"})
        if self.sha256 is not None:
            del values["source"]
        return values
