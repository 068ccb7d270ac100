"""Packages: checked, unpacked once, and nothing left behind when something is wrong."""

import hashlib
import io
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from fm.errors import FMError
from shards.building import packages
from shards.building.packages import Package, fetch

FILES = {"pkg/data/a.bin": b"A" * 10, "pkg/code.py": b"x", "pkg/data/b.bin": b"B"}


def wheel(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return stream.getvalue()


def sdist(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        if "pkg/data/a.bin" in files:
            link = tarfile.TarInfo("pkg/data/link.bin")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(link)
    return stream.getvalue()


def serve(monkeypatch: pytest.MonkeyPatch, name: str, data: bytes) -> Package:
    def download(_package: Package, place: Path) -> Path:
        (place / name).write_bytes(data)
        return place / name

    monkeypatch.setattr(packages, "_download", download)
    digest = hashlib.sha256(data).hexdigest()
    return Package("pkg", "1.0", digest, ("pkg/data/*.bin",), "CC0-1.0")


@pytest.mark.parametrize(("name", "pack"), [("p.whl", wheel), ("p.tar.gz", sdist)])
def test_only_named_regular_files_are_unpacked_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, pack
) -> None:
    hostile = {**FILES, "../escape.bin": b"!", "pkg/data/../../up.bin": b"!"}
    package = serve(monkeypatch, name, pack(hostile))
    folder = fetch(package, tmp_path / "cache")
    found = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert found == {"pkg/data/a.bin", "pkg/data/b.bin"}
    assert not (tmp_path / "escape.bin").exists()
    monkeypatch.setattr(packages, "_download", lambda *_: pytest.fail("downloaded twice"))
    assert fetch(package, tmp_path / "cache") == folder


def test_another_file_is_refused_and_nothing_stays(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = serve(monkeypatch, "p.whl", wheel(FILES))
    with pytest.raises(FMError, match="another file"):
        fetch(replace(package, sha256="0" * 64), tmp_path / "cache")
    with pytest.raises(FMError, match="holds none of"):
        fetch(replace(package, members=("pkg/none/*",)), tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cache_that_lacks_files_is_filled_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = serve(monkeypatch, "p.whl", wheel(FILES))
    fetch(package, tmp_path / "cache")
    more = replace(package, members=(*package.members, "pkg/code.py"))
    folder = fetch(more, tmp_path / "cache")
    assert (folder / "pkg/code.py").read_bytes() == b"x"
    assert (folder / "pkg/data/a.bin").is_file()


def test_a_faster_process_is_let_stand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = serve(monkeypatch, "p.whl", wheel(FILES))
    other = package.folder(tmp_path / "cache") / "pkg/data"
    download = packages._download

    def slow(wanted: Package, place: Path) -> Path:
        other.mkdir(parents=True)
        (other / "a.bin").write_bytes(b"theirs")
        return download(wanted, place)

    monkeypatch.setattr(packages, "_download", slow)
    folder = fetch(package, tmp_path / "cache")
    assert (folder / "pkg/data/a.bin").read_bytes() == b"theirs"
    assert [p.name for p in (tmp_path / "cache").iterdir()] == [folder.name]


@pytest.mark.parametrize("served", ["the pinned file", "another file"])
def test_pip_compares_the_hash_before_it_runs_the_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, served: str
) -> None:
    """Pip runs a source distribution to learn its metadata; another one than ours must not run."""
    ran = tmp_path / "ran"
    build = '[build-system]\nrequires = []\nbuild-backend = "own"\nbackend-path = ["."]\n'
    program = f"open({str(ran)!r}, 'w').close(); raise SystemExit('stop here')"
    data = sdist({"pkg-1.0/pyproject.toml": build.encode(), "pkg-1.0/own.py": program.encode()})
    links = tmp_path / "links"
    links.mkdir()
    (links / "pkg-1.0.tar.gz").write_bytes(data)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    digest = hashlib.sha256(data).hexdigest() if served == "the pinned file" else "0" * 64
    package = Package("pkg", "1.0", digest, ("*",), "CC0-1.0", source=True)
    with pytest.raises(FMError, match="pip could not download") as error:
        fetch(package, tmp_path / "cache")
    assert ran.exists() == (served == "the pinned file")
    assert ("another file than the pinned one" in str(error.value)) == (served == "another file")


@pytest.mark.parametrize(
    ("printed", "reason"),
    [
        ("WARNING: Retrying after connection broken by X\nERROR: No matching", "no connection"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES\n    Got abc", "another file"),
        (
            "WARNING: w\nERROR: No matching distribution found for x==1\n",
            "No matching distribution",
        ),
        ("/bin/python: No module named pip\n", "No module named pip"),
        ("", "no file came"),
    ],
)
def test_pip_s_reason_is_told(printed: str, reason: str) -> None:
    assert reason in packages._reason(printed)
    assert "\n" not in packages._reason(printed)


def test_a_failed_download_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    package = Package("eofm-no-such-package", "1.0", "0" * 64, ("*",), "CC0-1.0")
    with pytest.raises(FMError, match="pip could not download eofm-no-such-package") as error:
        fetch(package, tmp_path / "cache")
    assert "\n" not in str(error.value)
