"""The cashew windows: where they lie, and a split of which no two parts share a pixel."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from fm.errors import FMError
from probes.benchmarks import geobench_cashew
from probes.benchmarks.geobench_v1 import CASHEW_S2
from tests.probes.layouts import geobench as layout
from tests.probes.layouts.scene import codes

HEIGHT, WIDTH, SIDE = 1186, 1122, 256
BANDS = (*layout.L2A_NAMES, "Cloud Probability")
CORNERS = [
    (row, col)
    for row in (*range(0, HEIGHT - SIDE, 128), HEIGHT - SIDE)
    for col in (*range(0, WIDTH - SIDE, 128), WIDTH - SIDE)
]
"""Of the windows in torchgeo's order, which the converter kept."""
SCENE = codes(6, HEIGHT, WIDTH, 1)


def write(root: Path, corners=CORNERS) -> Path:
    """The published folder with 25 dates of 72 windows; a window's dates are one file."""
    side = {name: np.zeros((SIDE, SIDE), np.float32) for name in BANDS}
    layout.write(
        root, lambda n: side, lambda n: SCENE[:SIDE, :SIDE], 7, "segmentation", ("x",), {"train": 1}
    )
    (root / "x.hdf5").unlink()
    names = [f"sample_{n}" for n in range(25 * len(corners))]
    for n, (row, col) in enumerate(corners):
        first = root / f"sample_{25 * n}.hdf5"
        with h5py.File(first, "w") as file:
            file["label"] = SCENE[row : row + SIDE, col : col + SIDE].astype(np.int16)
        for date in range(1, 25):
            (root / f"sample_{25 * n + date}.hdf5").hardlink_to(first)
    order = np.random.default_rng(0).permutation(len(corners)).tolist()
    part = {n: ("train" if k < 54 else "valid" if k < 70 else "test") for k, n in enumerate(order)}
    lists = {p: [n for i, n in enumerate(names) if part[i // 25] == p] for p in geobench_lists()}
    (root / "default_partition.json").write_text(json.dumps(lists))
    return root


def geobench_lists() -> tuple[str, ...]:
    return "train", "valid", "test"


def seen(listing) -> dict[str, np.ndarray]:
    """Pixels of the scene that each part of the split holds."""
    found = {part: np.zeros((HEIGHT, WIDTH), bool) for part in ("train", "val", "test", "")}
    for name, part in zip(listing.ids, listing.split, strict=True):
        row, col = CORNERS[int(name.removeprefix("sample_")) // 25]
        found[part][row : row + SIDE, col : col + SIDE] = True
    return found


def test_the_blocked_split_shares_no_pixel_and_the_published_does(tmp_path):
    root = write(tmp_path)
    published = geobench_cashew.scan_windows(root, (CASHEW_S2,), blocked=False)
    assert len(published.ids) == geobench_cashew.TOTAL == 1800
    assert [published.split.count(p) for p in ("train", "val", "test")] == [1350, 400, 50]
    leaking = seen(published)
    assert (leaking["train"] & leaking["test"]).sum() > 0.5 * leaking["test"].sum()
    assert len(set(published.groups)) == 72

    blocked = geobench_cashew.scan_windows(root, (CASHEW_S2,), blocked=True)
    assert [blocked.split.count(p) for p in ("train", "val", "test")] == [600, 200, 600]
    apart = seen(blocked)
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        assert not (apart[one] & apart[other]).any()
    assert apart["train"].sum() + apart["val"].sum() + apart["test"].sum() > 0.95 * HEIGHT * WIDTH


def test_samples_that_are_numbered_otherwise_are_refused(tmp_path):
    wrong = [CORNERS[n % 8 * 9 + n // 8] for n in range(72)]  # column by column
    with pytest.raises(FMError, match=r"sample_0: its map is not that of its neighbours"):
        geobench_cashew.scan_windows(write(tmp_path / "a", wrong), (CASHEW_S2,), blocked=True)
    with pytest.raises(FMError, match="lacks samples of a window"):
        geobench_cashew.scan_windows(
            write(tmp_path / "b", CORNERS[:30]), (CASHEW_S2,), blocked=True
        )
    for name in ("sample_1800", "image_4", "sample_-1"):
        with pytest.raises(FMError, match=f"{name}: expected sample_0 to sample_1799"):
            geobench_cashew.window_of(name)
