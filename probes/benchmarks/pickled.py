"""Read the plain values of a pickle without running it.

Loading a pickle imports what it names and calls it, so a dataset file can run anything. Here its
opcodes are only looked at (`pickletools.genops` lists them): numbers, words, lists and
dictionaries come out as they are; anything that loading would import is a `Name` and anything it
would call or build is a `Made`, a note of what was asked for. `numbers_of` understands the notes
that NumPy leaves for its scalars and arrays of plain numbers.
"""

import pickletools
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fm.errors import FMError

MOST = 1_000_000
"""Opcodes after which a pickle is given up; one of a sample has some hundreds."""


@dataclass(frozen=True)
class Name:
    """A thing that loading would import.

    Attributes:
        module: where from.
        name: what.
    """

    module: str
    name: str


@dataclass(eq=False)
class Made:
    """A thing that loading would make.

    Attributes:
        by: what it would call, `module.name`.
        args: with what.
        state: what it would be filled with afterwards; None where nothing.
    """

    by: str
    args: tuple[Any, ...]
    state: Any = None

    @property
    def fields(self) -> dict[str, Any]:
        """Its attributes, where they are given as a dictionary."""
        state = self.state
        if isinstance(state, tuple) and state and isinstance(state[0], dict):
            state = state[0]
        return state if isinstance(state, dict) else {}


