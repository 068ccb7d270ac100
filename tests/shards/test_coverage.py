"""Areas of a polygon in the cells of a grid: exact, wherever the polygon lies."""

import numpy as np
import pytest

from shards.labelling.coverage import coverage


def counted(polygon: np.ndarray, height: int, width: int, fine: int = 64) -> np.ndarray:
    """Share of each cell's points inside a convex polygon."""
    y, x = (np.mgrid[: height * fine, : width * fine] + 0.5) / fine
    inside = np.ones(x.shape, bool)
    turn = np.sign(
        np.cross(polygon[1] - polygon[0], polygon[2] - polygon[1])  # of one way round
    )
    for (ax, ay), (bx, by) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        inside &= turn * ((bx - ax) * (y - ay) - (by - ay) * (x - ax)) >= 0
    return inside.reshape(height, fine, width, fine).mean(axis=(1, 3))


def test_cells_cut_by_straight_edges_have_their_share() -> None:
    box = np.array([[0.25, 0.5], [2.5, 0.5], [2.5, 2.0], [0.25, 2.0]])
    wanted = np.outer([0.5, 1.0, 0.0], [0.75, 1.0, 0.5])
    assert coverage(box, 3, 3) == pytest.approx(wanted, abs=1e-12)
    assert coverage(box[::-1], 3, 3) == pytest.approx(wanted, abs=1e-12)


def test_a_triangle_by_hand() -> None:
    found = coverage(np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]]), 2, 2)
    assert found == pytest.approx(np.array([[1.0, 0.5], [0.5, 0.0]]), abs=1e-12)


@pytest.mark.parametrize("angle", [0.1, 0.7, 1.3])
@pytest.mark.parametrize("centre", [(4.0, 3.5), (0.3, 5.9), (7.8, -0.4)])
def test_turned_squares_agree_with_counted_points(
    angle: float, centre: tuple[float, float]
) -> None:
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    square = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * 2.1 @ turn.T + centre
    found = coverage(square, 7, 8)
    assert found == pytest.approx(counted(square, 7, 8), abs=0.02)
    whole = coverage(square + 10, 30, 30)
    assert whole.sum() == pytest.approx(4.2**2, abs=1e-9)


def test_what_lies_outside_counts_nowhere() -> None:
    box = np.array([[-5.0, -5.0], [20.0, -5.0], [20.0, 20.0], [-5.0, 20.0]])
    assert coverage(box, 4, 6) == pytest.approx(np.ones((4, 6)), abs=1e-12)
    assert coverage(box + 100, 4, 6).sum() == 0
    assert coverage(box - 100, 4, 6).sum() == pytest.approx(0, abs=1e-9)
