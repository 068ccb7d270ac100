"""A pickle followed operation by operation without making anything: what it would copy and load.

A list is written once and may be named a thousand times: `set(list)` for each of the names fills
the memory from some kilobytes, and so does a storage that is loaded under a thousand names that
torch takes for one (it looks records up in any case, up to a zero byte, and under keys that are not
equal to themselves, such as NaN). Thirty tuples, each of twice the one before, are hashed and
written as 2^30 elements. The stack and the memo of torch's unpickler are kept here with sizes in
the place of values.
"""

from collections.abc import Collection, Sequence
from typing import Any

ELEMENT = 64
"""Bytes that an element of a container may take."""
_WRITTEN = 8
"""Bytes of an element that is written out, besides those of a text."""
MAX_COPIED = 128 << 20
"""Bytes that calls may copy besides those of the pickle: of 60,000 tensors 60 MB."""

_ATOMS = frozenset(
    ("NONE", "NEWFALSE", "NEWTRUE", "BININT", "BININT1", "BININT2", "BINFLOAT", "LONG1")
)
_TEXTS = frozenset(("BINUNICODE", "SHORT_BINSTRING"))
_EMPTY = frozenset(("EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET"))
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_GETS = frozenset(("BINGET", "LONG_BINGET"))
_PUTS = frozenset(("BINPUT", "LONG_BINPUT"))
_GROWS = {"APPEND": 1, "SETITEM": 2}
_TYPED = "torch._tensor _rebuild_from_type_v2"
_TENSOR = "torch Tensor"
"""Named as the class of a tensor; called, it fills one with as many numbers as nested lists say."""


class RefusedError(Exception):
    """What a pickle does that no weight file needs; says it in words."""


class _Name(str):
    """A function or class."""


class _Items(tuple):
    """A tuple.

    Attributes:
        whole: bytes of it written out, where what is in it twice is there twice.
    """

    whole = 0


class Stack:
    """What torch's unpickler has on its stack, in sizes.

    An element is a `_Name`, a `str` as written, a tuple of elements, None for a small value, or the
    number of a container in `_sizes`, because that may grow after it was named.

    Args:
        bytes_: of the pickle, which calls may copy once.
        records: keys of the storages beside it; None where they follow it in the file.

    Attributes:
        unread: the first operation that torch does not read, where there is one.
    """

    def __init__(self, bytes_: int, records: Collection[str] | None) -> None:
        self.unread = ""
        self._left, self._records = bytes_ + MAX_COPIED, records
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._sizes: list[int] = []

    def step(self, operation: str, argument: Any) -> None:
        """Follow one operation.

        Args:
            operation: of `pickletools`.
            argument: of it.

        Raises:
            RefusedError: it copies too much, or loads a storage that is not beside it by that very
                key.
            IndexError, KeyError: there is nothing on the stack or in the memo.
        """
        stack = self._stack
        if self.unread:
            return  # what is on the stack is not known from there on
        if operation in _ATOMS:
            stack.append(None)
        elif operation in _TEXTS:
            stack.append(argument)
        elif operation in _GETS:
            stack.append(self._memo[argument])
            self._copy(_whole(stack[-1]))  # it is there once more
        elif operation in _PUTS:
            self._memo[argument] = stack[-1]
        elif operation == "GLOBAL":
            stack.append(_Name(argument))
        elif operation == "EMPTY_TUPLE":
            stack.append(_Items())
        elif operation in _EMPTY:
            stack.append(self._container(0))
        elif operation == "MARK":
            self._marks.append(stack)
            self._stack = []
        elif operation == "TUPLE":
            self._unmark()
            self._stack.append(self._tuple(stack))
        elif operation in ("APPENDS", "SETITEMS"):
            self._unmark()
            self._grow(stack)
        elif operation in _TUPLES:
            items = [stack.pop() for _ in range(_TUPLES[operation])]
            stack.append(self._tuple(items[::-1]))
        elif operation in _GROWS:
            self._grow([stack.pop() for _ in range(_GROWS[operation])])
        elif operation in ("REDUCE", "NEWOBJ"):
            arguments = stack.pop()
            stack.append(self._called(stack.pop(), arguments))
        elif operation == "BUILD":
            self._copy(self._size(stack.pop()))
        elif operation == "BINPERSID":
            self._loaded(stack.pop())
            stack.append(None)
        elif operation not in ("PROTO", "STOP"):
            self.unread = operation

    def _unmark(self) -> None:
        self._stack = self._marks.pop()

    def _container(self, size: int) -> int:
        self._sizes.append(size)
        return len(self._sizes) - 1

    def _tuple(self, items: Sequence[Any]) -> _Items:
        made = _Items(items)
        made.whole = sum(map(_whole, items))
        return made

    def _grow(self, items: Sequence[Any]) -> None:
        grown = self._stack[-1]
        if isinstance(grown, int):
            nested = (item.whole for item in items if isinstance(item, _Items))
            self._sizes[grown] += ELEMENT * len(items) + sum(nested)

    def _size(self, item: Any) -> int:
        if isinstance(item, _Name) or item is None:
            return 0
        if isinstance(item, int):
            return self._sizes[item]
        return len(item) if isinstance(item, str) else ELEMENT * len(item)

    def _copy(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise RefusedError("copies the same values again and again")

    def _called(self, called: Any, arguments: Any) -> int:
        if not isinstance(called, _Name) or not isinstance(arguments, tuple):
            raise RefusedError("calls what is no name of a class or function")
        if called == _TENSOR:
            raise RefusedError("makes a tensor of no storage")
        if called == _TYPED and not (
            arguments
            and isinstance(arguments[0], _Name)
            and arguments[0].startswith("torch._utils ")
        ):
            raise RefusedError("makes something else than a tensor of a tensor's class")
        size = self._size(arguments) + sum(map(self._size, arguments))
        self._copy(size)
        inner = [item for item in arguments if isinstance(item, tuple)]
        self._copy(sum(self._size(part) for item in inner for part in item))
        return self._container(size)

    def _loaded(self, told: Any) -> None:
        if self._records is None:
            return
        key = told[2] if isinstance(told, tuple) and len(told) == 5 else None
        if not isinstance(key, str) or isinstance(key, _Name) or key not in self._records:
            named = repr(key[:40]) if isinstance(key, str) else "a key that is no text"
            raise RefusedError(f"loads a storage that is not in the file ({named})")


def _whole(item: Any) -> int:
    """Return the bytes of an element of a tuple written out; its own few and what is in it."""
    inside = item.whole if isinstance(item, _Items) else len(item) if isinstance(item, str) else 0
    return _WRITTEN + inside
