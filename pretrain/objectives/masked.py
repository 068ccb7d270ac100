"""The settings of masked autoencoders."""

from typing import Literal

from pydantic import Field

from fm.config import Config
from pretrain import masking
from pretrain.objectives.decoders import DecoderConfig
from pretrain.objectives.targets import Target


class MaskedConfig(Config):
    """What all masked autoencoders share.

    Attributes:
        mask_ratio: share of the tokens that the encoder does not see.
        mask: `group`, the ratio in each group on its own; `consistent`, groups of equal grid and
            images of a series alike; `flat`, one draw over the tokens of all groups
            (`pretrain.masking.draw`); one draw covers all images of a series otherwise.
        target: what is predicted: `token` normalises the target to mean 0 and variance 1 within
            each token and modality (the paper's normalised pixels, sec. 4.1); `band` within each
            band of it; `pixel` predicts the normalised input as it is.
        legacy_unbiased_variance: normalise targets by the variance with one less in its divisor,
            as SpectralEarth does.
        spectral_angle: weight of the mean angle (radians) between predicted and target spectra
            beside the squared error.
        legacy_channel_order: outputs of released SatMAE and SatMAE++ decoders: the groups' outputs
            one after another stand for the bands of the image in their order, so a group's head
            predicts bands of another group.
        visible: weight of the mean loss of the tokens that the encoder sees, beside that of the
            masked ones (weight 1); 0 predicts masked tokens alone, as published.
        spectral_views: number of simulated sensors for modalities under a spectral basis
            (`fm.models.embed.spectral_views`): three samples of four are seen through one of them
            and predict the whole spectrum; 0 shows every sample as it is.
        decoder: see `DecoderConfig`.
    """

    mask_ratio: float = Field(0.75, gt=0, lt=1)
    mask: masking.Kind = "group"
    target: Target = "token"
    legacy_unbiased_variance: bool = False
    spectral_angle: float = Field(0.0, ge=0)
    legacy_channel_order: bool = False
    visible: float = Field(0.0, ge=0)
    spectral_views: int = Field(0, ge=0, le=4096)
    decoder: DecoderConfig = DecoderConfig()


class MAEConfig(MaskedConfig):
    """Masked autoencoding.

    Attributes:
        kind: tells objectives apart.
    """

    kind: Literal["mae"] = "mae"
