"""A fresh location encoder as a config says it: for every objective that learns places."""

from typing import Any

from pydantic import Field, model_validator

from fm import location
from fm.config import Config
from fm.errors import UsageError
from fm.location.encoder import LocationEncoder
from pretrain.settings.kinds import Positive


class EncoderConfig(Config):
    """A location encoder: arguments of `fm.location.create`.

    The defaults are SatCLIP's network at L = 10 with exact harmonics, without its dropout of 0.5
    (which torch would draw: another one on other ranks).

    Attributes:
        encoding: of places, one of `fm.location.list_encodings()`.
        head: the network behind its first layer.
        width: of the hidden layers.
        depth: hidden layers.
        first_w: factor in the first sine.
        options: of the encoding; left out, `{L: 10}` for harmonics and none for others.
    """

    encoding: str = "sh"
    head: str = "siren"
    width: Positive = 512
    depth: Positive = 2
    first_w: float = Field(30.0, gt=0)
    options: dict[str, bool | int | float | str] = Field({"L": 10})

    @model_validator(mode="before")
    @classmethod
    def _degrees_are_of_harmonics(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("encoding", "sh") != "sh":
            return {"options": {}, **values}
        return values

    def encoder(self, dim: int, where: str, dim_is: str, **more: Any) -> LocationEncoder:
        """Make the encoder with fresh weights, for embeddings of `dim`.

        Args:
            dim: of an embedding.
            where: key of this config, for errors.
            dim_is: key that says `dim`.
            more: arguments of `fm.location.create` that are not of every objective.

        Raises:
            UsageError: an unknown name or option, or a value out of range.
        """
        told = {name: getattr(self, name) for name in EncoderConfig.model_fields} | more
        options: dict[str, Any] = dict(told.pop("options"))
        if clash := sorted({*told, "dim", "dropout", "season"} & options.keys()):
            raise UsageError(
                f"{where}.options.{clash[0]}: options are of the encoding; sizes stand beside it, "
                f"dim is {dim_is}, and there is no dropout"
            )
        try:
            return location.create(**told, dim=dim, **options)
        except UsageError as error:
            raise UsageError(f"{where}: {error}") from None
