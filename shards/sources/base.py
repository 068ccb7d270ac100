"""What `fm shards build` asks of a source."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from shards.building.inputs import Files
from shards.building.writer import Declared
from shards.format import LabelInfo
from shards.sample import Sample


class Skip(Exception):
    """Raised by `Content.make` to leave a sample out; the text says why and is counted.

    The same reason should read the same for every sample: the build counts by it.

    Args:
        reason: why.
        name: of the sample, its file or patch, for the list of the first ones; its number in the
            list of tasks where there is none.
    """

    def __init__(self, reason: str, name: str | None = None) -> None:
        super().__init__(reason)
        self.name = name


@dataclass(frozen=True)
class Content:
    """What a source has found, ready to be made into samples in any process.

    Attributes:
        name: dataset name.
        tasks: one small picklable description a sample, in a fixed order.
        make: turns a task into its sample, or raises `Skip`; picklable (a module-level function or
            a `functools.partial` of one), since it runs in worker processes.
        modalities: declarations, by name.
        provenance: where it comes from and how it was cut (JSON).
        licence: SPDX name or a sentence.
        labels: declarations, by name.
        files: names the files that a task is made from, picklable like `make`; None when there are
            none. A build that goes on makes those shards again whose files have changed.
    """

    name: str
    tasks: Sequence[Any]
    make: Callable[[Any], Sample]
    modalities: Mapping[str, Declared]
    provenance: Mapping[str, Any]
    licence: str
    labels: Mapping[str, LabelInfo] = field(default_factory=dict)
    files: Files | None = None

    def samples(self) -> Iterator[Sample]:
        """Make the samples here, one after the other, without those that are skipped."""
        for task in self.tasks:
            try:
                sample = self.make(task)
            except Skip:
                continue
            yield sample


class Source(Protocol):
    """One kind of input: a module with these names."""

    HELP: str
    EXAMPLE: str

    def configure(self, parser: ArgumentParser) -> None:
        """Add the source's own arguments (`--cache` is there already)."""

    def read(self, arguments: Namespace) -> Content:
        """Open the input and check all that can be checked without reading pixels.

        All problems are collected and raised together; nothing is written yet.
        """
