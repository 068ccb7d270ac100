"""What `fm shards build` asks of a source."""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from shards.format import LabelInfo
from shards.sample import Sample
from shards.writer import Declared


@dataclass(frozen=True)
class Content:
    """What a source has found, ready to be written.

    Attributes:
        name: dataset name.
        samples: made one at a time, in a fixed order.
        total: how many there are.
        modalities: declarations, by name.
        labels: declarations, by name.
        provenance: where it comes from and how it was cut.
        licence: SPDX name or a sentence.
    """

    name: str
    samples: Iterable[Sample]
    total: int
    modalities: Mapping[str, Declared]
    provenance: Mapping[str, Any]
    licence: str
    labels: Mapping[str, LabelInfo] = field(default_factory=dict)


class Source(Protocol):
    """One kind of input: a module with these names."""

    HELP: str

    def configure(self, parser: ArgumentParser) -> None:
        """Add the source's own arguments (`--cache` is there already)."""

    def read(self, arguments: Namespace) -> Content:
        """Open the input and check it; nothing is written yet."""
