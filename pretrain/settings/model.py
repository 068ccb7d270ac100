"""`model` and `augment`: the backbone, and what is done to pixels before it."""

from typing import Any, Literal

from pydantic import Field

from fm.config import Config


class ModelConfig(Config):
    """The backbone: the arguments of `fm.create_model`.

    Attributes:
        name: size, one of `fm models list --backbones`.
        bands: by modality those of the bands that are read which it takes, in that order, as in
            `data.bands`; null takes all. The others are for a teacher alone (`distill`).
        token_m: ground size of a token in metres, one number or one a group.
        token_groups: group to band names, where a group is not one sensor and level.
        normalisation: kind, fitted to the dataset's statistics; `identity` gives the model physical
            units as they are (reflectance as a fraction, dB).
        options: the family's own arguments, such as `tokenizer`, `depth` or `positions` of a ViT.
    """

    name: str = "vit_tiny"
    bands: dict[str, list[str]] | None = None
    token_m: float | dict[str, float] | None = None
    token_groups: dict[str, list[str]] | None = None
    normalisation: Literal["zscore", "clip_sigma", "divide", "percentile", "identity"] = "zscore"
    options: dict[str, Any] = Field(default_factory=dict)


class AugmentConfig(Config):
    """Augmentation on the device, by counter-based randomness.

    Attributes:
        dihedral: one of the eight flips and quarter turns of the square.
    """

    dihedral: bool = True
