"""Sample keys of foreign members: WebDataset's own rule, in letters that our keys may hold."""

import re

_ODD = re.compile(r"[^A-Za-z0-9_+=@,-]")


def split_name(name: str) -> tuple[str, str]:
    """Split a member's name as `webdataset` does: at the first dot of its last part.

    Returns:
        `(base, ending)`: the base with its folders, the ending without the dot; `("", name)` where
        there is no dot or nothing before it.
    """
    folder, slash, last = name.rpartition("/")
    stem, dot, ending = last.partition(".")
    if not stem or not dot:
        return "", name
    return f"{folder}{slash}{stem}", ending


def sample_key(base: str) -> str:
    """Return the sample key of a base: `/` becomes `@`, other odd characters `=` and their code.

    Two bases may give one key (`a/b` and `a@b`); whoever collects keys refuses that.
    """
    plain = _ODD.sub(_escape, base.replace("/", "@"))
    return plain if plain[0].isalnum() or plain[0] == "_" else f"_{plain}"


def _escape(found: re.Match[str]) -> str:
    return "".join(f"={byte:02X}" for byte in found[0].encode())
