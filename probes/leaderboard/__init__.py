"""The leaderboard: a folder of results becomes a static site, CSV, Markdown and exports."""

from pathlib import Path

from fm.errors import FMError
from probes.leaderboard import board, records, site, table
from probes.leaderboard.schema import schema
from probes.leaderboard.template import init

__all__ = ["build", "check", "init", "schema"]


def build(results: Path, out: Path) -> dict[str, Path]:
    """Build the site of a folder of Result JSON files.

    The bytes depend on the results alone. Nothing is written unless every result is sound.

    Args:
        results: a folder that holds `*.json` files written by `fm probe`.
        out: the folder of the site; made if need be. What an earlier build wrote there and this
            one does not is removed, other files are left alone.

    Returns:
        the front page and the tables: `html`, `csv`, `markdown` and `evaluma`.

    Raises:
        FMError: no folder, no results, a result that breaks the schema, two results with one
            id, or `out` is not a folder.
    """
    results, out = Path(results), Path(out)
    if out.exists() and not out.is_dir():
        raise FMError(f"{out} is a file; name a folder for the leaderboard")
    if out.resolve() == results.resolve():
        raise FMError(f"{out} holds the results; name another folder for the leaderboard")
    found = records.load(results)
    site.write(out, site.content(board.of(found), records.sources(results)))
    names = {"html": "index.html", "csv": "leaderboard.csv", "markdown": "leaderboard.md"}
    return {kind: out / name for kind, name in (names | {"evaluma": "evaluma.csv"}).items()}


def check(path: Path) -> list[str]:
    """Check Result JSON files against the schema.

    Args:
        path: a folder of results or one file.

    Returns:
        the problems, one line each, naming the file and the key; empty when all is well.

    Raises:
        FMError: there is nothing at `path`, or the folder holds no result.
    """
    path = Path(path)
    if path.is_file():
        record, lines = records.parse(path)
        found = [record] if record else []
    elif path.exists():
        found, lines = records.scan(path)
    else:
        raise FMError(f"{path}: no such file or folder; name a result or a folder of results")
    if found:
        try:
            table.groups(found)
        except FMError as error:
            lines = [*lines, f"{path}: {error}"]
    return lines
