"""Errors written for the person at the command line.

Every error a user can cause is an `FMError`: one line that says what is wrong, where, and what
to do. The command prints that line and exits with `exit_status`; anything else is a bug and
keeps its traceback.
"""

import difflib
from collections.abc import Iterable


class FMError(ValueError):
    """Something the user can mend; the text is one line: what, where, what to do."""

    exit_status = 1


class UsageError(FMError):
    """The request itself is wrong: an unknown name, key, option or combination."""

    exit_status = 2


_LISTED = 60
"""More names than these are no help in a line."""


def suggest(name: str, valid: Iterable[str]) -> str:
    """Say which valid names are nearest to a wrong one.

    Args:
        name: what the user wrote.
        valid: the names that would have been accepted.

    Returns:
        `"did you mean 'x'?"`, or the list of valid names when none is near and they fit a line.
    """
    names = sorted(valid)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    if len(names) > _LISTED:
        return f"it is near none of the {len(names)} valid names"
    return "valid names: " + (", ".join(names) if names else "none")
