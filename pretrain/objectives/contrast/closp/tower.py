"""The text tower: texts in, rows out; released weights from a folder, or a small one of its own.

Any other tower needs no more than `TextTower` asks for.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from fm.checkpoint import load_strict
from fm.config import Config
from fm.errors import FMError
from pretrain.objectives.contrast.closp.bert import Bert
from pretrain.objectives.contrast.closp.released import (
    ADDRESS,
    CASE,
    CONFIG,
    WEIGHTS,
    WORDS,
    fetch_tower,
)
from pretrain.objectives.contrast.closp.wordpiece import HashedWords, Tokenizer, WordPiece, padded
from pretrain.ranks import collective
from pretrain.settings.kinds import Positive

NOT_USED = ("pooler.", "cls.", "embeddings.position_ids")
"""Of released weights: heads of BERT's own training, and numbers that need no file."""
_PREFIX = "bert."


class TextConfig(Config):
    """The text tower.

    Attributes:
        folder: of a BERT: `config.json`, `vocab.txt` and `model.safetensors`, such as
            all-MiniLM-L6-v2. Null makes a small one with fresh weights, whose words are hashed.
        hub: OWNER/NAME@COMMIT of a model hub, whose files come into `folder` where it lacks them.
        pooling: `first`, the output of the first token, as CLOSP; `mean` over the text, as the
            sentence-transformers models were trained.
        frozen: its weights stay as they are.
        longest: tokens of a text; what is longer is cut.
        width: of a small one.
        depth: of a small one.
        heads: of a small one.
        words: size of a small one's table of hashed words.
    """

    folder: str | None = None
    hub: str | None = None
    pooling: Literal["first", "mean"] = "first"
    frozen: bool = False
    longest: int = Field(64, ge=4)
    width: Positive = 64
    depth: Positive = 2
    heads: Positive = 4
    words: int = Field(1024, ge=16)

    @model_validator(mode="after")
    def _a_commit_and_where_it_goes(self) -> "TextConfig":
        if self.hub is not None and not ADDRESS.fullmatch(self.hub):
            raise ValueError(f"hub={self.hub}: give OWNER/NAME@COMMIT, with all 40 digits")
        if self.hub is not None and self.folder is None:
            raise ValueError("hub: name the folder that its files come into")
        return self


class TextTower(nn.Module, ABC):
    """Turns texts into rows.

    Attributes:
        width: D of a row.
    """

    width: int

    @abstractmethod
    def numbers(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return the tokens of texts `[n, L]` int64, and which are text `[n, L]` bool."""

    @abstractmethod
    def forward(self, numbers: Tensor, mask: Tensor) -> Tensor:
        """Return `[n, D]`, not normalised."""


class BertTower(TextTower):
    """A BERT and its tokenizer.

    Args:
        bert: the encoder.
        tokenizer: its words.
        config: see `TextConfig`.
    """

    def __init__(self, bert: Bert, tokenizer: Tokenizer, config: TextConfig) -> None:
        super().__init__()
        self.bert, self.tokenizer, self.config = bert, tokenizer, config
        self.width = bert.width

    def numbers(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return the tokens of texts, on the CPU."""
        longest = min(self.config.longest, self.bert.places)
        rows = [self.tokenizer.numbers(text, longest) for text in texts]
        numbers, mask = padded(rows, self.tokenizer.padding)
        return torch.tensor(numbers, dtype=torch.int64), torch.tensor(mask)

    def forward(self, numbers: Tensor, mask: Tensor) -> Tensor:
        """Return the pooled rows."""
        tokens = self.bert(numbers, mask)
        if self.config.pooling == "first":
            first: Tensor = tokens[:, 0]
            return first
        share = mask.to(tokens.dtype)[..., None]
        mean: Tensor = (tokens * share).sum(dim=1) / share.sum(dim=1)
        return mean


def text_tower(config: TextConfig) -> TextTower:
    """Build the tower that a config describes, with its released weights.

    Raises:
        FMError: the folder holds no such model, or other weights.
    """
    if config.folder is None:
        words = HashedWords(config.words)
        small = Bert(
            config.words, config.width, config.depth, config.heads, 4 * config.width, config.longest
        )
        return _frozen(BertTower(small, words, config))
    folder = Path(config.folder)
    where = f"objective.text.folder: {folder}"
    if (hub := config.hub) is not None:
        measured = torch.get_default_device().type == "meta"
        collective.on_first(lambda: fetch_tower(hub, folder, weights=not measured))
    try:
        found = json.loads((folder / CONFIG).read_text())
        bert = Bert.of(found)
    except FileNotFoundError:
        raise FMError(
            f"{where} has no config.json; name the folder of a BERT, or its hub"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FMError(f"{where}/config.json is of no BERT that can be read ({error})") from None
    tokenizer = WordPiece(folder / WORDS, _lower(folder))
    if tokenizer.size > found["vocab_size"]:
        raise FMError(f"{where}: vocab.txt has more words than the model; take both from one place")
    _load(bert, folder / WEIGHTS)
    return _frozen(BertTower(bert, tokenizer, config))


def _frozen(tower: BertTower) -> BertTower:
    return tower.requires_grad_(False) if tower.config.frozen else tower


def _lower(folder: Path) -> bool:
    """Say whether the model is uncased."""
    path = folder / CASE
    try:
        return bool(json.loads(path.read_text()).get("do_lower_case", True))
    except FileNotFoundError:
        return True
    except (OSError, ValueError, AttributeError) as error:
        raise FMError(f"{path}: cannot be read ({error})") from None


def _load(bert: Bert, path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if next(bert.parameters()).is_meta:
        return  # only measured
    try:
        found = load_file(path)
    except (OSError, SafetensorError) as error:
        raise FMError(f"{path}: no weights that can be read ({error})") from None
    named = {name.removeprefix(_PREFIX): value for name, value in found.items()}
    load_strict(bert, {n: v for n, v in named.items() if not n.startswith(NOT_USED)}, str(path))
