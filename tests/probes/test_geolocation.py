"""Geolocation as a benchmark: any dataset with places, every door from pixels to a result."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import fm
import fm.location
from fm.errors import FMError, UsageError
from fm.geo import block_id, great_circle_m
from probes.benchmarks import geolocation as benchmarks
from probes.benchmarks import get_benchmark
from probes.benchmarks.geolocation import LEFT_OUT, Rule, located, open_shards
from probes.families import gallery, knn, linear, nearest_place, prior, ridge
from probes.geolocation import pictures
from probes.geolocation.cells import NONE, partition
from probes.judging.evaluation import evaluate_many
from probes.judging.kept import Kept, beside
from probes.location.points import on_sphere
from probes.protocols import get_protocol
from probes.settings import Gallery, NearestPlace, Prior
from probes.statistics.places import PlaceAnswers
from shards.building.writer import Declared, write_dataset
from shards.sample import Sample
from tests.probes import standin

RULE = Rule("random", 500.0, largest=12, smallest=3)
SHAPE = (3, 4, 4)


def colours(lonlat: np.ndarray) -> np.ndarray:
    """A picture whose colour tells the place: 8-bit numbers of the unit vector."""
    lon, lat = np.radians(lonlat).T
    xyz = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], 1)
    return np.rint(127 + 120 * xyz).astype(np.uint8)


def write(out: Path, lonlat: np.ndarray, odd: int = 0) -> Path:
    """Write one flat picture a place, NaN an unknown one; the first `odd` are larger."""
    known = np.where(np.isfinite(lonlat), lonlat, 0.0)
    samples = [
        Sample(
            key=f"p{n:05d}",
            arrays={"rgb_0": np.tile(colour[:, None, None], (1, 4 + (n < odd), 4))},
            lonlat=tuple(place) if np.isfinite(place).all() else None,
        )
        for n, (place, colour) in enumerate(zip(lonlat, colours(known), strict=True))
    ]
    write_dataset(
        out,
        samples,
        name="places",
        modalities={"rgb_0": Declared("rgb", ("R", "G", "B"))},
        provenance={},
        licence="CC0-1.0",
    )
    return out


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("world") / "ds", on_sphere(700, 4))


def job_of(settings, folder: Path, rule: Rule = RULE, x: np.ndarray | None = None):
    data = located(open_shards(folder), rule)
    if x is None:
        pixels = data.read(np.arange(len(data.split))).pixels["rgb_0"]
        x = pixels.mean((2, 3)).astype(np.float64) - 127
    return standin.job(settings, get_benchmark("geolocation-random"), data, x=x)


def test_cells_are_made_of_training_places_alone(world: Path) -> None:
    data = open_shards(world)
    first = located(data, RULE)
    lonlat = first.lonlat(np.arange(700))
    train = (first.split == "train") | (first.split == LEFT_OUT)
    want = partition(lonlat[train], largest=12, smallest=3)
    assert first.cells.names == want.names
    assert (first.cells.centres == want.centres).all()
    # other places of val and test move no cell and no class
    moved = np.where(train[:, None], lonlat, on_sphere(700, 9))
    second = located(replace(data, lonlat=lambda index: moved[index]), RULE)
    assert (second.split == first.split).all()
    assert second.cells.names == first.cells.names
    assert (second.cells.centres == first.cells.centres).all()
    assert (second.targets[train] == first.targets[train]).all()


def test_training_samples_of_dropped_cells_leave_and_test_samples_stay(world: Path) -> None:
    data = located(open_shards(world), replace(RULE, smallest=8))
    gone = data.split == LEFT_OUT
    assert gone.sum() == data.cells.left_out > 0
    assert (data.targets[gone] == NONE).all()
    assert (data.targets[data.of("train")] >= 0).all()
    assert np.bincount(data.targets[data.of("train")]).tolist() == data.cells.counts.tolist()
    test = data.of("test")
    assert len(test) == pytest.approx(140, abs=1)
    assert (data.targets[test] == NONE).any()
    assert any("count as any other" in note for note in data.notes)


def test_blocks_are_whole_and_the_notes_tell_what_they_cost(world: Path) -> None:
    data = located(open_shards(world), replace(RULE, split="blocks", block_km=2000.0))
    assert (data.unit == block_id(data.lonlat(np.arange(700)), 2000.0)).all()
    for unit in np.unique(data.unit):
        own = set(data.split[data.unit == unit].tolist()) - {LEFT_OUT}
        assert len(own) <= 1
    assert any("nearest training image is within 1/25/200" in note for note in data.notes)


def test_samples_without_a_place_or_of_another_shape_are_left_out(tmp_path: Path) -> None:
    lonlat = on_sphere(200, 1)
    lonlat[50:60] = np.nan
    data = located(open_shards(write(tmp_path / "ds", lonlat, odd=5)), RULE)
    assert len(data.split) == 185
    assert "p00004" not in data.shards
    assert "p00055" not in data.shards
    assert "10 samples without a place are left out" in data.notes
    assert "5 samples of another shape are left out" in data.notes
    assert (data.lonlat(np.array([0]))[0] == lonlat[5]).all()


def test_what_cannot_be_asked_is_refused(tmp_path: Path) -> None:
    nowhere = write(tmp_path / "nowhere", np.full((5, 2), np.nan))
    with pytest.raises(FMError, match="no sample has a place"):
        get_benchmark("geolocation-random").load(nowhere)
    near = write(tmp_path / "near", on_sphere(60, 2) * 1e-3 + 2)
    with pytest.raises(FMError, match="geolocation-local-blocks has smaller ones"):
        get_benchmark("geolocation-blocks").load(near)
    spot = write(tmp_path / "spot", np.full((20, 2), 2.0))
    with pytest.raises(FMError, match=r"blocks of 2.5 km\); take a larger dataset"):
        get_benchmark("geolocation-local-blocks").load(spot)
    two = write(tmp_path / "two", on_sphere(2, 2))
    with pytest.raises(FMError, match=r"train, val, test; take a larger dataset"):
        get_benchmark("geolocation-random").load(two)
    few = write(tmp_path / "few", on_sphere(12, 2))
    with pytest.raises(FMError, match="no cell holds 10 of"):
        get_benchmark("geolocation-random").load(few)


@pytest.mark.parametrize(
    ("family", "protocol"), [(linear, "linear"), (ridge, "ridge"), (knn, "knn")]
)
def test_heads_find_places_that_colours_tell(world: Path, family, protocol: str) -> None:
    job = job_of(get_protocol(protocol).settings, world)
    outcome = family.run(job)
    test = job.data.of("test")
    ways = 1 if protocol == "ridge" else 3
    assert outcome.predictions.shape == (len(test), ways, 2)
    found = job.task.answers(job.data, test, outcome.predictions).metrics
    metrics = {k: float(v) for k, v in found(np.ones(len(np.unique(job.data.unit[test])))).items()}
    # the cells are some 3000 km wide: what the best of them gives is what there is to have, and
    # one hyperplane a cell on three features (ridge) does not find it
    places = job.data.lonlat(test)
    best = job.data.cells.centres[job.data.cells.nearest(places)[0]]
    ideal = np.median(great_circle_m(places, best)) / 1000
    assert ideal < 1300
    assert metrics["km_median"] < ideal * (3 if protocol == "ridge" else 1.15)
    assert ("km_median_tree" in metrics) == (ways == 3)
    # chosen on val by the primary metric, which is smaller for better
    values = [v for v in outcome.selection["scores"] if v is not None]
    assert max(values) < 0
    assert outcome.selection["grid"][int(np.argmax(values))] == outcome.selection["chosen"]
    # the answer is a centre of a cell; the head fits cells, never places
    centres = {tuple(c) for c in job.data.cells.centres.tolist()}
    assert {tuple(p) for p in outcome.predictions[:, 0].tolist()} <= centres
    again = outcome.predict(outcome.features[test])
    assert np.allclose(again, outcome.predictions)


def test_a_head_never_fits_a_place_that_lies_in_no_cell(world: Path) -> None:
    settings = get_protocol("dinov2-logreg").settings
    small = settings.model_copy(update={"c": settings.c.model_copy(update={"count": 2})})
    job = job_of(small, world, replace(RULE, smallest=8))
    val = job.data.of("val")
    assert (job.data.targets[val] == NONE).any()
    assert linear.run(job).predictions.shape[1:] == (3, 2)
    assert (job.data.targets[job.known(val)] >= 0).all()


def test_the_prior_answers_without_looking(world: Path) -> None:
    cell = job_of(Prior(family="prior", place="cell"), world)
    found = prior.run(cell).predictions
    best = cell.data.cells.centres[cell.data.cells.counts.argmax()]
    assert (found == best).all()
    mean = prior.run(job_of(Prior(family="prior", place="mean"), world)).predictions
    lon, lat = np.radians(cell.data.lonlat(cell.data.of("train"))).T
    total = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)]).sum(1)
    want = np.degrees([np.arctan2(total[1], total[0]), np.arcsin(total[2] / np.linalg.norm(total))])
    assert np.allclose(mean, want)


def test_the_gallery_answers_with_the_place_of_the_nearest_image(world: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(700, 5))
    job = job_of(Gallery(family="gallery", center=False), world, x=x)
    train, _, test = job.splits
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    nearest = train[(unit[test] @ unit[train].T).argmax(1)]
    found = gallery.run(job)
    assert found.selection is None
    assert (found.predictions[:, 0] == job.data.lonlat(nearest)).all()
    # a colour that tells the place finds a neighbour
    told = job_of(Gallery(family="gallery", center=False), world)
    km = great_circle_m(gallery.run(told).predictions[:, 0], told.data.lonlat(told.data.of("test")))
    assert np.median(km) < 600e3


class Mean(nn.Module):
    """A model of three colours: their means in the image, and a weight so that it has a hash."""

    pretrained = True

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.bands = {"rgb_0": fm.sensor("rgb").bands}
        self.card, self.scaling = None, {}

    def encode(self, pixels, **options):
        values = pixels["rgb_0"].float().mean((2, 3)) * self.weight
        return SimpleNamespace(pooled=values, tokens=None)


def test_a_model_becomes_a_result_with_its_floors(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = benchmarks.declare("geolocation-test", RULE, help="for this test")
    monkeypatch.setattr("probes.judging.evaluation.get_benchmark", lambda name: chosen)
    monkeypatch.setattr("probes.judging.evaluation._floor_rows", only_pixels)
    results = evaluate_many(
        Mean(),
        "geolocation-test",
        ["gallery"],
        data=world,
        out=tmp_path / "results",
        maps=tmp_path / "maps",
    )
    row = results[0]
    assert [path.name for path in (tmp_path / "maps").iterdir()] == [f"{row.id}.png"]
    assert row.primary == "km_median"
    assert row.metrics["km_median"]["value"] < 600
    assert row.metrics["acc@2500km"]["value"] > 0.9
    names = [one["name"] for one in row.versus]
    assert names == ["gallery-image-statistics", "prior-cell", "prior-mean"]
    assert row.versus[1]["high"] < 0  # nearer than the most frequent cell
    assert sum(cell["support"] for cell in row.per_class) == row.benchmark["n_test"]
    assert row.benchmark["task"] == "geolocation"
    saved = Kept.load(beside(tmp_path / "results" / f"{row.id}.json"))
    assert saved.answers.km.shape == (row.benchmark["n_test"], 1)


def only_pixels(session, subject, rows, adapt, untrained):
    """The floors that need no model and no minute."""
    names = ("gallery-image-statistics", "prior-cell", "prior-mean")
    return [session.row(get_protocol(name), None) for name in names]


def test_priors_stand_beside_every_protocol() -> None:
    from probes.judging.judge import floors_of

    benchmark = get_benchmark("geolocation-blocks")
    found, missing = floors_of(get_protocol("linear"), benchmark)
    assert found[-2:] == ["prior-cell", "prior-mean"]
    assert "image-statistics" in found
    assert not missing
    found, _ = floors_of(get_protocol("gallery"), benchmark)
    assert "gallery-raw-pixel" in found


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_a_picture_is_drawn_of_the_world_and_of_a_scene(tmp_path: Path, scale: float) -> None:
    from PIL import Image

    folder = write(tmp_path / "ds", on_sphere(200, 3) * scale)
    data = located(open_shards(folder), replace(RULE, block_km=500 * scale))
    test = data.of("test")
    answers = PlaceAnswers(np.linspace(0.5, 9000, len(test))[:, None], data.unit[test])
    path = pictures.draw(data, answers, "drawn", tmp_path / "maps")
    assert path == tmp_path / "maps" / "drawn.png"
    pixels = np.asarray(Image.open(path).convert("RGB"))
    assert pixels.shape == (1300, 1000, 3)
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 200


def test_the_command_draws_maps_of_places_alone(world: Path, tmp_path: Path, capsys) -> None:
    from fm.cli import main

    words = ["probe", "--benchmark", "geolocation-random", "--data", str(world)]
    words += ["--maps", str(tmp_path / "maps"), "--protocol", "prior-cell"]
    assert main(words) == 0
    assert "km_median" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "maps").iterdir()] == [
        "geolocation-random@1--prior-cell@1--prior-cell--s0.png"
    ]
    words[2] = "nc-landcover"
    words[-1] = "image-statistics"
    assert main(words) == 2
    assert "nc-landcover@1 is one of class" in capsys.readouterr().err


class Sphere(nn.Module):
    """A location encoder: the unit vector."""

    def forward(self, lonlat: torch.Tensor) -> torch.Tensor:
        lon, lat = torch.deg2rad(lonlat).T
        parts = [torch.cos(lat) * torch.cos(lon), torch.cos(lat) * torch.sin(lon), torch.sin(lat)]
        return torch.stack(parts, 1)


def test_the_nearest_place_of_a_shared_space(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = fm.location.ImageHead(3, 3, size=None, resize=False, largest_scale=None)
    with torch.no_grad():
        head.weight.copy_(torch.eye(3))
        head.bias.fill_(-127.0)
    model = Mean()
    asked = []

    def pair(folder: Path, encoder: Path) -> fm.location.Pair:
        asked.append((folder, encoder))
        return fm.location.Pair(model, head, Sphere())

    monkeypatch.setattr(fm.location, "pair", pair)
    job = job_of(NearestPlace(family="nearest-place", batch_size=50), world)
    job = replace(job, model=model, folder=tmp_path / "run" / "export")
    found = nearest_place.run(job)
    assert asked == [(tmp_path / "run", tmp_path / "run" / "export")]
    train, _, test = job.splits
    known, true = job.data.lonlat(train), job.data.lonlat(test)
    # the colour is the unit vector to half a number in 120: the nearest place, or one as near
    best = great_circle_m(true[:, None], known[None]).min(1)
    assert found.predictions.shape == (len(test), 1, 2)
    assert (great_circle_m(found.predictions[:, 0], true) - best).max() < 60e3
    assert {tuple(p) for p in found.predictions[:, 0].tolist()} <= {
        tuple(p) for p in known.tolist()
    }
    with pytest.raises(UsageError, match="is no folder"):
        nearest_place.run(replace(job, folder=None))


def test_a_model_without_places_is_refused(world: Path, tmp_path: Path) -> None:
    job = job_of(NearestPlace(family="nearest-place"), world)
    with pytest.raises(UsageError, match="beside RUN/location"):
        nearest_place.run(replace(job, model=Mean(), folder=tmp_path))
