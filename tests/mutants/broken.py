"""Tell a defect that comes back from a patch that has become broken code.

A patch whose lines name what is no longer there fails any test, whether or not the test looks at
the defect. Such a failure ends in an error of these kinds, inside a file of the patch.
"""

import re
from collections.abc import Collection, Iterator
from pathlib import Path

KINDS = frozenset(
    {
        "AttributeError",
        "ImportError",
        "IndentationError",
        "ModuleNotFoundError",
        "NameError",
        "SyntaxError",
        "TypeError",
        "UnboundLocalError",
    }
)
_FRAME = re.compile(r'^( +)File "(.+?)", line (\d+)')
_END = re.compile(r"^( *)((?:\w+\.)*\w+(?::.*|$))")
_CHAINED = ("During handling of the above", "The above exception was the direct cause")


def broken_code(output: str, tree: Path, patched: Collection[str]) -> tuple[str, str] | None:
    """Find an error that says that the patch is broken, not that the test looks at the defect.

    Args:
        output: with tracebacks as Python prints them, of pytest (`--tb=native`) and of ranks.
        tree: the project that was tested.
        patched: files of the patch, relative to it.

    Returns:
        the kind of the error, and `FILE:LINE: MESSAGE`; None where there is none.
    """
    for text, frames in _ends(output):
        kind = text.partition(":")[0].rpartition(".")[2]
        inside = [(path, line) for path, line in frames if Path(path).is_relative_to(tree)]
        if kind not in KINDS or not inside:
            continue
        path, line = inside[-1]
        name = Path(path).relative_to(tree).as_posix()
        if name in patched:
            return kind, f"{name}:{line}: {text}"
    return None


def _ends(output: str) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield the last line and the frames of each traceback; of a chain those of its last error."""
    frames: list[tuple[str, str]] | None = None
    ended: tuple[str, list[tuple[str, str]]] | None = None
    depth = 0  # a traceback in the message of another is indented
    for line in output.splitlines():
        if line.lstrip().startswith(_CHAINED):
            ended = None
        elif "Traceback (most recent call last):" in line:
            if ended is not None:
                yield ended
            frames, ended = [], None
        elif frames is not None and (found := _FRAME.match(line)):
            depth = len(found[1]) - 2
            frames.append((found[2], found[3]))
        elif frames and (last := _END.match(line)) and len(last[1]) == depth:
            ended, frames = (last[2], frames), None
    if ended is not None:
        yield ended
