"""Networks behind the first linear layer of a location encoder."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fm.linear import linear


class Head(nn.Module):
    """Takes the first layer's output before its activation.

    Args:
        width: of the layers.
        depth: hidden layers, the first one included.
        dim: of the embedding.
        dropout: share of pre-activations set to 0 in training.
    """

    def __init__(self, width: int, depth: int, dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth - 1))
        self.last = nn.Linear(width, dim)
        self.dropout = nn.Dropout(dropout)

    def initialise(self, first: Sequence[Tensor], inputs: int) -> None:
        """Draw initial weights; `first` is the weight and bias of the layer before."""

    def activate(self, before: Tensor) -> Tensor:
        """Turn the first layer's output, in its own precision, into the first hidden layer."""
        raise NotImplementedError

    def forward(self, before: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Run the network.

        Args:
            before: `[N, width]`.

        Returns:
            the embedding `[N, dim]`, and every hidden layer after its activation.
        """
        raise NotImplementedError


class MLP(Head):
    """Rectified linear layers, with torch's initialisation."""

    def activate(self, before: Tensor) -> Tensor:
        """Rectify."""
        return torch.relu(self.dropout(before))

    def forward(self, before: Tensor) -> tuple[Tensor, list[Tensor]]:
        """See `Head`."""
        hidden = [self.activate(before)]
        for layer in self.layers:
            hidden.append(torch.relu(self.dropout(through(layer, hidden[-1]))))
        return through(self.last, hidden[-1]), hidden


class Siren(Head):
    """Sinusoidal layers (Sitzmann et al. 2020, arXiv 2006.09661), as SatCLIP has them.

    `sin(w (W x + b))` with w = `first_w` in the first layer and 1 in the others, and a last layer
    without a sine. Weights and biases start uniform within 1 / inputs in the first layer and
    within sqrt(6 / inputs) in the others. SatCLIP trains with dropout 0.5.

    Args:
        width: of the layers.
        depth: hidden layers, the first one included.
        dim: of the embedding.
        dropout: share of pre-activations set to 0 in training.
        first_w: factor in the first sine.
    """

    def __init__(
        self, width: int, depth: int, dim: int, dropout: float = 0.0, first_w: float = 30.0
    ) -> None:
        super().__init__(width, depth, dim, dropout)
        self.first_w = first_w

    def initialise(self, first: Sequence[Tensor], inputs: int) -> None:
        """Draw initial weights; see the class."""
        bound = 1 / inputs
        for value in first:
            nn.init.uniform_(value, -bound, bound)
        for layer in (*self.layers, self.last):
            bound = math.sqrt(6 / layer.in_features)
            nn.init.uniform_(layer.weight, -bound, bound)
            nn.init.uniform_(layer.bias, -bound, bound)

    def activate(self, before: Tensor) -> Tensor:
        """Take the sine."""
        return torch.sin(self.first_w * self.dropout(before))

    def forward(self, before: Tensor) -> tuple[Tensor, list[Tensor]]:
        """See `Head`."""
        hidden = [self.activate(before)]
        for layer in self.layers:
            hidden.append(torch.sin(self.dropout(through(layer, hidden[-1]))))
        return through(self.last, hidden[-1]), hidden


class ResidualSiren(Siren):
    """Sinusoidal layers with averaged pre-activations, as Climplicit has them.

    From the second layer on the sine's argument is the mean of the linear output and the argument
    before it; the first sine is taken of `first_w * sinh(2 z)` (H-SIREN), whose z is what the
    second layer averages with.
    """

    def activate(self, before: Tensor) -> Tensor:
        """Take the sine of the hyperbolic sine."""
        return torch.sin(self.first_w * torch.sinh(2 * before))

    def forward(self, before: Tensor) -> tuple[Tensor, list[Tensor]]:
        """See `Head`."""
        before = self.dropout(before)
        hidden = [self.activate(before)]
        for layer in self.layers:
            before = (self.dropout(through(layer, hidden[-1])) + before) / 2
            hidden.append(torch.sin(before))
        return through(self.last, hidden[-1]), hidden


class Linear(Head):
    """Nothing but the first layer, whose output is the embedding; width and dim are the same."""

    def __init__(self, width: int, depth: int, dim: int, dropout: float = 0.0) -> None:
        nn.Module.__init__(self)

    def forward(self, before: Tensor) -> tuple[Tensor, list[Tensor]]:
        """See `Head`."""
        return before, []


def through(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply a linear layer whose weights may be bfloat16 while its input is float32."""
    assert isinstance(layer, nn.Linear)
    return linear(x.to(layer.weight.dtype), layer.weight, layer.bias)
