import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import fm
import fm.checkpoint
import probes
from fm.errors import FMError, UsageError
from fm.normalize import Normalisation
from fm.version import WRITER
from probes.benchmarks import get_benchmark
from probes.benchmarks.base import Data, Inputs
from probes.checks import overlap
from probes.families import linear
from probes.features import extraction as features
from probes.features.floors import centre_pixel, image_statistics
from probes.judging.evaluation import evaluate_many
from probes.protocols import get_protocol
from probes.result import _SINCE_2, Result
from probes.settings import Finetune, Grid, Linear
from tests.probes import standin


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, blocks):
    """A small untrained checkpoint for the scene; 3-px tokens."""
    bands = fm.sensor("aviris-indian-pines").modalities
    count = len(standin.BANDS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = fm.create_model(
            "vit_nano",
            bands=bands,
            token_m=60,
            width=32,
            depth=1,
            heads=2,
            normalisation={
                "aviris_20": Normalisation.fit(
                    "zscore", {"mean": [2500.0] * count, "std": [900.0] * count}
                )
            },
            scaling={"aviris_20": (1.0, 0.0)},
        )
    folder = tmp_path_factory.mktemp("model") / "export"
    fm.checkpoint.save(folder, model)
    return folder


@pytest.fixture(scope="module")
def evaluated(checkpoint, blocks, tmp_path_factory):
    out = tmp_path_factory.mktemp("results")
    results = evaluate_many(
        checkpoint, "indian-pines", ["linear", "knn"], data=blocks, out=out, command="fm probe"
    )
    return results, out


def test_rows_and_floors(evaluated):
    results, out = evaluated
    kinds = [(r.protocol["name"], r.model["kind"]) for r in results]
    assert kinds == [
        ("linear", "pretrained"),
        ("knn", "pretrained"),
        ("image-statistics", "floor"),
        ("raw-pixel", "floor"),
        ("random-conv", "floor"),
        ("random-conv-zca", "floor"),
        ("linear", "random-init"),
        ("knn", "random-init"),
    ]
    for result in results[:2]:
        names = [v["name"] for v in result.versus]
        pixels = ["image-statistics", "raw-pixel", "random-conv", "random-conv-zca"]
        assert names == [*pixels, "export-random-init"]
        for other, versus in zip(
            [*results[2:6], results[6 if result is results[0] else 7]],
            result.versus,
            strict=True,
        ):
            assert versus["difference"] == pytest.approx(result.value - other.value)
            assert versus["low"] <= versus["difference"] <= versus["high"]
    assert {p.stem for p in out.glob("*.json")} == {r.id for r in results}
    assert results[0].interval["unit"] == "block"
    # a reader of the file alone knows the whole recipe and what it differs in from its paper
    assert results[0].protocol == get_protocol("linear@1").model_dump(mode="json")
    assert "no refit on train and val" in " ".join(results[0].protocol["reference"].split())
    assert np.sum(results[0].confusion) == results[0].benchmark["n_test"]
    assert results[0].overlap["statement"].startswith("unknown")


def test_a_floor_that_was_asked_for_stands_beside_the_model_too(checkpoint, blocks, tmp_path):
    asked = ["fewshot-prototype-1", "fewshot-raw-pixel-1"]
    rows = evaluate_many(checkpoint, "indian-pines", asked, data=blocks, out=tmp_path)
    floors = ["fewshot-image-statistics-1", "fewshot-raw-pixel-1"]
    assert [row.protocol["name"] for row in rows] == [*asked, floors[0], asked[0]]
    assert [v["name"] for v in rows[0].versus] == [*floors, "export-random-init"]
    assert rows[1].versus == []
    assert len(list(tmp_path.glob("*.json"))) == 4
    lists = {note for row in rows for note in row.benchmark["notes"] if "sha256" in note}
    assert len(lists) == 1


def test_a_floor_that_cannot_be_made_is_told_and_the_model_is_judged(
    checkpoint, blocks, monkeypatch
):
    def refuse(*_):
        raise FMError("no patch of a training sample is wholly valid")

    monkeypatch.setattr("probes.features.random_conv.fit", refuse)
    rows = evaluate_many(checkpoint, "indian-pines", ["knn"], data=blocks)
    assert [v["name"] for v in rows[0].versus] == [
        *("image-statistics", "raw-pixel"),
        "export-random-init",
    ]
    told = [note for note in rows[0].benchmark["notes"] if note.startswith("no floor random-conv")]
    assert len(told) == 2
    assert told[0] == "no floor random-conv: no patch of a training sample is wholly valid"


def test_result_files_round_trip_and_satisfy_the_leaderboard(evaluated):
    results, out = evaluated
    for result in results:
        assert Result.load(out / f"{result.id}.json").to_dict() == result.to_dict()
    leaderboard = pytest.importorskip("probes.leaderboard")
    assert leaderboard.check(out) == []


def test_the_same_seed_gives_the_same_numbers(evaluated, checkpoint, blocks):
    again = evaluate_many(checkpoint, "indian-pines", ["linear", "knn"], data=blocks)
    for one, two in zip(evaluated[0], again, strict=True):
        for key in ("metrics", "versus", "selection", "confusion", "per_class"):
            assert getattr(one, key) == getattr(two, key)


def test_a_result_of_format_1_is_read(evaluated, tmp_path):
    old = {k: v for k, v in evaluated[0][0].to_dict().items() if k not in _SINCE_2}
    path = tmp_path / "old.json"
    path.write_text(json.dumps({**old, "format_version": 1}))
    assert Result.load(path).robustness is None
    path.write_text(json.dumps({**old, "format_version": 2}))
    with pytest.raises(FMError, match="key 'axes' is missing"):
        Result.load(path)


def test_damaged_results_are_refused(evaluated, tmp_path):
    good = evaluated[0][0].to_dict()
    for change, text in (
        ({"format_version": 3}, f"format 3, written by {WRITER}, is newer"),
        ({"primary": "nothing"}, "primary"),
        ({"extra": 1}, "unknown"),
        ({"id": "other"}, "id"),
        ({"model": {"name": "x"}}, "model.kind"),
    ):
        path = tmp_path / "bad.json"
        path.write_text(json.dumps({**good, **change}))
        with pytest.raises(FMError, match=text) as error:
            Result.load(path)
        assert "\n" not in str(error.value)


class _Tiny:
    """A benchmark in memory whose test set prefers another C than its val set."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.x = rng.normal(size=(90, 30))
        targets = (self.x[:, 0] + rng.normal(size=90) > 0).astype(int)
        split = np.repeat(["train", "val", "test"], 30)
        self.data = Data(
            read=lambda index: None,
            targets=targets,
            split=split,
            unit=np.arange(90),
            shards=split,
            classes=("a", "b"),
            bands={},
            scaling={},
            dataset="tiny",
            manifest_hash="0",
            folder=None,
        )


def test_c_is_chosen_on_val_alone():
    """Any change of the test labels leaves the choice; the scores of val decide it."""
    tiny = _Tiny()
    benchmark = get_benchmark("indian-pines")
    settings = Linear(family="linear", c=Grid(low=1e-3, high=1e2, count=6))
    job = standin.job(settings, benchmark, tiny.data, tiny.x)
    first = linear.run(job).selection
    tiny.data.targets[tiny.data.of("test")] ^= 1
    second = linear.run(job).selection
    assert first == second
    values = first["scores"]
    assert len(set(values)) > 1  # otherwise nothing was chosen
    assert first["chosen"] == first["grid"][values.index(max(values))]
    tiny.data.targets[tiny.data.of("val")] ^= 1
    third = linear.run(job).selection
    assert third["scores"] == pytest.approx([1 - v for v in values])


def test_the_floors_use_valid_pixels_only():
    rng = np.random.default_rng(0)
    x = rng.integers(1, 100, (3, 2, 5, 5)).astype(np.uint16)
    valid = rng.random((3, 5, 5)) < 0.6
    valid[:, 2, 2] = True
    found = image_statistics(Inputs({"m": x}, {"m": valid}), {"m": (0.5, 1.0)})
    for i in range(3):
        inside = x[i][:, valid[i]] * 0.5 + 1.0
        np.testing.assert_allclose(found[i], [*inside.mean(1), *inside.std(1)])
    other = np.where(valid[:, None], x, 9999).astype(np.uint16)
    again = image_statistics(Inputs({"m": other}, {"m": valid}), {"m": (0.5, 1.0)})
    np.testing.assert_array_equal(found, again)
    centre = centre_pixel(Inputs({"m": x}), {"m": (0.5, 1.0)})
    np.testing.assert_allclose(centre, x[:, :, 2, 2] * 0.5 + 1.0)


def test_features_are_cached_by_content(blocks, tmp_path):
    data = get_benchmark("indian-pines").load(blocks)
    model = standin.Encoder()
    first = features.extract(model, data, benchmark="b@1", cache=tmp_path)
    [entry] = tmp_path.iterdir()
    settings = np.load(entry)["settings"]
    np.savez(entry, features=first + 1, settings=settings)
    np.testing.assert_array_equal(
        features.extract(model, data, benchmark="b@1", cache=tmp_path), first + 1
    )
    entry.write_bytes(b"damaged")
    np.testing.assert_array_equal(
        features.extract(model, data, benchmark="b@1", cache=tmp_path), first
    )
    with torch.no_grad():
        model.project[0, 0] += 1
    changed = features.extract(model, data, benchmark="b@1", cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    assert not np.array_equal(changed, first)


def test_nan_features_are_refused(blocks):
    data = get_benchmark("indian-pines").load(blocks)
    model = standin.Encoder()
    with torch.no_grad():
        model.project[0, 0] = torch.nan
    with pytest.raises(FMError, match="NaN"):
        features.extract(model, data, benchmark="b@1")


def test_a_model_in_memory_without_floors(blocks):
    result = probes.evaluate(
        standin.Encoder(), "indian-pines", "linear", data=blocks, with_floors=False
    )
    assert result.value > 0.4  # the classes have their own spectra; chance is 0.25
    assert result.versus == []
    assert result.selection["split"] == "val"
    assert result.selection["refit"] == "train only"


def test_checkerboard_takes_raw_pixels_alone(blocks, checkpoint):
    result = probes.evaluate(None, "indian-pines-checkerboard", "raw-pixel", data=blocks)
    assert result.selection is None
    assert result.model["kind"] == "floor"
    with pytest.raises(UsageError, match="raw-pixel alone"):
        probes.evaluate(checkpoint, "indian-pines-checkerboard", "linear", data=blocks)
    with pytest.raises(UsageError, match="needs a model"):
        probes.evaluate(None, "indian-pines", "linear", data=blocks)


def test_finetuning_learns_and_leaves_the_model_alone(checkpoint, blocks):
    from probes.families.finetune import finetune
    from probes.families.labels import subset

    data = get_benchmark("indian-pines").load(blocks)
    model = fm.load(checkpoint)
    before = features.model_hash(model)
    settings = Finetune(family="finetune", epochs=2, learning_rates=(1e-3, 1e-5), per_class=40)
    score = standin.job(settings, get_benchmark("indian-pines"), data).score
    found = finetune(model, data, settings, score, seed=0)
    assert features.model_hash(model) == before
    assert len(found.trials) == len(found.val_scores) == 4
    assert found.val_scores[found.chosen] == max(found.val_scores)
    test = data.of("test")
    assert score(test, found.test_scores) > 0.5
    short = Finetune(family="finetune", epochs=1, learning_rates=(3e-3,), per_class=7)
    one, two = (finetune(model, data, short, score, seed=0).test_scores for _ in range(2))
    np.testing.assert_array_equal(one, two)
    few = subset(data, data.of("train"), 7, seed=0)
    assert set(few) <= set(data.of("train"))
    assert np.bincount(data.targets[few]).max() == 7
    np.testing.assert_array_equal(few, subset(data, data.of("train"), 7, seed=0))


def _l1c_model():
    bands = fm.sensor("sentinel2-l1c").modalities
    return fm.create_model("vit_nano", bands=bands, token_m=120, width=32, depth=1, heads=2)


def test_other_bands_are_refused_and_adapted_on_request(pairs):
    model = _l1c_model()
    with pytest.raises(UsageError, match=r"s2l2a_10 .*B02 B03 B04 B08.*--adapt") as error:
        probes.evaluate(model, "bigearthnet-s2", "linear", data=pairs)
    assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match="stand in for s1grd_10"):
        probes.evaluate(model, "bigearthnet-s1s2", "linear", data=pairs, adapt=True)
    results = evaluate_many(model, "bigearthnet-s2", ["linear"], data=pairs, adapt=True)
    assert results[0].model["adapted"]["modalities"]["s2l2a_10"] == "s2l1c_10"
    assert [r.model["kind"] for r in results] == ["pretrained", *["floor"] * 4, "random-init"]
    assert set(results[0].metrics) == {"map", "map_micro"}
    assert results[0].confusion is None
    assert len(results[0].per_class) == 19


def test_another_sensor_is_estimated_on_request(pairs, tmp_path):
    bands = {"l8l2_30": fm.sensor("landsat8-oli-l2").modalities["l8l2_30"]}
    model = fm.create_model("vit_nano", bands=bands, token_m=120, width=32, depth=1, heads=2)
    with pytest.raises(UsageError, match="--adapt-policy to estimate"):
        probes.evaluate(model, "bigearthnet-s2", "linear", data=pairs)
    with pytest.raises(UsageError, match=r"B05 at 704.1 nm: SR_B4, the model's nearest, lies 49.5"):
        probes.evaluate(model, "bigearthnet-s2", "linear", data=pairs, adapt="response")
    # what the model cannot see is left out by hand, once and for all
    fitted, _ = fm.adapt.to_bands(
        model, fm.sensor("sentinel2-l2a").modalities, policy="response", beyond="zero"
    )
    fm.checkpoint.save(tmp_path / "m", fitted)
    result = probes.evaluate(tmp_path / "m", "bigearthnet-s2", "linear", data=pairs)
    assert result.model["adapted"]["bands"] == {"l8l2_30": [b.name for b in bands["l8l2_30"]]}
    assert result.model["name"] == "vit_nano (adapted)"
    near = fm.create_model(
        "vit_nano",
        bands={
            m.replace("s2l2a", "s2l1c"): b for m, b in fm.sensor("sentinel2-l2a").modalities.items()
        },
        token_m=120,
        width=32,
        depth=1,
        heads=2,
    )
    result = probes.evaluate(near, "bigearthnet-s2", "linear", data=pairs, adapt="nearest:1")
    assert result.model["adapted"]["groups"] == {"s2l2a": "s2l1c"}
    assert result.model["adapted"]["tolerance_nm"] == 1.0


def _card(**data):
    return SimpleNamespace(card=SimpleNamespace(data=data))


def test_overlap_in_words(blocks, pairs):
    data = get_benchmark("indian-pines").load(blocks)
    n = len(data.of("test"))
    same = data.manifest_hash
    whole = overlap.describe(_card(manifest_hash=same, where=None), data)
    assert (whole["shared_samples"], whole["transductive"]) == (n, True)
    train = overlap.describe(_card(manifest_hash=same, where="split == 'train'"), data)
    assert (train["shared_samples"], train["transductive"]) == (0, False)
    assert train["statement"].startswith("not transductive")
    part = overlap.describe(_card(manifest_hash=same, where=None, split={"part": "train"}), data)
    assert part["statement"].startswith("unknown: pretraining read part 'train'")
    assert (part["shared_samples"], part["transductive"]) == (None, False)
    other = overlap.describe(_card(manifest_hash="f" * 64, where=None, cells=[1]), data)
    assert (other["shared_samples"], other["transductive"]) == (None, False)
    assert "unknown" in other["statement"]
    nothing = overlap.describe(SimpleNamespace(card=None), data)
    assert nothing["statement"].startswith("unknown")
    located = get_benchmark("bigearthnet-s2").load(pairs)
    from fm.geo import block_id

    cell = int(block_id(np.array([[16.12, 48.0]]), 10.0)[0])
    near = overlap.describe(_card(manifest_hash="f", cell_km=10.0, cells=[cell]), located)
    far = overlap.describe(_card(manifest_hash="f", cell_km=10.0, cells=[cell + 1000]), located)
    assert near["shared_samples"] > 0
    assert (far["shared_samples"], far["transductive"]) == (0, False)


def test_overlap_of_a_mixture_looks_at_every_part(blocks):
    data = get_benchmark("indian-pines").load(blocks)
    here = {"manifest_hash": data.manifest_hash, "where": None}
    train = {**here, "where": "split == 'train'"}
    other = {"manifest_hash": "f" * 64, "name": "elsewhere"}
    seen = overlap.describe(_card(parts={"s2": other, "hsi": here}), data)
    assert (seen["shared_samples"], seen["transductive"]) == (len(data.of("test")), True)
    assert "hsi: transductive" in seen["statement"]
    assert "s2: pretrained on another dataset (elsewhere)" in seen["statement"]
    clean = overlap.describe(_card(parts={"hsi": train}), data)
    assert (clean["shared_samples"], clean["transductive"]) == (0, False)
    unsure = overlap.describe(_card(parts={"hsi": train, "s2": other}), data)
    assert (unsure["shared_samples"], unsure["transductive"]) == (None, False)


def test_grids_that_are_no_whole_tokens_are_extended_by_invalid_pixels(checkpoint):
    model = fm.load(checkpoint)
    x = np.random.default_rng(0).integers(1000, 4000, (2, 200, 7, 9)).astype(np.uint16)
    pixels, valid = features.prepare(model, Inputs({"aviris_20": x}))
    assert pixels["aviris_20"].shape[-2:] == (9, 9)
    assert valid["aviris_20"].sum() == 2 * 7 * 9
    np.testing.assert_array_equal(pixels["aviris_20"][:, :, :7].numpy(), x)


def test_protocol_files_parse_to_what_they_say():
    assert len(get_protocol("linear@1").settings.c.values()) == 17
    assert get_protocol("raw-pixel").needs_model is False
    assert get_protocol("finetune-full").settings.per_class is None


def test_the_architecture_is_trained_from_scratch_on_request(checkpoint, blocks, monkeypatch):
    quick = get_protocol("finetune")
    few = {"epochs": 1, "learning_rates": (1e-3,), "per_class": 5, "val_per_class": 5}
    quick = quick.model_copy(update={"settings": quick.settings.model_copy(update=few)})
    bare = get_protocol("knn").model_copy(update={"floors": ()})
    given = {"finetune": quick, "knn": bare, "linear": get_protocol("linear")}
    monkeypatch.setattr("probes.judging.evaluation.get_protocol", given.__getitem__)
    results = evaluate_many(checkpoint, "indian-pines", ["knn"], data=blocks, scratch="finetune")
    last = results[-1]
    assert (last.model["kind"], last.model["name"]) == ("supervised", "export-from-scratch")
    assert last.protocol["name"] == "finetune"
    assert results[0].versus[-1]["name"] == "export-from-scratch"
    assert results[0].versus[-1]["difference"] == pytest.approx(results[0].value - last.value)
    with pytest.raises(UsageError, match="trains no backbone"):
        probes.evaluate(checkpoint, "indian-pines", "knn", data=blocks, scratch="linear")
    with pytest.raises(UsageError, match="beside a model"):
        evaluate_many(
            checkpoint,
            "indian-pines",
            ["knn"],
            data=blocks,
            scratch="finetune",
            with_floors=False,
        )
