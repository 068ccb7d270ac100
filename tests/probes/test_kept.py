import json

import numpy as np
import pytest

from fm.errors import FMError, UsageError
from probes.judging import kept
from probes.judging.evaluation import evaluate_many
from probes.statistics.answers import ClassAnswers, LabelAnswers, QueryAnswers, ValueAnswers
from probes.statistics.bootstrap import intervals, over_seeds, paired
from probes.statistics.permutation import mcnemar
from probes.statistics.tries import TryAnswers
from tests.probes import standin


def _every_kind():
    rng = np.random.default_rng(0)
    unit = np.repeat(np.arange(5), 4)
    truth = rng.integers(0, 3, 20)
    yield ClassAnswers.of(truth, rng.integers(0, 3, 20), unit, 3)
    yield LabelAnswers(rng.random((20, 3)) < 0.5, rng.normal(size=(20, 3)), unit)
    yield ValueAnswers.of(rng.normal(size=(20, 2)), rng.normal(size=(20, 2)), unit)
    yield QueryAnswers({"ndcg": rng.random(20), "map": rng.random(20)}, unit)
    yield TryAnswers([ClassAnswers.of(truth, rng.integers(0, 3, 20), unit, 3) for _ in range(3)])


@pytest.mark.parametrize("answers", _every_kind(), ids=lambda a: type(a).__name__)
def test_answers_come_back_as_they_were(answers, tmp_path):
    right = np.array([True, False, True])
    kept.Kept(answers, right, "t").save(tmp_path / "a.npz")
    back = kept.Kept.load(tmp_path / "a.npz")
    assert type(back.answers) is type(answers)
    assert intervals(back.answers, 0) == intervals(answers, 0)
    np.testing.assert_array_equal(back.right, right)
    assert back.test == "t"


@pytest.fixture(scope="module")
def results(blocks, tmp_path_factory):
    """Two seeds of two encoders, with few labels, and a floor."""
    out = tmp_path_factory.mktemp("kept")
    for seed in (0, 1):
        for width in (3, 8):
            model = standin.Encoder(width=width, seed=seed)
            model.card = type("Card", (), {"name": f"w{width}", "weights_sha256": "0"})()
            evaluate_many(
                model, "indian-pines", ["knn"], data=blocks, out=out, seed=seed, with_floors=False
            )
    evaluate_many(None, "indian-pines-checkerboard", ["raw-pixel"], data=blocks, out=out)
    return {path.stem: path for path in out.glob("*.json")}


def _path(results, *words):
    [found] = [path for name, path in results.items() if all(word in name for word in words)]
    return found


def test_any_two_results_are_compared(results):
    first, second = _path(results, "w8", "s0"), _path(results, "w3", "s0")
    found = kept.compare(first, second)
    a, b = (kept.Kept.load(kept.beside(path)) for path in (first, second))
    assert found["difference"] == paired(a.answers, b.answers, "oa", 0)["difference"]
    values = [json.loads(path.read_text())["metrics"]["oa"]["value"] for path in (first, second)]
    assert found["difference"] == pytest.approx(values[0] - values[1])
    assert found["low"] <= found["difference"] <= found["high"]
    assert found["mcnemar"] == mcnemar(a.right, b.right)
    assert a.right.mean() == pytest.approx(values[0])
    assert 0 < found["p"] <= 1
    assert kept.compare(first, second, "kappa")["metric"] == "kappa"
    with pytest.raises(UsageError, match="no metric 'map'"):
        kept.compare(first, second, "map")


def test_results_on_other_samples_are_not_compared(results):
    with pytest.raises(UsageError, match="other test samples"):
        kept.compare(_path(results, "w8", "s0"), _path(results, "checkerboard"))


def test_seeds_are_combined(results):
    paths = [_path(results, "w8", "s0"), _path(results, "w8", "s1")]
    found = kept.combine(paths)
    want = over_seeds([kept.Kept.load(kept.beside(path)).answers for path in paths], 0)
    assert found == want
    assert found["oa"]["runs"] == 2
    with pytest.raises(UsageError, match="only seeds may differ"):
        kept.combine([paths[0], _path(results, "w3", "s1")])
    with pytest.raises(UsageError, match="comes twice"):
        kept.combine([paths[0], paths[0]])
    with pytest.raises(UsageError, match="two results or more"):
        kept.combine(paths[:1])


def test_absent_and_damaged_answers_are_one_line(results, tmp_path):
    for content in (None, b"damaged"):
        path = tmp_path / "a.answers.npz"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(FMError, match="repeat the probe") as error:
            kept.Kept.load(path)
        assert "\n" not in str(error.value)


def test_rows_hold_diagnostics_and_calibration(results):
    row = json.loads(_path(results, "w8", "s0").read_text())
    features = row["diagnostics"]["features"]
    assert 1 <= features["effective_rank"] <= 8
    assert features["dimensions"] == 8
    calibration = row["diagnostics"]["calibration"]
    assert calibration["after"]["nll"] < calibration["before"]["nll"] * 1.2
    assert calibration["fitted_on"] == "val"
    floor = json.loads(_path(results, "checkerboard").read_text())
    assert floor["diagnostics"]["calibration"]["after"] is None  # it has no val split


def test_a_single_try_is_compared_as_what_it_is():
    rng = np.random.default_rng(0)
    truth, unit = rng.integers(0, 3, 40), np.repeat(np.arange(10), 4)
    good, bad = (
        ClassAnswers.of(truth, np.where(rng.random(40) < share, truth, 0), unit, 3)
        for share in (0.9, 0.3)
    )
    plain = kept.differ(kept.Kept(good, None, "t"), kept.Kept(bad, None, "t"), "oa", 0)
    tried = kept.differ(
        kept.Kept(good, None, "t"), kept.Kept(TryAnswers([bad]), None, "t"), "oa", 0
    )
    assert tried == plain
    assert plain["p"] < 0.05
    several = kept.Kept(TryAnswers([bad, bad]), None, "t")
    found = kept.differ(kept.Kept(TryAnswers([good] * 3), None, "t"), several, "oa", 0)
    assert found["difference"] == plain["difference"]
    assert found["p"] is None
