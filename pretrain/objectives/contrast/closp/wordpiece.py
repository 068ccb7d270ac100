"""Text to numbers, as BERT's uncased models read it (Devlin et al., arXiv 1810.04805).

Text is lower-cased and loses its accents; punctuation and Chinese signs stand alone; each word is
cut greedily into the longest pieces that the vocabulary knows, those inside a word begin with ##.
"""

import hashlib
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path

from fm.errors import FMError

LONGEST_WORD = 100
"""Signs; longer words are unknown."""
_HAN = ((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2FA1F), (0xF900, 0xFAFF))


class Tokenizer(ABC):
    """Turns text into numbers.

    Attributes:
        size: numbers are below.
        padding: number of what fills shorter texts.
    """

    size: int
    padding: int

    @abstractmethod
    def numbers(self, text: str, longest: int) -> list[int]:
        """Return the numbers of a text, at most so many."""


class WordPiece(Tokenizer):
    """BERT's vocabulary.

    Args:
        path: of `vocab.txt`, one piece a line.
        lower: of an uncased model.

    Raises:
        FMError: no vocabulary, or without the pieces that every text needs.
    """

    def __init__(self, path: Path, lower: bool = True) -> None:
        try:
            # not splitlines: pieces of multilingual vocabularies are separators of other kinds
            pieces = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise FMError(f"{path}: no vocabulary that can be read ({error})") from None
        self._numbers = {piece: number for number, piece in enumerate(pieces)}
        for piece in ("[PAD]", "[UNK]", "[CLS]", "[SEP]"):
            if piece not in self._numbers:
                raise FMError(f"{path}: no piece {piece}; it is no vocabulary of BERT")
        self.size, self.padding, self._lower = len(pieces), self._numbers["[PAD]"], lower

    def numbers(self, text: str, longest: int) -> list[int]:
        """Return `[CLS] pieces [SEP]`; a long text loses its end."""
        found = [number for word in _words(text, self._lower) for number in self._pieces(word)]
        first, last = self._numbers["[CLS]"], self._numbers["[SEP]"]
        return [first, *found[: longest - 2], last]

    def _pieces(self, word: str) -> list[int]:
        unknown = [self._numbers["[UNK]"]]
        if len(word) > LONGEST_WORD:
            return unknown
        found: list[int] = []
        start = 0
        while start < len(word):
            stop = len(word)
            while stop > start:
                piece = ("##" if start else "") + word[start:stop]
                if piece in self._numbers:
                    break
                stop -= 1
            if stop == start:
                return unknown
            found.append(self._numbers[piece])
            start = stop
        return found


class HashedWords(Tokenizer):
    """Whole words as the hash of their signs: a vocabulary that needs no file.

    Args:
        size: of the table; 0 is padding, 1 begins a text.
    """

    def __init__(self, size: int) -> None:
        self.size, self.padding = size, 0

    def numbers(self, text: str, longest: int) -> list[int]:
        """Return the beginning and the words' numbers."""
        hashed = (hashlib.blake2b(w.encode(), digest_size=8).digest() for w in _words(text, True))
        numbers = [2 + int.from_bytes(digest, "little") % (self.size - 2) for digest in hashed]
        return [1, *numbers[: longest - 1]]


def _words(text: str, lower: bool) -> Iterator[str]:
    """Cut a text at white space, and around punctuation and Chinese signs."""
    word = ""
    for sign in _clean(text, lower):
        if sign.isspace():
            alone = ""
        elif _punctuation(sign) or any(low <= ord(sign) <= high for low, high in _HAN):
            alone = sign
        else:
            word += sign
            continue
        if word:
            yield word
        word = ""
        if alone:
            yield alone
    if word:
        yield word


def _clean(text: str, lower: bool) -> str:
    kept = "".join(
        " " if c.isspace() else c
        for c in text
        if c in "\t\n\r" or not (unicodedata.category(c).startswith("C") or c == "\ufffd")
    )
    if not lower:
        return kept
    plain = unicodedata.normalize("NFD", kept.lower())
    return "".join(c for c in plain if unicodedata.category(c) != "Mn")


def _punctuation(sign: str) -> bool:
    code = ord(sign)
    ascii_ = 33 <= code <= 47 or 58 <= code <= 64 or 91 <= code <= 96 or 123 <= code <= 126
    return ascii_ or unicodedata.category(sign).startswith("P")


def padded(rows: Sequence[Sequence[int]], padding: int) -> tuple[list[list[int]], list[list[bool]]]:
    """Bring rows to one length; also say which places are text."""
    length = max(map(len, rows), default=1)
    filled = [[*row, *[padding] * (length - len(row))] for row in rows]
    return filled, [[place < len(row) for place in range(length)] for row in rows]