def read(data: bytes, where: str) -> Any:
    """Read a pickle.

    Args:
        data: the whole pickle.
        where: its place, for errors.

    Returns:
        plain values, with `Name` and `Made` in place of everything else.

    Raises:
        FMError: not a pickle, or one with an opcode that no plain value needs.
    """
    machine = _Machine(where)
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if count > MOST:
                raise FMError(f"{where}: its pickle has more than {MOST:,} opcodes")
            if opcode.name == "STOP":
                return machine.pop()
            machine.step(opcode.name, argument)
    except (ValueError, IndexError, KeyError, TypeError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise FMError(
            f"{where}: its pickle is damaged ({reason}); take the published files"
        ) from None
    raise FMError(f"{where}: its pickle has no end; take the published files")


def numbers_of(value: Any, where: str) -> np.ndarray:
    """Take a number, a list of numbers, or what NumPy pickled, as an array.

    Raises:
        FMError: it holds anything but plain numbers.
    """
    if isinstance(value, bool | int | float):
        return np.array(value)
    if isinstance(value, list | tuple) and all(isinstance(v, bool | int | float) for v in value):
        return np.array(value)
    found = _numpy(value) if isinstance(value, Made) else None
    if found is None:
        raise FMError(f"{where}: holds no plain numbers; take the published files")
    return found


def _numpy(made: Made) -> np.ndarray | None:
    tail = made.by.rpartition(".")[2] if made.by.startswith("numpy.") else ""
    if tail == "scalar" and len(made.args) == 2:
        kind, raw = _dtype(made.args[0]), made.args[1]
        return _array(raw, kind, (), "C")
    if tail == "_frombuffer" and len(made.args) == 4:
        raw, dtype, shape, order = made.args
        return _array(raw, _dtype(dtype), shape, order)
    if tail == "_reconstruct" and isinstance(made.state, tuple) and len(made.state) == 5:
        _, shape, dtype, fortran, raw = made.state
        return _array(raw, _dtype(dtype), shape, "F" if fortran else "C")
    return None


def _array(raw: Any, kind: np.dtype | None, shape: Any, order: str) -> np.ndarray | None:
    if kind is None or not isinstance(raw, bytes | bytearray) or not isinstance(shape, tuple):
        return None
    sizes = all(isinstance(n, int) and n >= 0 for n in shape)
    if not sizes or order not in ("C", "F") or len(raw) != kind.itemsize * int(np.prod(shape)):
        return None
    return np.frombuffer(bytes(raw), kind).reshape(shape, order="F" if order == "F" else "C").copy()


def _dtype(value: Any) -> np.dtype | None:
    """The type of plain numbers that a pickled dtype stands for."""
    if not isinstance(value, Made) or value.by != "numpy.dtype" or not value.args:
        return None
    code = value.args[0]
    if not isinstance(code, str) or code[:1] not in "biuf" or not code[1:].isdigit():
        return None
    order = value.state[1] if isinstance(value.state, tuple) and len(value.state) > 1 else "|"
    if order not in ("<", ">", "|", "="):
        return None
    try:
        return np.dtype(order.replace("|", "=") + code)
    except TypeError:
        return None


class _Mark:
    """A place on the stack."""


def _called(target: Any) -> str:
    return f"{target.module}.{target.name}" if isinstance(target, Name) else "?"


def _made(target: Any, args: Any) -> Any:
    given = args if isinstance(args, tuple) else (args,)
    called = _called(target)
    if called in ("copyreg._reconstructor", "copy_reg._reconstructor") and given:
        return Made(_called(given[0]), given[1:])  # how protocols 0 and 1 make any object
    if called == "_codecs.encode" and len(given) == 2 and given[1] == "latin1":
        return str(given[0]).encode("latin1")  # how protocols before 3 write bytes
    if called in ("__builtin__.bytes", "builtins.bytes") and not given:
        return b""
    return Made(called, given)


class _Machine:
    """The stack that loading would have; nothing is imported and nothing called."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def pop(self) -> Any:
        if not self.stack or isinstance(self.stack[-1], _Mark):
            raise IndexError("the stack is empty")
        return self.stack.pop()

    def above_mark(self) -> list[Any]:
        for place in range(len(self.stack) - 1, -1, -1):
            if isinstance(self.stack[place], _Mark):
                found = self.stack[place + 1 :]
                del self.stack[place:]
                return found
        raise IndexError("no mark")

    def step(self, name: str, argument: Any) -> None:
        """Take one opcode."""
        if name in _NOTHING:
            return
        if name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _LITERALS:
            self.stack.append(argument)
        elif name in _STEPS:
            _STEPS[name](self, argument)
        else:
            raise FMError(
                f"{self.where}: its pickle has the opcode {name}, which plain values do not need; "
                f"it is not read"
            )

    def put(self, place: int) -> None:
        self.memo[place] = self.stack[-1]

    def list_of(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise TypeError("no list to append to")
        target.extend(values)

    def set_items(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Made):  # an ordered dictionary; its items are no plain values
            return
        if not isinstance(target, dict) or len(values) % 2:
            raise TypeError("no dictionary to fill")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if not isinstance(key, Hashable):
                raise TypeError("a key that is no plain value")
            target[key] = value

    def build(self) -> None:
        state, target = self.pop(), self.stack[-1]
        if not isinstance(target, Made):
            raise TypeError("nothing to fill")
        target.state = state

    def tuple_of(self, count: int) -> None:
        values = [self.pop() for _ in range(count)]
        self.stack.append(tuple(values[::-1]))

    def make(self) -> None:
        args, target = self.pop(), self.pop()
        self.stack.append(_made(target, args))

    def make_with_keywords(self) -> None:
        keywords, args, target = self.pop(), self.pop(), self.pop()
        self.stack.append(Made(_called(target), (*args, keywords)))

    def name_of(self, argument: Any) -> None:
        if argument is None:
            name, module = self.pop(), self.pop()
        else:
            module, _, name = str(argument).partition(" ")
        self.stack.append(Name(str(module), str(name)))

    def dictionary(self) -> None:
        values = self.above_mark()
        self.stack.append({})
        self.set_items(values)


_NOTHING = {"PROTO", "FRAME"}
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING"),
    *("SHORT_BINSTRING", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_STEPS: dict[str, Callable[[_Machine, Any], Any]] = {
    "MARK": lambda m, _: m.stack.append(_Mark()),
    "POP": lambda m, _: m.stack.pop(),
    "POP_MARK": lambda m, _: m.above_mark(),
    "DUP": lambda m, _: m.stack.append(m.stack[-1]),
    "MEMOIZE": lambda m, _: m.put(len(m.memo)),
    "PUT": lambda m, at: m.put(int(at)),
    "BINPUT": lambda m, at: m.put(at),
    "LONG_BINPUT": lambda m, at: m.put(at),
    "GET": lambda m, at: m.stack.append(m.memo[int(at)]),
    "BINGET": lambda m, at: m.stack.append(m.memo[at]),
    "LONG_BINGET": lambda m, at: m.stack.append(m.memo[at]),
    "EMPTY_LIST": lambda m, _: m.stack.append([]),
    "EMPTY_TUPLE": lambda m, _: m.stack.append(()),
    "EMPTY_DICT": lambda m, _: m.stack.append({}),
    "LIST": lambda m, _: m.stack.append(m.above_mark()),
    "TUPLE": lambda m, _: m.stack.append(tuple(m.above_mark())),
    "TUPLE1": lambda m, _: m.tuple_of(1),
    "TUPLE2": lambda m, _: m.tuple_of(2),
    "TUPLE3": lambda m, _: m.tuple_of(3),
    "DICT": lambda m, _: m.dictionary(),
    "APPEND": lambda m, _: m.list_of([m.pop()]),
    "APPENDS": lambda m, _: m.list_of(m.above_mark()),
    "SETITEM": lambda m, _: m.set_items([m.pop(), m.pop()][::-1]),
    "SETITEMS": lambda m, _: m.set_items(m.above_mark()),
    "GLOBAL": lambda m, name: m.name_of(name),
    "STACK_GLOBAL": lambda m, _: m.name_of(None),
    "REDUCE": lambda m, _: m.make(),
    "NEWOBJ": lambda m, _: m.make(),
    "NEWOBJ_EX": lambda m, _: m.make_with_keywords(),
    "BUILD": lambda m, _: m.build(),
}
