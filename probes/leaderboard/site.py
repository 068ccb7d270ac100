"""The files of a site: written whole, and gone again when their result is gone."""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from fm.errors import FMError
from fm.files import write_atomic
from probes.leaderboard import exchange, export, page_benchmark, page_index, page_model
from probes.leaderboard.board import Board
from probes.leaderboard.names import anchor

MANIFEST = "site.json"
"""The files of the last build, so that the next can take away what it no longer makes."""


def content(board: Board, sources: Mapping[str, bytes]) -> dict[str, str | bytes]:
    """Make every file of a site, its front page last.

    Args:
        board: what to show.
        sources: id of a result to the bytes of its file, which are offered as they are.

    Returns:
        path in the site to content; it depends on the arguments alone.
    """
    used: set[str] = set()
    files = {record_id: f"raw/{anchor(record_id, used)}.json" for record_id in sorted(sources)}
    made: dict[str, str | bytes] = {files[key]: sources[key] for key in files}
    for model in board.models:
        made[f"models/{model.slug}.html"] = page_model.render(board, model, files)
    for benchmark in board.benchmarks:
        made[f"benchmarks/{benchmark.slug}.html"] = page_benchmark.render(benchmark)
    made["leaderboard.csv"] = export.as_csv(board)
    made["leaderboard.md"] = export.as_markdown(board)
    made["evaluma.csv"] = exchange.evaluma(board)
    for path, text in exchange.geobench2(board).items():
        made[f"geobench2/{path}"] = text
    made["index.html"] = page_index.render(board, _downloads(made))
    return made


def _downloads(made: Mapping[str, Any]) -> list[tuple[str, str]]:
    known = [
        ("leaderboard.csv", "one line a result, all metrics in full precision"),
        ("leaderboard.md", "the tables for a repository page"),
        ("evaluma.csv", "the layout of evaluma (columns model, dataset, metric, score, seed)"),
    ]
    known += [
        (path, "the submission layout of GEO-Bench-2")
        for path in made
        if path.startswith("geobench2/")
    ]
    return known


def write(out: Path, made: Mapping[str, str | bytes]) -> list[Path]:
    """Write a site and remove what an earlier build left that is no longer part of it.

    Other files in the folder are left alone.

    Args:
        out: the folder, made if need be.
        made: path to content, from `content`.

    Returns:
        the paths written, in order.

    Raises:
        FMError: the list of an earlier build is damaged.
    """
    before = _before(out)
    written = []
    for path, text in made.items():
        write_atomic(out / path, text)
        written.append(out / path)
    write_atomic(out / MANIFEST, json.dumps({"files": sorted(made)}, indent=2) + "\n")
    for path in before - set(made):
        (out / path).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # other files are in it
            (out / path).parent.rmdir()
    return written


def _before(out: Path) -> set[str]:
    path = out / MANIFEST
    if not path.exists():
        return set()
    try:
        files = json.loads(path.read_bytes())["files"]
        held = {str(PurePosixPath(name)) for name in files}
        if any(PurePosixPath(name).is_absolute() or ".." in name.split("/") for name in held):
            raise ValueError("a path leaves the folder")
    except (ValueError, KeyError, TypeError) as error:
        raise FMError(
            f"{path}: not the list of an earlier build ({error}); remove it or name another folder"
        ) from None
    return held
