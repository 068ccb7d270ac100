"""CrisisLandMark: words of labels, links between files, the corpus as gallery."""

from dataclasses import replace
from functools import partial

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fm.errors import FMError
from probes.benchmarks import crisislandmark as corpus
from probes.judging.evaluation import evaluate
from shards.sources.corine import CLASSES_44
from tests.probes.layouts import crisislandmark as made
from tests.probes.layouts.scene import optical, radar
from tests.probes.layouts.witness import declared

TOTAL = {"all": 3 * made.EACH}


def words(row: np.ndarray) -> set[str]:
    return {corpus.WORDS[k] for k in np.flatnonzero(row)}


@pytest.mark.parametrize("kind", ["s2", "s1"])
def test_lists_labels_and_pixels(tmp_path, kind):
    root = made.write(tmp_path)
    data = declared(corpus.DECLARATIONS, f"crisislandmark-{kind}", **TOTAL).load(root)
    at = {key: n for n, key in enumerate(data.shards.tolist())}
    assert set(at) == {key for _, key, *_ in made.samples(kind)}
    for _, key, part, labels, seed in made.samples(kind):
        n = at[key]
        assert data.split[n] in (("test",) if part == "test" else ("train", "val"))
        pixels = data.read(np.array([n])).pixels
        if kind == "s2":
            want = optical(made.BANDS, 120, 120, seed) * 1e-4
            np.testing.assert_allclose(pixels["s2l2a_10"][0], want, rtol=1e-6)
        else:
            np.testing.assert_array_equal(pixels["s1grd_10"][0], radar(2, 120, 120, seed))
        assert len(words(data.targets[n])) == len({corpus.WORD_OF[x.lower()] for x in labels})
    assert data.scaling == {corpus.ARRAYS[kind].modality: (1.0, 0.0)}


def test_every_label_of_corine_has_a_word():
    assert set(corpus.WORD_OF) == {n.lower() for n in (*CLASSES_44, *corpus.WORDS)}
    of = partial(corpus.labels_of, "here", "key")
    assert words(of(["Pastures", "mixed forest"])) == {"Grass", "Trees"}
    assert words(of(["Rice fields", "Salines", "Burnt areas"])) == {
        *("Flooded Vegetation", "Bare", "Burned Area")
    }
    with pytest.raises(FMError, match=r"here: key: 'Arable land' is no label of the corpus"):
        of(["Arable land"])


def test_queries_of_the_train_list_search_the_corpus(tmp_path):
    root = made.write(tmp_path / "data")
    (first,) = [d for d in corpus.DECLARATIONS if d.name == "crisislandmark-retrieval-s2"]
    few = replace(first, published=TOTAL, scan=partial(corpus.scan, kind="s2", queries=4))
    data = few.load(root)
    parts = {key: part for _, key, part, *_ in made.samples("s2")}
    assert {parts[key] for key in data.shards[data.of("test")].tolist()} == {"train"}
    gallery = np.concatenate([data.of("train"), data.of("val")])
    assert {parts[key] for key in data.shards[gallery].tolist()} == {"test"}
    assert (len(data.of("test")), len(gallery)) == (4, 9)
    benchmark = few.benchmark()
    assert benchmark.query == benchmark.gallery == ("s2l2a_10",)


def test_a_floor_searches_it(tmp_path, monkeypatch):
    import probes.benchmarks as registry

    root = made.write(tmp_path / "data")
    (first,) = [d for d in corpus.DECLARATIONS if d.name == "crisislandmark-retrieval-s1"]
    assert first.primary == "ndcg@1000"  # has no value in a gallery of nine
    scan = partial(corpus.scan, kind="s1", queries=4)
    few = replace(first, published=TOTAL, scan=scan, primary="ndcg@10")
    monkeypatch.setitem(registry._ALL, few.full_name, few.benchmark())
    result = evaluate(
        None, few.name, "retrieval-image-statistics", data=root, out=tmp_path / "out"
    ).to_dict()
    assert 0 < result["metrics"]["ndcg@10"]["value"] <= 1


def test_another_order_and_missing_files_are_refused(tmp_path):
    first = declared(corpus.DECLARATIONS, "crisislandmark-s2", **TOTAL)
    rico = (*made.BANDS[:8], *made.BANDS[9:], "B8A")  # by name, B8A last
    with pytest.raises(FMError, match=r"mean\(B8A\) is 0\.\d+ x mean\(B08\)"):
        first.load(made.write(tmp_path / "order", rico))
    with pytest.raises(FMError, match=r"metadata\.parquet: no table that can be read"):
        first.load(tmp_path)
    root = made.write(tmp_path / "files")
    with pytest.raises(FMError, match=r"15 samples in all, the published list .* has 308461"):
        declared(corpus.DECLARATIONS, "crisislandmark-s2").load(root)
    (root / "cabuar.h5").unlink()
    with pytest.raises(FMError, match=r"crisislandmark\.h5: .*cabuar"):
        first.load(root)
    with h5py.File(root / "cabuar.h5", "w") as file:
        for _, key, *_ in made.samples("s2")[made.EACH : 2 * made.EACH]:
            file[f"{key}/image"] = np.zeros((13, 120, 120), np.float32)
    with pytest.raises(FMError, match="float32 13 x 120 x 120 for s2l2a_10, expected float32 12"):
        first.load(root)
    pq.write_table(pa.table({"key": ["a"], "split": ["train"]}), root / "metadata.parquet")
    with pytest.raises(FMError, match=r"metadata\.parquet: no column 'labels'"):
        first.load(root)
