"""The leaderboard: a folder of results becomes one page, one CSV and one Markdown file."""

from pathlib import Path

from fm.errors import FMError
from fm.files import write_atomic
from probes.leaderboard import export, page, records, table

__all__ = ["build", "check"]


def build(results: Path, out: Path) -> dict[str, Path]:
    """Build the leaderboard of a folder of Result JSON files.

    The bytes depend on the results alone. Nothing is written unless every result is sound.

    Args:
        results: a folder that holds `*.json` files written by `fm probe`.
        out: the folder for the page; made if need be, other files in it are left alone.

    Returns:
        the paths written: `html`, `csv` and `markdown`.

    Raises:
        FMError: no folder, no results, a result that breaks the schema, two results with one
            id, or `out` is not a folder.
    """
    results, out = Path(results), Path(out)
    if out.exists() and not out.is_dir():
        raise FMError(f"{out} is a file; name a folder for the leaderboard")
    groups = table.groups(records.load(results))
    content = {
        "html": ("index.html", page.render(groups)),
        "csv": ("leaderboard.csv", export.as_csv(groups)),
        "markdown": ("leaderboard.md", export.as_markdown(groups)),
    }
    written = {}
    for kind, (name, text) in content.items():
        write_atomic(out / name, text)
        written[kind] = out / name
    return written


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
