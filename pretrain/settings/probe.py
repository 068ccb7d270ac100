"""`probe`: a benchmark that is run while a model is trained."""

from pydantic import Field

from fm.config import Config
from pretrain.settings.kinds import Positive


class ProbeConfig(Config):
    """An online probe; it changes nothing of what is learned.

    Attributes:
        benchmark: as `fm probe --list` names them.
        data: the dataset folder the benchmark reads.
        protocol: likewise.
        every_samples: samples of training between two probes; the last step has one too.
        max_share: of the run's time that probes may take; one that would take more is passed over.
    """

    benchmark: str
    data: str
    protocol: str = "knn"
    every_samples: Positive
    max_share: float = Field(0.05, gt=0, lt=1)
