from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from fm.errors import UsageError
from probes.families import attentive
from probes.families.attentive import Pool
from probes.families.job import Job
from probes.features.frozen import Tokens
from probes.settings import Attentive
from tests.probes import vectors

SETTINGS = {
    "family": "attentive",
    "queries": "one",
    "heads": 2,
    "rates": (3e-3,),
    "patience": 8,
    "period": 10,
    "evaluations": 15,
}


class Tokenised(nn.Module):
    """Tokens [N, T, D] by sample number; the last token of odd samples is invalid."""

    def __init__(self, tokens):
        super().__init__()
        self.register_buffer("table", torch.from_numpy(tokens).float())
        self.bands = {"m": ("b",)}
        self.calls = 0

    def encode(self, pixels, **_):
        self.calls += 1
        index = pixels["m"][:, 0, 0, 0].long()
        tokens = self.table[index]
        mask = torch.ones(tokens.shape[:2], dtype=torch.bool)
        mask[index % 2 == 1, -1] = False
        return SimpleNamespace(tokens=tokens, mask=mask, pooled=tokens.mean(1))


def job(model, data, benchmark, cache=None, **changes):
    return Job(Attentive(**{**SETTINGS, **changes}), benchmark, data, model, 0, cache, "test")


@pytest.mark.parametrize("queries", ["one", "class"])
@pytest.mark.parametrize("task", ["class", "multilabel", "regression"])
def test_overfits_eight_samples(task, queries):
    _, data = vectors.eight(task)
    tokens = np.tile(np.random.default_rng(0).normal(size=(8, 5, 12)), (3, 1, 1))
    benchmark = vectors.benchmark(task, vectors.PRIMARY[task])
    outcome = attentive.run(job(Tokenised(tokens), data, benchmark, queries=queries))
    assert max(outcome.selection["scores"]) >= 0.99
    given = job(None, data, benchmark)
    assert given.score(data.of("test"), outcome.predictions) >= 0.99


def test_pooling_is_multi_head_attention():
    """Folding keys into the query and values into the average changes nothing."""
    torch.manual_seed(0)
    width, heads, outputs = 12, 3, 4
    for queries in (1, outputs):
        pool = Pool(width, heads, queries, outputs)
        nn.init.normal_(pool.query)
        nn.init.normal_(pool.read)
        nn.init.normal_(pool.value.bias)
        x = torch.randn(5, 7, width)
        mask = torch.rand(5, 7) < 0.7
        mask[:, 0] = True
        reference = nn.MultiheadAttention(width, heads, batch_first=True)
        with torch.no_grad():
            reference.in_proj_weight.copy_(
                torch.cat([torch.eye(width), pool.key, pool.value.weight])
            )
            reference.in_proj_bias.copy_(
                torch.cat([torch.zeros(width), torch.randn(width), pool.value.bias])
            )
            reference.out_proj.load_state_dict(pool.join.state_dict())
        normed = pool.norm(x)
        asked = pool.query.expand(5, -1, -1)
        out, _ = reference(asked, normed, normed, key_padding_mask=~mask)
        want = (out * pool.read).sum(-1) + pool.offset
        torch.testing.assert_close(pool(x, mask), want, atol=1e-5, rtol=1e-4)


def test_invalid_tokens_are_not_seen_and_a_sample_without_any_is_finite():
    torch.manual_seed(0)
    pool = Pool(8, 2, 1, 3)
    nn.init.normal_(pool.read)
    x = torch.randn(2, 4, 8)
    mask = torch.tensor([[True, True, False, True], [False] * 4])
    other = x.clone()
    other[0, 2] += 100
    assert torch.equal(pool(x, mask)[0], pool(other, mask)[0])
    assert torch.isfinite(pool(x, mask)).all()


def test_finds_the_one_token_that_tells_and_the_mean_hides():
    """One token of nine carries the class; the sum over the tokens is the same for all."""
    rng = np.random.default_rng(0)
    count = 180
    targets = rng.integers(0, 2, count)
    tokens = 0.3 * rng.normal(size=(count, 9, 8))
    place = rng.integers(0, 9, count)
    tokens[np.arange(count), place, 0] += 3.0
    tokens[np.arange(count), place, 1] += np.where(targets == 1, 3.0, -3.0)
    tokens[:, :, 1] -= tokens[:, :, 1].mean(1, keepdims=True)
    data = vectors.data(targets, np.repeat(["train", "val", "test"], 60))
    benchmark = vectors.benchmark("class", "oa")
    outcome = attentive.run(job(Tokenised(tokens), data, benchmark, rates=(1e-2,)))
    assert job(None, data, benchmark).score(data.of("test"), outcome.predictions) > 0.9


def test_tokens_are_kept_by_content_or_encoded_anew(tmp_path):
    _, data = vectors.eight("class")
    model = Tokenised(np.random.default_rng(0).normal(size=(24, 5, 12)))
    about = {"benchmark": "b@1", "precision": "float32"}
    kept = Tokens(model, data, cache=tmp_path, memory_mb=1, **about)
    calls = model.calls
    again = Tokens(model, data, cache=tmp_path, memory_mb=1, **about)
    assert model.calls == calls + 1  # one sample, to learn the size
    anew = Tokens(model, data, cache=tmp_path, memory_mb=0, **about)
    assert (kept.stored, anew.stored) == (True, False)
    rows = np.array([3, 20, 3])
    for one in (again, anew):
        for a, b in zip(one.batch(rows), kept.batch(rows), strict=True):
            assert torch.equal(a, b)
    assert not kept.batch(rows)[1][0, -1]
    benchmark = vectors.benchmark("class", "oa")
    stored, fresh = (
        attentive.run(job(model, data, benchmark, memory_mb=m, evaluations=2)) for m in (1, 0)
    )
    np.testing.assert_allclose(stored.predictions, fresh.predictions, atol=1e-6)
    assert any("encoded for every batch" in note for note in fresh.notes)
    model.table[0, 0, 0] += 1
    assert Tokens(model, data, cache=tmp_path, memory_mb=1, **about).batch(np.arange(1))[0][
        0, 0, 0
    ] == pytest.approx(model.table[0, 0, 0].item())


def test_refusals():
    _, data = vectors.eight("class")
    benchmark = vectors.benchmark("class", "oa")
    model = Tokenised(np.zeros((24, 5, 12)))
    with pytest.raises(UsageError, match="5 heads do not divide the model's width 12"):
        attentive.run(job(model, data, benchmark, heads=5))
    model.encode = lambda pixels, **_: SimpleNamespace(tokens=None, mask=None)
    with pytest.raises(UsageError, match="gives no tokens"):
        attentive.run(job(model, data, benchmark))
