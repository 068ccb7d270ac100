"""Attention pooling over frozen tokens: what a mean over the tokens throws away.

A learned query attends to all tokens of a sample, and a linear layer reads what it gathers (the
attentive probe of Chen et al., Context Autoencoder, arXiv 2202.03026, and of V-JEPA, arXiv
2404.08471, with one layer and no MLP).
"""

import math

import numpy as np
import torch
from torch import Tensor, nn

from fm.console import progress
from fm.errors import FMError, UsageError
from probes.families.descent import Best, Goal, finite, stream
from probes.families.job import Job, Outcome, best_of, edge_note, selection
from probes.families.labels import draw, told
from probes.families.mlp import notes_of
from probes.features.frozen import Tokens
from probes.settings import Attentive

TASKS = ("class", "multilabel", "regression")
BATCH = 256


class Pool(nn.Module):
    """Multi-head attention of learned queries over tokens, then a linear layer.

    With keys `Wk x + bk` the logit of a token is `q . (Wk x) + const`, and the constant leaves the
    softmax: a query acts on tokens as the vector `Wk^T q`, and values are made of the averaged
    token. So no matrix is applied to single tokens.

    Args:
        width: D of a token.
        heads: attention heads; must divide D.
        queries: 1, or one an output.
        outputs: K.
    """

    def __init__(self, width: int, heads: int, queries: int, outputs: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.query = nn.Parameter(torch.randn(queries, width) * 0.02)
        self.key = nn.Parameter(torch.empty(width, width))
        self.value = nn.Linear(width, width)
        self.join = nn.Linear(width, width)
        self.read = nn.Parameter(torch.zeros(outputs, width))
        self.offset = nn.Parameter(torch.zeros(outputs))
        nn.init.xavier_uniform_(self.key)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return scores [B, K] of tokens [B, N, D] with mask [B, N]; True are seen.

        A sample without any valid token attends to all of them.
        """
        x = self.norm(tokens)
        batch, _, width = x.shape
        each = width // self.heads
        # [Q, heads, D]: the query of each attention head, carried over to token space
        query = self.query.unflatten(1, (self.heads, each))
        query = torch.einsum("qhe,hed->qhd", query, self.key.unflatten(0, (self.heads, each)))
        logits = torch.einsum("bnd,qhd->bqhn", x, query) / math.sqrt(each)
        seen = mask | ~mask.any(1, keepdim=True)
        share = logits.masked_fill(~seen[:, None, None], -math.inf).softmax(-1)
        gathered = torch.einsum("bqhn,bnd->bqhd", share, x)
        value = self.value.weight.unflatten(0, (self.heads, each))
        found = torch.einsum("bqhd,hed->bqhe", gathered, value).reshape(batch, -1, width)
        found = self.join(found + self.value.bias)
        return (found * self.read).sum(-1) + self.offset


def run(job: Job) -> Outcome:
    """Train one head a rate until val stops improving, choose on val, score test."""
    settings: Attentive = job.settings
    data = job.data
    whole, val, test = job.splits
    train = draw(
        data, whole, per_class=settings.per_class, fraction=settings.fraction, seed=job.seed
    )
    tokens = Tokens(
        job.model,
        data,
        benchmark=job.benchmark.full_name,
        cache=job.cache,
        precision=settings.precision,
        memory_mb=settings.memory_mb,
    )
    if tokens.width % settings.heads:
        raise UsageError(
            f"attentive: {settings.heads} heads do not divide the model's width {tokens.width}; "
            f"choose a protocol with other heads"
        )
    goal = Goal.of(job.benchmark.task, data, train)
    with torch.random.fork_rng(devices=[]):
        found = [_train(tokens, goal, train, val, rate, settings, job) for rate in settings.rates]
    scores = [one.score for one in found]
    place = best_of(scores)
    if found[place].state is None:
        raise FMError(f"{job.label}: no learning rate gave finite scores; give smaller ones")
    head = _new(tokens, goal, settings)
    with torch.no_grad():
        for parameter, value in zip(head.parameters(), found[place].state, strict=True):
            parameter.copy_(value)
    notes = notes_of(found, place, settings.evaluations)
    notes += edge_note("lr", settings.rates, settings.rates[place])
    if not tokens.stored:
        notes.append(f"tokens exceed {settings.memory_mb} MiB and were encoded for every batch")
    notes += told(data, whole, train)
    return Outcome(
        predictions=goal.predictions(_scores(head, tokens, test)),
        selection=selection("lr", list(settings.rates), scores, place),
        notes=notes,
        scale=goal.scale,
        val=goal.predictions(_scores(head, tokens, val)),
    )


def _new(tokens: Tokens, goal: Goal, settings: Attentive) -> Pool:
    queries = goal.outputs if settings.queries == "class" else 1
    return Pool(tokens.width, settings.heads, queries, goal.outputs)


def _train(
    tokens: Tokens,
    goal: Goal,
    train: np.ndarray,
    val: np.ndarray,
    rate: float,
    settings: Attentive,
    job: Job,
) -> Best:
    """Train one head; every rate starts at the same weights and sees the same batches."""
    torch.manual_seed(job.seed)
    head = _new(tokens, goal, settings)
    matrices = [head.key, head.value.weight, head.join.weight, head.read]
    kept = {id(p) for p in matrices}
    others = [p for p in head.parameters() if id(p) not in kept]
    optimizer = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": settings.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ],
        lr=rate,
    )
    found = Best(settings.patience)
    period = max(settings.period, -(-len(train) // settings.batch_size))
    batches = stream(len(train), settings.batch_size, period * settings.evaluations, job.seed)
    with progress(f"attentive {job.label} lr={rate:g}", settings.evaluations) as bar:
        for _ in range(settings.evaluations):
            for _ in range(period):
                index = train[next(batches)]
                loss = goal.loss(head(*tokens.batch(index))[None], torch.from_numpy(index)).sum()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            z = _scores(head, tokens, val)
            score = job.score(val, goal.predictions(z)) if finite(z) else np.nan
            found.offer(score, list(head.parameters()))
            bar.advance(best=f"{found.score:.4f}")
            if not found.alive:
                break
    return found


@torch.no_grad()
def _scores(head: Pool, tokens: Tokens, rows: np.ndarray) -> Tensor:
    """Scores [n, K] of some samples."""
    parts = [head(*tokens.batch(rows[i : i + BATCH])) for i in range(0, len(rows), BATCH)]
    return torch.cat(parts)
