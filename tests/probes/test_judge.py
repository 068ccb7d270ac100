"""Which floors stand beside a protocol, and which protocols are refused."""

import pytest

from fm.errors import UsageError
from probes.benchmarks import get_benchmark
from probes.judging.evaluation import evaluate_many
from probes.judging.judge import answers_task, check, floors_of
from probes.protocols import get_protocol, list_protocols
from tests.probes import standin

CLASSES, NUMBERS = "nc-landcover", "tree-cover"


def labels(name):
    settings = get_protocol(name).settings
    return [getattr(settings, key, None) for key in ("per_class", "fraction")]


@pytest.mark.parametrize("benchmark", [CLASSES, NUMBERS])
def test_floors_have_as_many_labels_and_tries_as_what_they_stand_beside(benchmark):
    """A floor with more labels would make pretraining look worthless, one with fewer a wonder."""
    compared = 0
    for name in list_protocols():
        protocol = get_protocol(name)
        if not protocol.needs_model or not answers_task(protocol, get_benchmark(benchmark)):
            continue
        tries = getattr(protocol.settings, "tries", 1)
        for floor in floors_of(protocol, get_benchmark(benchmark))[0]:
            compared += 1
            assert labels(floor) == labels(name), (name, floor)
            assert getattr(get_protocol(floor).settings, "tries", 1) == tries, (name, floor)
    assert compared > 10


@pytest.mark.parametrize("benchmark", [CLASSES, NUMBERS])
@pytest.mark.parametrize(
    "name", ["knn", "mlp", "attentive", "dinov2-linear", "legacy-ssl4eo", "finetune-full", "lora"]
)
def test_statistics_pixels_and_convolutions_stand_beside_every_row_by_themselves(name, benchmark):
    found, missing = floors_of(get_protocol(name), get_benchmark(benchmark))
    inputs = [get_protocol(floor).settings.input for floor in found]
    assert inputs == ["image-statistics", "raw-pixel", "random-conv", "random-conv-zca"]
    assert missing == []


def test_the_floors_of_the_seed_paper_are_neighbours_too():
    for name in ("corley-knn5", "corley-knn5-fixed"):
        own = get_protocol(name).settings
        for floor in floors_of(get_protocol(name), get_benchmark(CLASSES))[0]:
            other = get_protocol(floor).settings
            keys = ("k", "metric", "vote", "center", "compute")
            assert [getattr(own, key) for key in keys] == [getattr(other, key) for key in keys]


def test_numbers_have_floors_by_ridge_regression():
    numbers = get_benchmark(NUMBERS)
    names = ["image-statistics", "raw-pixel", "random-conv", "random-conv-zca"]
    assert floors_of(get_protocol("knn"), get_benchmark(CLASSES)) == (names, [])
    assert floors_of(get_protocol("knn"), numbers) == ([f"ridge-{name}" for name in names], [])
    found, missing = floors_of(get_protocol("legacy-ssl4eo-10"), numbers)
    assert found == []
    assert missing == ["image-statistics-10pc-first", "raw-pixel-10pc-first"]


def test_a_protocol_of_another_task_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(UsageError, match="upernet@1 is for the tasks segmentation, and") as error:
        check(get_protocol("upernet"), get_benchmark(CLASSES))
    assert "\n" not in str(error.value)
    cases = (
        (standin.Encoder(), ["linear", "upernet"]),
        (None, ["ridge-raw-pixel", "raw-pixel-dense"]),
    )
    for model, protocols in cases:
        with pytest.raises(UsageError, match="is for the tasks"):
            evaluate_many(model, "indian-pines", protocols, data="absent", out=tmp_path)
