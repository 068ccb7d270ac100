"""Finding like samples."""

from typing import Literal

from probes.settings.features import OnFeatures


class Retrieval(OnFeatures):
    """Rank the gallery by cosine for each query; nothing is trained and nothing is chosen.

    `center` subtracts from each view the mean of that view over the gallery samples first.
    """

    family: Literal["retrieval"]
    center: bool
