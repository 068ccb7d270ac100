from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from torch import nn

import fm
from fm.errors import FMError
from fm.normalize import Normalisation
from probes.families import linear_sgd
from probes.features import extraction as features
from probes.features.frozen import blocks
from probes.judging.evaluation import evaluate_many
from probes.protocols import get_protocol
from probes.settings import LinearSgd
from tests.probes import standin, vectors

SETTINGS = {"family": "linear-sgd", "rates": (0.1, 1.0), "per_256": False, "batch_size": 16}


@pytest.fixture
def words():
    """Three labels that features tell with noise, the splits alike."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(150, 6))
    targets = x[:, :3] + rng.normal(size=(150, 3)) > 0.3
    split = np.array(["train", "val", "test"])[np.arange(150) % 3]
    return x, vectors.data(targets, split), vectors.benchmark("multilabel", "map_micro")


@pytest.mark.parametrize("task", ["class", "multilabel", "regression"])
def test_overfits_eight_samples(task):
    x, data = vectors.eight(task)
    benchmark = vectors.benchmark(task, vectors.PRIMARY[task])
    settings = LinearSgd(**{**SETTINGS, "rates": (0.1, 0.5), "steps": 400})
    if task == "regression":  # eight equations need eight unknowns
        x = np.tile(np.eye(8), (3, 1))
    job = standin.job(settings, benchmark, data, x)
    outcome = linear_sgd.run(job)
    assert job.score(data.of("train"), outcome.predict(x[data.of("train")])) >= 0.99
    assert job.score(data.of("test"), outcome.predictions) >= 0.99


def test_reaches_the_optimum_of_logistic_regression():
    """The loss of the best of many rates comes near that of a solver without penalty."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(300, 4))
    targets = (x[:, 0] + 0.8 * rng.normal(size=300) > 0).astype(int)
    data = vectors.data(targets, np.repeat(["train", "val", "test"], 100))
    from sklearn.linear_model import LogisticRegression

    train = data.of("train")
    reference = LogisticRegression(C=1e6, tol=1e-8).fit(x[train], targets[train])
    settings = LinearSgd(**{**SETTINGS, "rates": (0.5,), "epochs": 60, "batch_size": 100})
    job = standin.job(settings, vectors.benchmark("class", "oa"), data, x)
    z = torch.from_numpy(linear_sgd.run(job).predict(x[train]))
    ours = nn.functional.cross_entropy(z, torch.from_numpy(targets[train])).item()
    logp = reference.predict_log_proba(x[train])
    best = -logp[np.arange(100), targets[train]].mean()
    assert best <= ours + 1e-9 < best + 2e-3


def test_the_choice_is_made_on_val_and_test_is_not_looked_at(words):
    x, data, benchmark = words
    settings = LinearSgd(**SETTINGS, epochs=4, evaluations=4)
    first = linear_sgd.run(standin.job(settings, benchmark, data, x)).selection
    assert len(first["grid"]) == 8
    assert first["grid"][1] == "lr=1 after 25 %"
    assert len(set(first["scores"])) > 1
    assert first["chosen"] == first["grid"][int(np.argmax(first["scores"]))]
    data.targets[data.of("test")] ^= True
    assert linear_sgd.run(standin.job(settings, benchmark, data, x)).selection == first
    data.targets[data.of("val")] ^= True
    again = linear_sgd.run(standin.job(settings, benchmark, data, x)).selection
    assert again["scores"] != first["scores"]


def test_scores_are_of_the_whole_val_split(words):
    """The mean of batches' average precisions is another number, and depends on the batch."""
    x, data, benchmark = words
    val = data.of("val")
    settings = LinearSgd(**{**SETTINGS, "rates": (0.5,)}, epochs=5)
    outcome = linear_sgd.run(standin.job(settings, benchmark, data, x))
    z, truth = outcome.val, data.targets[val]
    whole = average_precision_score(truth, z, average="micro")
    assert outcome.selection["scores"] == pytest.approx([whole], abs=1e-12)
    parts = [
        average_precision_score(truth[i : i + 16], z[i : i + 16], average="micro")
        for i in range(0, 48, 16)
    ]
    assert abs(np.mean(parts) - whole) > 1e-3


