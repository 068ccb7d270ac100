"""What is asked of a sample: a class, labels, numbers, a map of classes, its like, its place."""

from probes.tasks.base import TASKS, Task
from probes.tasks.classes import Classes
from probes.tasks.geolocation import Geolocation
from probes.tasks.labels import Labels
from probes.tasks.maps import Maps
from probes.tasks.retrieval import Retrieval
from probes.tasks.values import Values

TASKS.update(
    {
        "class": Classes(),
        "multilabel": Labels(),
        "regression": Values(),
        "segmentation": Maps(),
        "change": Maps(),
        "retrieval": Retrieval(),
        "geolocation": Geolocation(),
    }
)

__all__ = ["TASKS", "Task"]
