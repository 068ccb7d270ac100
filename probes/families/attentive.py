"""Attention pooling over frozen tokens: what a mean over the tokens throws away.

A learned query attends to all tokens of a sample, and a linear layer reads what it gathers (the
attentive probe of Chen et al., Context Autoencoder, arXiv 2202.03026, and of V-JEPA, arXiv
2404.08471, with one layer and no MLP).
"""

import math

import torch
from torch import Tensor, nn

from fm.errors import UsageError
from probes.families.heads import train_heads
from probes.families.job import Job, Outcome
from probes.families.labels import draw
from probes.features.frozen import Tokens
from probes.settings import Attentive

TASKS = ("class", "multilabel", "regression")


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
    train = draw(
        data, job.splits[0], per_class=settings.per_class, fraction=settings.fraction, seed=job.seed
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
    notes = []
    if not tokens.stored:
        notes.append(f"tokens exceed {settings.memory_mb} MiB and were encoded for every batch")

    def build(outputs: int) -> nn.Module:
        queries = outputs if settings.queries == "class" else 1
        return Pool(tokens.width, settings.heads, queries, outputs)

    return train_heads(
        job,
        settings,
        train,
        name="attentive",
        build=build,
        decayed=_matrices,
        batch=tokens.batch,
        notes=notes,
    )


def _matrices(head: nn.Module) -> list[Tensor]:
    assert isinstance(head, Pool)
    return [head.key, head.value.weight, head.join.weight, head.read]
