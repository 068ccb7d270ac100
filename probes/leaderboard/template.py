"""A public board out of a repository folder: README, pull-request template, workflows, schema."""

from importlib.resources import files
from pathlib import Path

from fm.errors import FMError
from fm.files import write_atomic
from probes.leaderboard.schema import as_text

PLACES = {
    "README.md": "README.md",
    "pull_request_template.md": ".github/pull_request_template.md",
    "check.yml": ".github/workflows/check.yml",
    "pages.yml": ".github/workflows/pages.yml",
    "results.md": "results/README.md",
    "gitignore": ".gitignore",
}
"""File of the template to its place in the board's repository."""


def contents() -> dict[str, str]:
    """Return path to text of every file of a new board."""
    folder = files("probes.leaderboard") / "template"
    made = {place: (folder / name).read_text(encoding="utf-8") for name, place in PLACES.items()}
    return made | {"result.schema.json": as_text()}


def init(folder: Path) -> list[Path]:
    """Write what a repository needs to be a public board.

    Args:
        folder: of the repository; made if need be.

    Returns:
        the paths written.

    Raises:
        FMError: `folder` is a file, or one of the files is there already; nothing is written then.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise FMError(f"{folder} is a file; name a folder for the board")
    made = contents()
    there = [place for place in made if (folder / place).exists()]
    if there:
        raise FMError(
            f"{folder / there[0]} exists already; name another folder or move the file away"
        )
    for place, text in made.items():
        write_atomic(folder / place, text)
    return [folder / place for place in made]
