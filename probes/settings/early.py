"""Settings of heads that train until val stops improving."""

from pydantic import Field, field_validator

from fm.config import Config


class Early(Config):
    """AdamW at constant rates, one head a rate; each stops when val stops improving.

    Heads are scored on val by the primary metric after each pass over the training samples, or
    after `period` steps where a pass is shorter. A head stops after `patience` scores without a
    better one, or after `evaluations` of them; its weights of the best score are used.
    """

    rates: tuple[float, ...] = Field(min_length=1)
    weight_decay: float = Field(0.01, ge=0)
    batch_size: int = Field(256, ge=1)
    period: int = Field(50, ge=1)
    patience: int = Field(10, ge=1)
    evaluations: int = Field(200, ge=1)

    @field_validator("rates")
    @classmethod
    def _ascending(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(v <= 0 for v in value) or list(value) != sorted(set(value)):
            raise ValueError("give ascending numbers above 0")
        return value
