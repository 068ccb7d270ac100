import numpy as np

from probes.benchmarks import get_benchmark
from probes.evaluation import evaluate_many
from probes.labels import subset


def test_few_labels_are_the_same_for_every_model_and_differ_by_seed(blocks):
    data = get_benchmark("indian-pines").load(blocks)
    train = data.of("train")
    few = subset(data, train, 5, seed=1)
    assert np.array_equal(few, subset(data, train, 5, seed=1))
    assert not np.array_equal(few, subset(data, train, 5, seed=2))
    assert set(few) <= set(train)
    assert np.bincount(data.targets[few]).max() == 5
    assert subset(data, train, None, seed=1) is train


def test_floors_of_a_few_label_protocol_have_as_few_labels(blocks):
    names = ["image-statistics-20", "raw-pixel-20", "raw-pixel"]
    few, pixel, whole = evaluate_many(None, "indian-pines", names, data=blocks)
    for result in (few, pixel):
        assert result.protocol["settings"]["per_class"] == 20
    assert whole.protocol["settings"]["per_class"] is None
    # fewer samples, the same grid: another choice of C has other scores on val
    assert pixel.selection["scores"] != whole.selection["scores"]