def test_part_of_the_labels_is_drawn_once_and_told(words):
    x, data, benchmark = words
    settings = LinearSgd(**SETTINGS, epochs=2, fraction=0.5)
    outcome = linear_sgd.run(standin.job(settings, benchmark, data, x))
    assert "trained on 25 of 50 training samples, list (sha256): " in outcome.notes[0]
    full = LinearSgd(**SETTINGS, epochs=2)
    told = linear_sgd.run(standin.job(full, benchmark, data, x)).notes
    assert not any("sha256" in note for note in told)


def test_a_rate_that_diverges_is_not_chosen():
    x, data = vectors.eight("class")
    job = standin.job(
        LinearSgd(**{**SETTINGS, "rates": (0.1, 1e38), "steps": 50, "momentum": 0.0}),
        vectors.benchmark("class", "oa"),
        data,
        1e3 * x,
    )
    outcome = linear_sgd.run(job)
    assert outcome.selection["scores"][1] is None
    assert np.isfinite(outcome.predictions).all()
    lost = LinearSgd(**{**SETTINGS, "rates": (1e38,), "steps": 50})
    with pytest.raises(FMError, match="smaller ones"):
        linear_sgd.run(standin.job(lost, vectors.benchmark("class", "oa"), data, 1e3 * x))


class Normed(nn.Module):
    """A frozen backbone with BatchNorm, handed over in training mode."""

    def __init__(self):
        super().__init__()
        self.bands = {"aviris_20": fm.sensor("aviris-indian-pines").bands}
        self.norm = nn.BatchNorm2d(200)  # of one sample too, also in training

    def encode(self, pixels, **_):
        x = self.norm(pixels["aviris_20"].float() / 4000)
        return SimpleNamespace(pooled=x.mean((2, 3)), tokens=None)


def test_batchnorm_of_a_frozen_backbone_stands_still(blocks):
    """Batch statistics would make a sample's features depend on its batch mates."""
    from probes.benchmarks import get_benchmark

    data = get_benchmark("indian-pines").load(blocks)
    model = Normed().train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    found = features.extract(model, data, benchmark="b@1")
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    rows = np.arange(3)
    alone = features.encode(model.eval(), data.read(rows), data.bands, data.scaling)
    np.testing.assert_allclose(found[:3], alone.detach().numpy(), rtol=1e-5)


@pytest.fixture(scope="module")
def vit():
    count = len(standin.BANDS)
    scale = {"mean": [2500.0] * count, "std": [900.0] * count}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        return fm.create_model(
            "vit_nano",
            bands=fm.sensor("aviris-indian-pines").modalities,
            token_m=60,
            width=16,
            depth=4,
            heads=2,
            normalisation={"aviris_20": Normalisation.fit("zscore", scale)},
            scaling={"aviris_20": (1.0, 0.0)},
        ).eval()


def test_blocks_are_class_tokens_through_the_last_norm(blocks_data, vit, tmp_path):
    made = blocks(vit, blocks_data, 2, benchmark="b@1", cache=tmp_path, precision="float32")
    assert made.own
    pixels, valid = features.prepare(vit, blocks_data.read(np.arange(5)))
    with torch.no_grad():
        seen = vit.encode(
            pixels, bands=blocks_data.bands, valid=valid, scaling=blocks_data.scaling, hidden=True
        )
        want = [vit.norm(x).numpy() for x in seen.cls[-2:]]
    for place in range(2):
        np.testing.assert_allclose(made.last[place][:5], want[place], atol=1e-5)
    # the class token after the last block is what class-token pooling gives
    vit.pooling = "cls"
    pooled = vit.encode(pixels, bands=blocks_data.bands, valid=valid, scaling=blocks_data.scaling)
    vit.pooling = "mean"
    np.testing.assert_allclose(made.last[1][:5], pooled.pooled.detach().numpy(), atol=1e-5)
    np.testing.assert_allclose(made.average[:5], _mean(seen), atol=1e-5)
    [entry] = tmp_path.iterdir()
    stamp = entry.stat().st_mtime_ns
    again = blocks(vit, blocks_data, 2, benchmark="b@1", cache=tmp_path, precision="float32")
    np.testing.assert_array_equal(again.average, made.average)
    assert entry.stat().st_mtime_ns == stamp
    assert blocks(vit, blocks_data, 5, benchmark="b@1", cache=None, precision="float32") is None


