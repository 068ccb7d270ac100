"""Labels from a dataset to the objective: vectors, NaN where unknown, refused when not there."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import shards
from fm.errors import UsageError
from fm.rng import CounterRng
from pretrain.build import build
from pretrain.data import open_data
from pretrain.engine.batches import MicroBatch
from pretrain.labels import ReadLabels, made_up
from pretrain.trainer import load_config
from tests.conftest import tiny_samples
from tests.pretrain.test_trainer import config_file


def some(tmp_path: Path, *, placed: bool = True, **labels: shards.LabelInfo) -> shards.Dataset:
    """The tiny dataset's first grid, with each third sample's labels unknown."""
    samples = list(tiny_samples(6))
    for i, sample in enumerate(samples):
        sample.arrays = {"s2l1c_10": sample.arrays["s2l1c_10"]}
        sample.lonlat = sample.lonlat if placed else None
        sample.labels = {} if i % 3 == 2 else {k: sample.labels[k] for k in labels}
    folder = tmp_path / "some"
    modalities = {"s2l1c_10": shards.Declared("sentinel2-l1c", ("B02", "B03", "B04", "B08"))}
    about = {"provenance": {"source": "a test"}, "licence": "CC0-1.0"}
    shards.write_dataset(
        folder, samples, name="some", modalities=modalities, labels=labels, **about
    )
    return shards.open(folder)


def first(ds: shards.Dataset, names: tuple[str, ...]) -> dict[str, torch.Tensor]:
    read = ReadLabels(names, {"": ds})
    batch = next(ds.loader(6, shuffle=False, labels=names))
    return read.vectors(batch)


def test_classes_are_one_hot_several_multi_hot_and_what_is_unknown_is_nan(tmp_path: Path) -> None:
    ds = some(
        tmp_path,
        cover=shards.LabelInfo("cover", "class", ("dark", "bright")),
        tags=shards.LabelInfo("tags", "multilabel", ("land", "even", "odd")),
        level=shards.LabelInfo("level", "regression"),
    )
    found = first(ds, ("tags", "cover", "level"))
    assert list(found) == ["tags", "cover", "level"]
    assert {x.dtype for x in found.values()} == {torch.float32}
    given = list(tiny_samples(6))
    for row, sample in enumerate(given):
        if row % 3 == 2:
            assert all(x[row].isnan().all() for x in found.values())
            continue
        assert found["cover"][row].tolist() == np.eye(2)[sample.labels["cover"]].tolist()
        assert found["tags"][row].nonzero().ravel().tolist() == sample.labels["tags"]
        assert found["level"][row].tolist() == [pytest.approx(sample.labels["level"])]


def test_a_class_that_is_ignored_is_unknown(tmp_path: Path) -> None:
    ds = some(tmp_path, cover=shards.LabelInfo("cover", "class", ("dark", "bright"), ignore=0))
    found = first(ds, ("cover",))["cover"]
    given = [sample.labels["cover"] for sample in tiny_samples(6)]
    known = [value == 1 and row % 3 != 2 for row, value in enumerate(given)]
    assert True in known
    assert (~found.isnan().any(dim=1)).tolist() == known
    assert found[known].tolist() == [[0.0, 1.0]] * sum(known)


def test_a_label_that_is_not_there_or_no_vector_is_refused_in_one_line(tmp_path: Path) -> None:
    ds = some(tmp_path, cover=shards.LabelInfo("cover", "class", ("dark", "bright")))
    with pytest.raises(UsageError, match=r"reads the label 'land'.*fm shards label") as error:
        ReadLabels(("land",), {"": ds})
    assert "\n" not in str(error.value)
    words = some(tmp_path / "text", cover=shards.LabelInfo("cover", "class", ("dark", "bright")))
    words.info.labels["said"] = shards.LabelInfo("said", "text")
    with pytest.raises(UsageError, match="said is a text"):
        ReadLabels(("said",), {"": words})
    with pytest.raises(UsageError, match=r"cover is a class.*needs fractions; .*--kind fractions"):
        ReadLabels(("cover",), {"": ds}, {"cover": ("fractions",)})
    with pytest.raises(UsageError, match=r"cover is a class, the objective needs regression$"):
        ReadLabels(("cover",), {"": ds}, {"cover": ("regression",)})
    other = some(tmp_path / "other", cover=shards.LabelInfo("cover", "class", ("dark", "light")))
    with pytest.raises(UsageError, match=r"data\.parts\.b: label cover has other classes"):
        ReadLabels(("cover",), {"a": ds, "b": other})


def test_parts_of_a_batch_keep_their_rows() -> None:
    labels = {"land": torch.arange(12.0).view(4, 3), "dates": torch.zeros(4, 2, 3)}
    at = torch.arange(4)
    batch = MicroBatch(
        {"a": torch.zeros(4, 1, 2, 2)}, torch.ones(4), {}, CounterRng(0, at, at), labels=labels
    )
    parts = batch.split(3)
    assert [len(part.labels["dates"]) for part in parts] == [3, 1]
    assert torch.equal(torch.cat([part.labels["land"] for part in parts]), labels["land"])


def test_a_run_reads_what_its_objective_asks_for_and_nothing_else(
    tmp_path: Path, tiny_dataset: Path
) -> None:
    data = open_data(load_config(str(config_file(tmp_path, tiny_dataset))))
    before = next(data.loader(batch_size=4, seed=0))
    assert before.labels == {}
    told = {}
    asks = SimpleNamespace(
        label_names=("tags",),
        label_kinds={},
        take_classes=told.update,
        needs_places=True,
        most_places=None,
        needs_years=0.0,
    )
    data.read_labels(asks)
    assert told == {"tags": ("land", "even", "odd")}
    after = next(data.loader(batch_size=4, seed=0))
    assert list(after.labels) == ["tags"]
    assert after.keys == before.keys
    assert data.labels.vectors(after)["tags"].shape == (4, 3)


def test_an_objective_of_places_wants_samples_that_have_one(tmp_path: Path) -> None:
    """Defect: CACo without a place masks nothing, all run long, and nothing says so."""
    folder = some(tmp_path, placed=False).path
    text = {"width": 16, "depth": 1, "heads": 2, "words": 64}
    closp = {"kind": "closp", "label": "cover", "classes": 2, "text": text}
    cases = [
        ({"kind": "caco", "queue": 64}, True),
        ({"kind": "satclip", "image": "tuned"}, True),
        ({**closp, "place": {}}, True),
        ({"kind": "landcover", "classes": 2, "beside": {"kind": "caco", "queue": 64}}, True),
        ({"kind": "seco", "queue": 64}, False),
    ]
    for settings, needs in cases:
        config = load_config(str(config_file(tmp_path, folder, objective=settings)))
        data = open_data(config)
        objective = build(config, data.layout)
        assert objective.needs_places == needs
        if not needs:
            data.read_labels(objective)
            continue
        with pytest.raises(UsageError, match=r"some: .* none of the 6 has a place; write it"):
            data.read_labels(objective)


def test_measured_samples_have_labels_of_the_size_the_objective_is_built_for() -> None:
    asks = SimpleNamespace(label_names=("land", "any"), label_sizes={"land": 9})
    found = made_up(asks, 5, "meta")
    assert {name: tuple(x.shape) for name, x in found.items()} == {"land": (5, 9), "any": (5, 2)}
