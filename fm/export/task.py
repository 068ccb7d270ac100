"""What a tracing exporter needs: a function of tensors, what varies of them, inputs to judge on."""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from fm.card import Card
from fm.export.describe import described, inputs_in_words, without_cells
from fm.export.graph import Graph, Signature
from fm.export.written import Settings
from fm.models import Backbone


class Task(Protocol):
    """One function to be exported.

    Attributes:
        graph: takes `dict[str, Tensor]` and returns one.
        results: names of its outputs, in order.
        fixed: the image size is fixed.
    """

    graph: nn.Module
    results: tuple[str, ...]
    fixed: bool

    def names(self) -> list[str]:
        """Return the inputs in their order."""

    def dims(self) -> dict[str, dict[int, Any]]:
        """Return input to what varies of it, for `torch.export`."""

    def traced(self) -> dict[str, Tensor]:
        """Return the inputs that an exporter traces."""

    def trials(self) -> Mapping[str, dict[str, Tensor]]:
        """Return the inputs that an export is judged on, by their description."""

    def wanted(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what our model says of such inputs."""

    def example(self) -> dict[str, Tensor]:
        """Return inputs as a user might give them."""

    def about(self) -> dict[str, Any]:
        """Return inputs and outputs as plain values."""

    def told(self) -> dict[str, Any]:
        """Return the card, as plain values for the inside of the file."""

    def words(self) -> list[str]:
        """Return what a person must know of the inputs, a sentence each."""


class ModelTask:
    """A backbone with the bands it was built for."""

    results: tuple[str, ...] = ("pooled", "tokens")

    def __init__(self, model: Backbone, card: Card, settings: Settings) -> None:
        self.signature = Signature.of(model, settings.values, settings.modalities, settings.tokens)
        self.card = card
        self.graph: nn.Module = Graph(model, stored=self.signature.values == "stored").eval()
        self.fixed = settings.tokens is not None

    def names(self) -> list[str]:
        """See `Task`."""
        return self.signature.names()

    def dims(self) -> dict[str, dict[int, Any]]:
        """See `Task`."""
        return self.signature.dims()

    def traced(self) -> dict[str, Tensor]:
        """See `Task`."""
        return self.signature.traced()

    def trials(self) -> Mapping[str, dict[str, Tensor]]:
        """See `Task`."""
        return self.signature.trials()

    def wanted(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `Task`."""
        return outputs(self.graph, inputs)

    def example(self) -> dict[str, Tensor]:
        """See `Task`."""
        unit = 4 * self.signature.unit()
        return self.signature.sample(1, self.signature.tokens or (unit, unit), 0)

    def about(self) -> dict[str, Any]:
        """See `Task`."""
        return described(self.signature)

    def told(self) -> dict[str, Any]:
        """See `Task`."""
        return without_cells(self.card)

    def words(self) -> list[str]:
        """See `Task`."""
        return inputs_in_words(self.signature)


def outputs(graph: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what our model says, without gradients."""
    with torch.no_grad():
        made: dict[str, Tensor] = graph(dict(inputs))
    return made
