"""The settings of distillation."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fm.config import Config
from pretrain.augment import ViewConfig
from pretrain.settings.kinds import Positive
from pretrain.settings.teacher import TeacherConfig

Weight = Annotated[float, Field(ge=0)]


class FeatureTerm(Config):
    """How features are compared with the teacher's.

    Attributes:
        weight: of this term in the loss; 0 leaves it out.
        squared: share of the squared error in it.
        cosine: share of the cosine distance.
        smooth_l1: share of the smooth L1.
        beta: where that one's parabola becomes a line.
        whiten: bring each target vector to mean 0 and variance 1 over its channels first
            (a LayerNorm without weights), so that no channel of a teacher's own scale decides.
    """

    weight: Weight = 1.0
    squared: Weight = 0.0
    cosine: Weight = 0.0
    smooth_l1: Weight = 0.0
    beta: float = Field(2.0, gt=0)
    whiten: bool = False

    @model_validator(mode="after")
    def _of_something(self) -> Self:
        if self.weight and not self.squared + self.cosine + self.smooth_l1:
            raise ValueError("give squared, cosine or smooth_l1 a share, or weight=0")
        return self


class PooledTerm(FeatureTerm):
    """Of the pooled features: AM-RADIO's cosine distance, unless something else is said.

    Attributes:
        cosine: as of all.
    """

    cosine: Weight = 1.0


class TokenTerm(FeatureTerm):
    """Of the tokens: feature distillation's smooth L1 on whitened targets.

    Attributes:
        smooth_l1: as of all.
        whiten: as of all.
    """

    smooth_l1: Weight = 1.0
    whiten: bool = True


class RelationTerms(Config):
    """How samples lie to each other, by their pooled features (`pretrain.losses.relations`).

    Beside a task's loss the paper gave distances 25 and angles 50.

    Attributes:
        distance: weight of the distances between samples.
        angle: weight of the angles; takes memory of the cube of the batch.
    """

    distance: Weight = 0.0
    angle: Weight = 0.0


class DistillConfig(Config):
    """Distillation of one model into another.

    Attributes:
        kind: tells objectives apart.
        teacher: see `TeacherConfig`.
        pooled: loss on pooled features.
        tokens: loss on tokens; the teacher's grids are resampled to the student's.
        relations: loss on how the samples of a batch lie to each other.
        head: between the student's width and the teacher's: `linear` (FitNets' regressor, feature
            distillation's 1x1 convolution), or `mlp`, two layers with LayerNorm and GELU between.
        view: how samples are cut and turned for both, and changed for the student alone; null
            shows both what is stored.
        teacher_size: pixels of the finest grid to which the teacher's view is resampled; null
            shows it at the student's size.
        groups: token group of the student to the teacher's that it learns from, where their names
            do not say it and the teacher has several.
    """

    kind: Literal["distill"] = "distill"
    teacher: TeacherConfig
    pooled: PooledTerm = PooledTerm()
    tokens: TokenTerm = TokenTerm()
    relations: RelationTerms = RelationTerms()
    head: Literal["linear", "mlp"] = "linear"
    view: ViewConfig | None = None
    teacher_size: Positive | None = None
    groups: dict[str, str] | None = None

    @model_validator(mode="after")
    def _learns_something(self) -> Self:
        terms = (self.pooled.weight, self.tokens.weight)
        if not any((*terms, self.relations.distance, self.relations.angle)):
            raise ValueError("all weights are 0: pooled, tokens, relations; give one of them more")
        if self.teacher_size is not None and self.view is not None and not self.view.resize:
            raise ValueError("teacher_size: views that are not resized have one size; leave it out")
        return self

    @property
    def relating(self) -> bool:
        """Samples of a batch are compared with each other."""
        return bool(self.relations.distance or self.relations.angle)
