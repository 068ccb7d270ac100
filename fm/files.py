"""Writing files so that a reader finds them whole or not at all."""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fm.errors import FMError, UsageError


def fsync_folder(folder: Path) -> None:
    """Make the names inside a folder durable (a rename is only durable after this)."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_tree(folder: Path) -> None:
    """Make every file and folder below `folder` durable."""
    for root, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(root, name), "rb") as stream:
                os.fsync(stream.fileno())
        fsync_folder(Path(root))


def write_atomic(path: str | os.PathLike[str], data: bytes | str) -> None:
    """Write a file aside, make it durable, and move it into place.

    Args:
        path: the final path; its folder is made if need be.
        data: the whole content; text is written as UTF-8.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    payload = data.encode() if isinstance(data, str) else data
    handle, aside = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(payload)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(aside, 0o644)
        os.replace(aside, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside)
        raise
    fsync_folder(path.parent)


@contextlib.contextmanager
def atomic_folder(
    path: str | os.PathLike[str], *, overwrite: bool = False, ours: Sequence[str] = ()
) -> Iterator[Path]:
    """Fill a folder aside and move it into place when the block ends without an error.

    Args:
        path: the final folder.
        overwrite: replace what is there; otherwise an existing path is refused.
        ours: files by which a folder is known as one of ours; one that holds something and none of
            them is not replaced.

    Yields:
        the folder to write into.

    Raises:
        FMError: `path` is a link, exists and `overwrite` is false, or is not ours to replace.
    """
    path = Path(path)
    refuse_taken(path, overwrite=overwrite, ours=ours)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
    os.chmod(aside, 0o755)
    try:
        yield aside
        fsync_tree(aside)
        if path.exists() and overwrite:
            shutil.rmtree(path)
        elif path.exists():
            raise FMError(f"{path} appeared while it was being made; it is left as it is")
        os.replace(aside, path)
        fsync_folder(path.parent)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


@contextlib.contextmanager
def passing_folder(folder: Path) -> Iterator[None]:
    """Make a folder and its parents; after an error what was made and holds nothing is gone."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # something lies there
            for path in made:
                if path.exists():
                    path.rmdir()
        raise


def refuse_taken(
    path: Path,
    *,
    overwrite: bool = False,
    ours: Sequence[str] = (),
    instead: str = "name another folder or remove it first",
) -> None:
    """Refuse what `atomic_folder` would not put in the place of `path`, before any work.

    Args:
        path: see there.
        overwrite: see there.
        ours: see there.
        instead: what to do where it is there.

    Raises:
        FMError: see there.
    """
    if path.is_symlink():
        raise FMError(f"{path} is a link to {path.readlink()}; name that itself")
    if path.exists() and not overwrite:
        raise FMError(f"{path} exists already; {instead}")
    if ours and path.exists() and not _replaceable(path, ours):
        raise FMError(
            f"{path} is there and holds no {' or '.join(ours)}; remove it yourself or name another"
        )


def _replaceable(path: Path, ours: Sequence[str]) -> bool:
    """Say whether a path is an empty folder or one that holds a file of ours."""
    return path.is_dir() and (
        any((path / name).is_file() for name in ours) or not any(path.iterdir())
    )


def refuse_within(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Refuse to put something in the place of a folder that holds what it is made of.

    Raises:
        UsageError: `source` is `target` or lies in it.
    """
    if Path(source).resolve().is_relative_to(Path(target).resolve()):
        raise UsageError(f"{target} holds {source}, which it is made of; name another folder")


def refuse_unwritable(folder: str | os.PathLike[str], option: str) -> None:
    """Refuse a folder that nothing could be written to, before hours of work; make nothing.

    Args:
        folder: that is, or will be made.
        option: what named it, for the error.

    Raises:
        UsageError: a file stands where it belongs, or its folder cannot be written to.
    """
    place = Path(folder)
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise UsageError(f"{option} {folder}: {place} is a file; name a folder")
    if not os.access(place, os.W_OK | os.X_OK):
        raise UsageError(f"{option} {folder}: {place} cannot be written to; name another folder")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write JSON atomically; NaN and infinities are refused because JSON has none."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomic(path, text + "\n")


def read_json(path: str | os.PathLike[str], what: str = "file") -> Any:
    """Read JSON.

    Args:
        path: the file.
        what: its name in an error, such as `"model card"`.

    Raises:
        FMError: the file is missing or is not JSON.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise FMError(f"{path}: no such {what}") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise FMError(f"{path}: this {what} is not valid JSON ({error})") from None
    except RecursionError:
        raise FMError(f"{path}: this {what} is nested too deeply") from None


def sha256_file(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file as hex."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