def _mean(seen):
    if seen.mask is None:
        return seen.tokens.mean(1).numpy()
    w = seen.mask[..., None].float()
    return ((seen.tokens * w).sum(1) / w.sum(1)).numpy()


@pytest.fixture(scope="module")
def blocks_data(blocks):
    from probes.benchmarks import get_benchmark

    return get_benchmark("indian-pines").load(blocks)


def test_a_head_sees_its_own_blocks_alone(blocks_data, vit, tmp_path):
    """A head on four blocks is the same whether or not others train beside it."""
    from probes.benchmarks import get_benchmark
    from probes.families.job import Job

    given = {**SETTINGS, "rates": (0.05,), "steps": 20}
    runs = []
    for count, average in (((1, 4), (False, True)), ((4,), (True,))):
        settings = LinearSgd(**given, blocks=count, average=average, initial=0.0)
        job = Job(settings, get_benchmark("indian-pines"), blocks_data, vit, 0, tmp_path, "vit")
        runs.append(linear_sgd.run(job))
    names = [f"lr=0.05 blocks={n} avgpool={a}" for n in (1, 4) for a in ("no", "yes")]
    assert runs[0].selection["grid"] == names
    assert runs[1].selection["grid"] == names[3:]
    assert runs[0].selection["scores"][3] == pytest.approx(runs[1].selection["scores"][0])
    assert "class tokens" in runs[0].notes[0]


def test_a_model_without_blocks_is_read_by_its_pooled_vector(blocks_data):
    from probes.benchmarks import get_benchmark
    from probes.families.job import Job

    settings = LinearSgd(**SETTINGS, steps=5, blocks=(1, 4))
    model = standin.Encoder()
    job = Job(settings, get_benchmark("indian-pines"), blocks_data, model, 0, None, "pooled")
    outcome = linear_sgd.run(job)
    assert outcome.notes[0] == "the model does not give its last blocks: heads saw pooled alone"
    assert outcome.selection["grid"] == ["lr=0.1", "lr=1"]


def test_shipped_protocols():
    dino = get_protocol("dinov2-linear").settings
    assert len(dino.rates) * len(dino.blocks) * len(dino.average) == 52
    assert get_protocol("legacy-ssl4eo").settings.milestones == (0.6, 0.8)
    tenth = get_protocol("legacy-ssl4eo-10")
    assert tenth.settings.fraction == 0.1
    assert tenth.floors == ("image-statistics-10pc-first", "raw-pixel-10pc-first")
    share = [linear_sgd._share(at, tenth.settings) for at in (0.0, 0.39, 0.4, 0.8)]
    assert share == pytest.approx([1, 1, 0.1, 0.01])
    cosine = [linear_sgd._share(at, dino) for at in (0.0, 0.5, 1.0)]
    assert cosine == pytest.approx([1, 0.5, 0])


def test_rows_of_a_result(blocks):
    model = standin.Encoder()
    results = evaluate_many(
        model, "indian-pines", ["legacy-ssl4eo-10"], data=blocks, with_floors=False
    )
    assert results[0].protocol["settings"]["family"] == "linear-sgd"
    assert results[0].selection["split"] == "val"
    assert any("sha256" in note for note in results[0].benchmark["notes"])
