"""Location encoders as graphs: coordinates in, an embedding out."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fm.errors import UsageError
from fm.export import onnx_file, torch_export
from fm.export.task import outputs
from fm.export.written import Written
from fm.files import write_json
from fm.location import checkpoint
from fm.location.encoder import LocationEncoder, Sum

FORMATS = {"torch-export": torch_export.fill, "onnx": onnx_file.fill}


class _Graph(nn.Module):
    def __init__(self, encoder: LocationEncoder | Sum) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        told = {name: inputs[name] for name in ("month",) if name in inputs}
        return {"embedding": self.encoder(inputs["lonlat"], **told)}


class PlacesTask:
    """A location encoder; see `fm.export.task.Task`.

    Args:
        encoder: in `eval()`.
        told: what its `location.json` says.
    """

    results: tuple[str, ...] = ("embedding",)
    fixed = True

    def __init__(self, encoder: LocationEncoder | Sum, told: Mapping[str, Any]) -> None:
        self.encoder, self._told = encoder, dict(told)
        self.season = getattr(encoder, "month", None) is not None
        self.graph: nn.Module = _Graph(encoder).eval()

    def names(self) -> list[str]:
        """See `Task`."""
        return ["lonlat"] + (["month"] if self.season else [])

    def dims(self) -> dict[str, dict[int, Any]]:
        """See `Task`."""
        batch = torch.export.Dim("batch")
        return {name: {0: batch} for name in self.names()}

    def _sample(self, count: int, seed: int) -> dict[str, Tensor]:
        draw = torch.rand(
            (count, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.float64
        )
        made = {
            "lonlat": draw[:, :2] * torch.tensor([360.0, 180.0]) - torch.tensor([180.0, 90.0]),
            "month": 1 + 11 * draw[:, 2],
        }
        return {name: made[name] for name in self.names()}

    def traced(self) -> dict[str, Tensor]:
        """See `Task`."""
        return self._sample(5, 1000)

    def trials(self) -> Mapping[str, dict[str, Tensor]]:
        """Return places all over the globe, the poles and the date line among them."""
        edges = torch.tensor(
            [[0.0, 90.0], [0.0, -90.0], [180.0, 0.0], [-180.0, 0.0], [13.4, 52.5]],
            dtype=torch.float64,
        )
        cases = {f"{n} places, seed {n}": self._sample(n, n) for n in (1, 300)}
        corners = self._sample(len(edges), 7) | {"lonlat": edges}
        return {**cases, "poles and date line": corners}

    def wanted(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `Task`."""
        return outputs(self.graph, inputs)

    def example(self) -> dict[str, Tensor]:
        """See `Task`."""
        return self._sample(2, 0)

    def about(self) -> dict[str, Any]:
        """See `Task`."""
        units = {"lonlat": "degrees (lon, lat)", "month": "1 to 12, fractions allowed"}
        shapes: dict[str, list[str | int]] = {"lonlat": ["batch", 2], "month": ["batch"]}
        return {
            "inputs": {
                name: {"dtype": "float64", "shape": shapes[name], "unit": units[name]}
                for name in self.names()
            },
            "outputs": {"embedding": ["batch", self.encoder.dim]},
        }

    def told(self) -> dict[str, Any]:
        """See `Task`."""
        return self._told

    def words(self) -> list[str]:
        """See `Task`."""
        said = ["`lonlat` is [batch, 2] float64: longitude and latitude in degrees."]
        if self.season:
            said.append("`month` is [batch] float64, 1 to 12, fractions allowed.")
        return said


def is_encoder(folder: str | os.PathLike[str]) -> bool:
    """Say whether a folder holds a location encoder."""
    return (Path(folder) / checkpoint.DESCRIPTION).is_file()


def write(
    aside: Path, folder: str | os.PathLike[str], to: str, tolerance: float | None
) -> tuple[Written, dict[str, Any]]:
    """Write a location encoder and compare.

    Returns:
        what was written, and what `location.json` says.

    Raises:
        UsageError: another format.
    """
    if to not in FORMATS:
        raise UsageError(
            f"{folder}: a location encoder is exported to {' or '.join(FORMATS)}, not {to}"
        )
    told = checkpoint.describe(folder)
    task = PlacesTask(checkpoint.load(folder), told)
    written = FORMATS[to](aside, task, tolerance)
    write_json(aside / checkpoint.DESCRIPTION, told)
    return written, told
