"""BERT's encoder, with the names of its released weights (Devlin et al., arXiv 1810.04805)."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional


class _Embeddings(nn.Module):
    def __init__(self, words: int, places: int, kinds: int, width: int, eps: float) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(words, width)
        self.position_embeddings = nn.Embedding(places, width)
        self.token_type_embeddings = nn.Embedding(kinds, width)
        self.LayerNorm = nn.LayerNorm(width, eps)

    def forward(self, numbers: Tensor) -> Tensor:
        places = torch.arange(numbers.shape[1], device=numbers.device)
        kind = self.token_type_embeddings(torch.zeros_like(places))
        summed = self.word_embeddings(numbers) + self.position_embeddings(places) + kind
        normed: Tensor = self.LayerNorm(summed)
        return normed


class _SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        query, key, value = (
            part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        made = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return made.transpose(1, 2).flatten(2)


class _Added(nn.Module):
    """A linear layer whose result is added to what it came from, and normalised."""

    def __init__(self, inside: int, width: int, eps: float) -> None:
        super().__init__()
        self.dense = nn.Linear(inside, width)
        self.LayerNorm = nn.LayerNorm(width, eps)

    def forward(self, x: Tensor, before: Tensor) -> Tensor:
        normed: Tensor = self.LayerNorm(self.dense(x) + before)
        return normed


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int, inside: int, eps: float) -> None:
        super().__init__()
        self.attention = nn.ModuleDict(
            {"self": _SelfAttention(width, heads), "output": _Added(width, width, eps)}
        )
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, inside)})
        self.output = _Added(inside, width, eps)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.attention["output"](self.attention["self"](x, mask), x)
        made: Tensor = self.output(functional.gelu(self.intermediate["dense"](x)), x)
        return made


class Bert(nn.Module):
    """Token embeddings and layers with the norm after each; without dropout.

    Args:
        words: size of the vocabulary.
        width: of the tokens.
        depth: layers.
        heads: of attention; a whole share of the width each.
        inside: width of the perceptrons.
        places: longest text.
        kinds: of sentences in a text; only the first is used.
        eps: of the norms.
    """

    def __init__(
        self,
        words: int,
        width: int,
        depth: int,
        heads: int,
        inside: int,
        places: int = 512,
        kinds: int = 2,
        eps: float = 1e-12,
    ) -> None:
        super().__init__()
        self.width, self.places = width, places
        self.embeddings = _Embeddings(words, places, kinds, width, eps)
        layers = nn.ModuleList([_Layer(width, heads, inside, eps) for _ in range(depth)])
        self.encoder = nn.ModuleDict({"layer": layers})
        for part in self.modules():
            if isinstance(part, nn.Linear | nn.Embedding):
                nn.init.normal_(part.weight, std=0.02)
            if isinstance(part, nn.Linear):
                nn.init.zeros_(part.bias)

    def forward(self, numbers: Tensor, mask: Tensor) -> Tensor:
        """Encode texts.

        Args:
            numbers: `[n, L]` int64.
            mask: `[n, L]` bool, False at what fills a text up.

        Returns:
            `[n, L, D]`.
        """
        x = self.embeddings(numbers)
        for layer in cast(nn.ModuleList, self.encoder["layer"]):
            x = layer(x, mask[:, None, None, :])
        return x

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Bert":
        """Build what a `config.json` describes.

        Raises:
            KeyError: a size is missing.
            ValueError: another kind of model.
        """
        wanted = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}
        for key, value in wanted.items():
            if config.get(key, value) != value:
                raise ValueError(f"{key} is {config[key]!r}, only {value!r} is read")
        return cls(
            words=config["vocab_size"],
            width=config["hidden_size"],
            depth=config["num_hidden_layers"],
            heads=config["num_attention_heads"],
            inside=config["intermediate_size"],
            places=config["max_position_embeddings"],
            kinds=config["type_vocab_size"],
            eps=config["layer_norm_eps"],
        )
