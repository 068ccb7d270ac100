"""Means of points: by axes what they are by the grid, and by their definition in float64."""

import itertools

import pytest
import torch

from fm import points
from fm.points import by_grid, means_of_points


def places(start: float, end: float, count: int) -> torch.Tensor:
    return torch.linspace(start, end, count)[None]


def direct(x: torch.Tensor, down: torch.Tensor, along: torch.Tensor, many: int) -> torch.Tensor:
    """Take each point by its definition, then the mean of those of a pixel."""
    height, width = x.shape[-2:]
    made = torch.zeros(x.shape[1], down.shape[1], along.shape[1], dtype=torch.float64)
    for i, j in itertools.product(range(down.shape[1]), range(along.shape[1])):
        y = min(max(((down[0, i].item() + 1) * height - 1) / 2, 0), height - 1)
        z = min(max(((along[0, j].item() + 1) * width - 1) / 2, 0), width - 1)
        for a, b in itertools.product((int(y), int(y) + 1), (int(z), int(z) + 1)):
            weight = max(1 - abs(y - a), 0) * max(1 - abs(z - b), 0)
            if weight:
                made[:, i, j] += weight * x[0, :, a, b].double()
    return made.unflatten(2, (-1, many)).unflatten(1, (-1, many)).mean(dim=(2, 4))[None]


@pytest.mark.parametrize("many", [1, 2, 3, 5])
@pytest.mark.parametrize(
    ("down", "along"), [((-0.9, 0.7), (-0.4, 0.95)), ((-1, 1), (0.8, -0.99)), ((0.1, 0.2), (1, 1))]
)
def test_means_of_points_are_those_of_the_definition(
    down: tuple[float, float], along: tuple[float, float], many: int
) -> None:
    """Within the image, up to its borders, mirrored, and all within one pixel."""
    x = torch.rand(1, 2, 9, 13, generator=torch.Generator().manual_seed(0))
    rows, columns = places(*down, 4 * many), places(*along, 3 * many)
    want = direct(x, rows, columns, many)
    for made in (means_of_points(x, rows, columns, many), by_grid(x, rows, columns, many)):
        assert made.shape == (1, 2, 4, 3)
        assert (made - want).abs().max() < 2e-6  # places are float32


def test_bands_by_parts_and_of_any_dtype_are_those_of_the_definition(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = torch.Generator().manual_seed(2)
    x = torch.randint(0, 60000, (1, 5, 9, 13), generator=generator)
    rows, columns = places(-0.9, 0.7, 8), places(0.95, -0.4, 6)
    want = direct(x.double(), rows, columns, 2)
    for numbers in (1, 2 * 9 * 13, 2**30):
        monkeypatch.setattr(points, "AT_ONCE", numbers)
        for dtype in (torch.uint16, torch.int32, torch.float32):
            made = means_of_points(x.to(dtype), rows, columns, 2)
            assert made.dtype == torch.float32
            assert (made - want).abs().max() < 2e-6 * 60000


def test_lines_of_one_pixel_and_samples_of_their_own() -> None:
    x = torch.rand(3, 1, 1, 8, generator=torch.Generator().manual_seed(1))
    rows = places(-0.8, 0.8, 4).expand(3, -1)
    columns = torch.stack([torch.linspace(-1 + 0.1 * i, 0.9, 6) for i in range(3)])
    whole = means_of_points(x, rows, columns, 2)
    assert torch.allclose(whole, by_grid(x, rows, columns, 2), atol=1e-6)
    for i in range(3):
        own = slice(i, i + 1)
        assert torch.equal(means_of_points(x[own], rows[own], columns[own], 2), whole[own])
