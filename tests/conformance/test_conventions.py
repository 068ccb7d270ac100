"""T9, T12 and T13: schedules, datasets and metrics say what they mean, and mean it.

How EuroSAT's files are read is tested in `tests/shards/test_eurosat.py`; that nothing is chosen on
test samples in `tests/probes/test_evaluation.py`.
"""

from pathlib import Path

import numpy as np
import pytest

import shards
from fm.config import list_recipes
from fm.errors import FMError
from fm.sensors import sensor
from pretrain.runs.folder import read_lines
from pretrain.schedule import learning_rate
from pretrain.trainer import load_config, run
from probes.benchmarks import get_benchmark, list_benchmarks
from probes.statistics.metrics import class_metrics, confusion, multilabel_metrics
from shards.sources import eurosat
from tests.conftest import write_tiny
from tests.pretrain.test_trainer import config_file


@pytest.mark.parametrize("name", list_recipes("pretrain"))
def test_t9_the_schedule_of_a_recipe_ends_where_its_run_ends(name: str) -> None:
    """T9. Defect: schedules counted in other units than the run's steps (SpectralEarth)."""
    config = load_config(name)
    steps, warmup, least = config.schedule.steps, config.schedule.warmup, config.schedule.min_lr
    peak = config.optimizer.lr

    def rate(step: int) -> float:
        return learning_rate(step, peak=peak, steps=steps, warmup=warmup, minimum=least)

    assert 0 < rate(0) <= peak / max(warmup, 1) * (1 + 1e-12)
    assert rate(warmup) == peak
    assert rate(steps - 1) == pytest.approx(least, abs=1e-12 * peak)
    before = [rate(s) for s in range(max(steps - 20, warmup), steps)]
    assert before == sorted(before, reverse=True)
    assert rate(steps - 2) > rate(steps - 1)


def test_t9_a_run_takes_its_last_step_at_the_least_rate(tmp_path: Path, tiny_dataset: Path) -> None:
    """T9. Defect: a run that stops before, or goes on after, its schedule."""
    schedule = {"steps": 6, "warmup": 2, "min_lr": 1e-5}
    run(str(config_file(tmp_path, tiny_dataset, schedule=schedule)))
    lines = read_lines(tmp_path / "run" / "metrics.jsonl")
    rates = [line["lr"] for line in lines]
    assert len(rates) == 6
    assert rates[0] == pytest.approx(1e-3 / 2)
    assert rates[2] == max(rates) == pytest.approx(1e-3)
    assert rates[-1] == min(rates) == pytest.approx(1e-5)


def test_t9_what_changes_over_a_run_in_samples_ends_with_its_last_step(
    tmp_path: Path, tiny_dataset: Path
) -> None:
    """T9. Defect: values that would be reached one step after the run has ended."""
    schedule = {
        "kind": "wsd",
        "samples": 41,
        "warmup_samples": 16,
        "decay_samples": 9,
        "min_lr": 1e-5,
        "weight_decay_end": 0.4,
    }
    run(str(config_file(tmp_path, tiny_dataset, schedule=schedule)))
    lines = read_lines(tmp_path / "run" / "metrics.jsonl")
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]  # 41 samples in batches of 8
    rates = [5e-4, 1e-3, 1e-3, 1e-3, (1e-3 + 1e-5) / 2, 1e-5]
    assert [line["lr"] for line in lines] == pytest.approx(rates)
    decays = [line["weight_decay"] for line in lines]
    assert decays[0] == pytest.approx(0.05)
    assert decays == sorted(decays)
    assert decays[-1] == 0.4


def test_t12_eurosat_files_keep_b8a_last() -> None:
    """T12. Defect: 13 bands read in the sensor's order, so B8A, B11, B12 are mixed up (SatMAE)."""
    assert eurosat.FILE_ORDER[7:] == ("B08", "B09", "B10", "B11", "B12", "B8A")
    assert sorted(eurosat.FILE_ORDER) == sorted(b.name for b in sensor("sentinel2-l1c").bands)


def test_t12_a_dataset_declares_bands_units_and_scale(tmp_path: Path, tiny_dataset: Path) -> None:
    """T12. Defect: a loader that guesses band order and scale from the number of channels."""
    described = shards.open(tiny_dataset).modalities
    for name, bands in sensor("sentinel2-l1c").modalities.items():
        modality = described[name]
        assert modality.table == bands
        assert list(modality.bands) == [band.name for band in bands]
        assert {band.unit for band in modality.table} == {"reflectance"}
        assert all(band.wavelength_nm for band in modality.table)
        assert (modality.scale, modality.offset) == (1e-4, 0.0)
    wrong = {"s2l1c_10": shards.Declared("sentinel2-l1c", ("B02", "B03", "B04", "B99"))}
    with pytest.raises(FMError, match="B99"):
        write_tiny(tmp_path / "wrong", modalities=wrong)
    assert not (tmp_path / "wrong").exists()


def test_t13_every_benchmark_names_its_metric() -> None:
    """T13. Defect: "mAP" or "accuracy" without saying over what (CROMA, LESS ViT)."""
    said = {
        "class": {"oa", "aa", "kappa"},
        "multilabel": {"map", "map_micro"},
        "regression": {"r2", "rmse", "mae"},
        "segmentation": {"miou", "oa", "iou_positive"},
        "change": {"f1_positive", "iou_positive", "miou"},
        "retrieval": {"ndcg@10", "ndcg@100", "ndcg@1000", "map@10"},
        "geolocation": {"km_median"},
    }
    for name in list_benchmarks():
        assert get_benchmark(name).primary in said[get_benchmark(name).task]


def test_t13_macro_and_micro_are_two_names() -> None:
    """T13. Defect: micro and macro averages compared with each other."""
    truth = np.array([[1, 0], [1, 0], [1, 1], [1, 0]], bool)
    scores = np.array([[0.9, 0.8], [0.7, 0.1], [0.6, 0.3], [0.5, 0.2]])
    found = multilabel_metrics(truth, scores, np.ones(4))
    # class 0 is always there: 1; class 1 is second in its list: 1/2
    assert found["map"] == pytest.approx((1 + 1 / 2) / 2)
    # hits at places 1, 3, 4, 5 and 6 of one list
    assert found["map_micro"] == pytest.approx(np.mean([1, 2 / 3, 3 / 4, 4 / 5, 5 / 6]))
    truth, guess = np.array([0, 0, 0, 1]), np.array([0, 0, 0, 0])
    found = class_metrics(confusion(truth, guess, 3))
    # overall over samples, average over the classes that occur
    assert (found["oa"], found["aa"]) == (0.75, 0.5)
