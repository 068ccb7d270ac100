"""Runs on mixtures: one part a step, whatever the ranks, stops and restarts."""

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fm
import shards
from fm.errors import FMError, UsageError
from fm.normalize import Normalisation
from pretrain.build import build
from pretrain.config import RunConfig
from pretrain.data import _pooled, check_batch, open_data
from pretrain.runs.folder import read_lines
from pretrain.trainer import load_config, run
from tests.conftest import write_tiny
from tests.pretrain.test_trainer import config_file, launch, losses


@pytest.fixture(scope="module")
def radar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SAR of another size than the Sentinel-2 samples, and of another licence."""
    folder = tmp_path_factory.mktemp("radar") / "radar"
    rng = np.random.default_rng(0)

    def samples():
        for i in range(10):
            field = rng.normal(-12 - i, 2, (2, 16, 16)).astype(np.float32)
            yield shards.Sample(key=f"r{i}", arrays={"s1grd_10": field}, lonlat=(50.0 + i, 3.0))

    declared = {"s1grd_10": shards.Declared("sentinel1-grd", ("VV", "VH"))}
    shards.write_dataset(
        folder, samples(), name="radar", modalities=declared, provenance={}, licence="MIT"
    )
    return folder


def mixed(tmp_path: Path, tiny: Path, radar: Path, **changes: object) -> Path:
    parts = {
        "s2": {"path": str(tiny), "crop": 24, "weight": 2},
        "sar": {"path": str(radar), "crop": 12, "random_crop": True, "weight": 1},
    }
    changes = {
        "data": {"parts": parts, "batch_size": 4},
        "schedule": {"steps": 12, "warmup": 2},
        **changes,
    }
    return config_file(tmp_path, tiny, **changes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny_dataset: Path, radar: Path) -> Path:
    """An uninterrupted run on one process."""
    tmp_path = tmp_path_factory.mktemp("mixture")
    monitor = {"pictures": 3, "tensorboard": True}
    run(str(mixed(tmp_path, tiny_dataset, radar, monitor=monitor)))
    return tmp_path / "run"


def test_steps_come_from_one_part_by_weight_and_say_which(whole: Path) -> None:
    rows = read_lines(whole / "metrics.jsonl")
    names = [row["part"] for row in rows]
    assert [names.count(name) for name in ("s2", "sar")] == [8, 4]
    assert all(row["weight"] > 0 and np.isfinite(row["loss"]) for row in rows)
    assert len(list((whole / "pictures").glob("*.png"))) == 3
    data = json.loads((whole / "state.json").read_text())["identity"]["manifest_hash"]
    assert set(data) == {"s2", "sar"}


def test_the_card_names_every_part(whole: Path, tiny_dataset: Path, radar: Path) -> None:
    model = fm.load(whole / "export")
    parts = model.card.data["parts"]
    assert parts["sar"]["manifest_hash"] == shards.open(radar).manifest_hash
    assert parts["s2"]["manifest_hash"] == shards.open(tiny_dataset).manifest_hash
    assert [parts[name]["samples"] for name in ("s2", "sar")] == [24, 10]
    assert parts["sar"]["share"] == pytest.approx(1 / 3)
    assert len(parts["sar"]["cells"]) == 10
    assert "radar: MIT" in model.card.licence
    assert shards.open(tiny_dataset).info.licence in model.card.licence
    assert set(model.card.training["loss_by_part"]) == {"s2", "sar"}
    # each modality has the statistics of the part that holds it
    own = Normalisation.fit("zscore", shards.open(radar).statistics("s1grd_10"))
    assert model.card.normalisation["s1grd_10"] == own
    assert set(model.bands) == {"s1grd_10", "s2l1c_10", "s2l1c_20", "s2l1c_60"}


def test_a_run_that_goes_on_is_the_same_bit_for_bit(
    tmp_path: Path, tiny_dataset: Path, radar: Path, whole: Path
) -> None:
    path = mixed(tmp_path, tiny_dataset, radar)
    run(str(path))
    shutil.rmtree(tmp_path / "run" / "export")
    (tmp_path / "run" / "latest").write_text("step-00000008\n")  # as after a crash
    (tmp_path / "run" / "state.json").write_text(
        (tmp_path / "run" / "state.json").read_text().replace("finished", "running")
    )
    run(str(path))
    assert losses(tmp_path / "run") == losses(whole)
    ours = fm.load(tmp_path / "run" / "export").state_dict()
    for name, value in fm.load(whole / "export").state_dict().items():
        assert (ours[name] == value).all(), name


def test_two_ranks_draw_the_same_part_and_give_the_curve_of_one(
    tmp_path: Path, tiny_dataset: Path, radar: Path, whole: Path
) -> None:
    done = launch(mixed(tmp_path, tiny_dataset, radar), "engine.micro_batch=1", ranks=2)
    assert done.returncode == 0, done.stderr
    assert losses(tmp_path / "run") == pytest.approx(losses(whole), rel=1e-5)
    # what a step leaves out moves alike too: without zero gradients it would differ by lr, 1e-3
    ours = fm.load(tmp_path / "run" / "export").state_dict()
    for name, value in fm.load(whole / "export").state_dict().items():
        assert ours[name].numpy() == pytest.approx(value.numpy(), abs=3e-4), name


def test_what_changed_in_a_part_is_named(
    tmp_path: Path, tiny_dataset: Path, radar: Path, whole: Path
) -> None:
    path = mixed(tmp_path, tiny_dataset, radar)
    write_tiny(tmp_path / "other", seed=5)
    shutil.copytree(whole, tmp_path / "run")
    for words, key in (
        (["data.parts.sar.random_crop=false"], r"data\.parts\.sar\.random_crop"),
        (["data.parts.sar.weight=3"], r"data\.parts\.sar\.weight"),
        (["data.parts.s2.bands={s2l1c_20: [B05:B8A]}"], r"data\.parts\.s2\.bands"),
        ([f"data.parts.s2.path={tmp_path / 'other'}"], r"manifest_hash\.s2"),
    ):
        with pytest.raises(UsageError, match=key):
            run(str(path), words)


def test_bad_parts_are_one_line(tmp_path: Path, tiny_dataset: Path, radar: Path) -> None:
    path = str(mixed(tmp_path, tiny_dataset, radar))
    for words, text in (
        (["data.path=x"], "path stands beside parts"),
        (["data.crop=12"], "crop stands beside parts"),
        (["data.parts=null"], "path is missing"),
        (["data.parts.sar.pth=x"], "did you mean 'path'"),
        (["data.parts.sar.path=/no/such"], "/no/such"),
        (["data.parts.sar.modalities=[s2l1c_10]"], "has no s2l1c_10"),
        (["data.parts.sar.bands={s1grd_10: [HH]}"], "no band 'HH'"),
        (["data.parts.s2.bands={s2l1c_20: [B12:B05]}"], "is empty or names a band twice"),
        (["data.parts.sar.weight=0"], "greater than 0"),
    ):
        with pytest.raises(FMError, match=text) as error:
            run(path, words)
        assert "\n" not in str(error.value)


def test_bands_are_read_in_the_given_order(tmp_path: Path, tiny_dataset: Path) -> None:
    path = config_file(tmp_path, tiny_dataset)
    chosen = "{s2l1c_20: [B12, B05:B07], s2l1c_10: [B08]}"
    config = load_config(str(path), [f"data.bands={chosen}", "data.crop=12", "seed=3"])
    data = open_data(config)
    assert [b.name for b in data.layout.bands["s2l1c_20"]] == ["B12", "B05", "B06", "B07"]
    assert data.layout.shapes[""]["s2l1c_20"] == (4, 6, 6)
    ds = shards.open(tiny_dataset)
    info = ds.modalities["s2l1c_20"]
    mean = dict(zip(info.bands, info.statistics["mean"], strict=True))
    backbone = build(config, data.layout).backbone
    assert backbone.normalisation["s2l1c_20"].shift[:2] == (mean["B12"], mean["B05"])
    batch = next(data.loader(batch_size=4, seed=0))
    assert batch.pixels["s2l1c_20"].shape[1] == 4
    assert batch.bands["s2l1c_10"] == ("B08",)
    plain = next(ds.loader(4, seed=0, crop=12))
    at = info.bands.index("B12")
    assert (batch.pixels["s2l1c_20"][:, 0].numpy() == plain.pixels["s2l1c_20"][:, at].numpy()).all()


def test_a_modality_of_two_parts_has_the_moments_of_what_is_seen() -> None:
    rng = np.random.default_rng(0)
    pixels = [rng.normal(level, spread, 5000) for level, spread in ((0.2, 0.1), (0.5, 0.3))]
    parts = [
        (
            share,
            {
                "mean": [float(x.mean())],
                "std": [float(x.std())],
                "min": [float(x.min())],
                "max": [float(x.max())],
                "p2": [0.0],
            },
        )
        for x, share in zip(pixels, (0.75, 0.25), strict=True)
    ]
    seen = np.concatenate(list(itertools.chain([pixels[0]] * 3, [pixels[1]])))
    found = _pooled(parts)
    assert found["mean"] == pytest.approx([seen.mean()])
    assert found["std"] == pytest.approx([seen.std()])
    assert found["min"] == [seen.min()]
    assert found["max"] == [seen.max()]
    with pytest.raises(FMError, match="needs the statistic 'p2'"):
        Normalisation.fit("percentile", found)


def test_a_batch_that_does_not_divide_is_told_with_what_would() -> None:
    def config(batch: int, micro: int | None) -> RunConfig:
        values = {"name": "x", "out": "x", "objective": {"kind": "mae"}}
        data = {"path": "x", "batch_size": batch}
        return RunConfig.model_validate(values | {"data": data, "engine": {"micro_batch": micro}})

    assert check_batch(config(12, 3), 2) == (3, 2)
    assert check_batch(config(12, None), 2) == (6, 1)
    with pytest.raises(UsageError, match=r"12 does not divide over 5 ranks.*: 10 or 15$"):
        check_batch(config(12, None), 5)
    with pytest.raises(
        UsageError, match=r"=5 x 2 ranks .* data.batch_size=24 .* is 12.*: 4 or 6, .*: 20 or 30$"
    ):
        check_batch(config(24, 5), 2)
    with pytest.raises(UsageError, match=r"nearest engine.micro_batch: 4, .*batch_size: 16$"):
        check_batch(config(8, 8), 2)


@pytest.mark.parametrize(
    ("settings", "least"),
    [
        ({"kind": "moco", "version": "v2"}, 16),
        ({"kind": "moco", "version": "v2", "symmetric": True}, 32),
        ({"kind": "softcon", "version": "v2", "label": "x", "classes": 2}, 16),
        ({"kind": "seco"}, 16),
        ({"kind": "caco"}, 32),
        ({"kind": "satclip", "image": "tuned"}, 16),
    ],
)
@pytest.mark.parametrize("beside", [False, True])
def test_a_queue_that_does_not_hold_a_batch_is_refused(
    settings: dict[str, Any], least: int, beside: bool
) -> None:
    """Defect: half of CACo's keys, or those of one direction, never reach a query, unsaid."""

    def config(queue: int) -> RunConfig:
        objective = {**settings, "queue": queue}
        if beside:
            objective = {"kind": "landcover", "classes": 2, "beside": objective}
        values = {"name": "x", "out": "x", "objective": objective}
        return RunConfig.model_validate(values | {"data": {"path": "x", "batch_size": 16}})

    assert check_batch(config(least), 2) == (8, 1)
    where = "objective.beside" if beside else "objective"
    less = least - 2
    with pytest.raises(
        UsageError, match=rf"^{where}\.queue={less} does not hold .*=16\); give {least} or more$"
    ):
        check_batch(config(less), 2)
