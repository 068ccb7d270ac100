"""Which tars there are and what lies in them, from headers alone, before anything is read whole."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fm.errors import FMError, UsageError
from shards.codecs.codec import CorruptError
from shards.foreign import metadata
from shards.foreign.declare import ArrayMember, Declaration, is_pickle
from shards.foreign.fragment import MAX_MEMBER, array_of, holds
from shards.foreign.keys import split_name
from shards.foreign.tar_scan import Entry, Read, scan
from shards.foreign.zarr_zip import ZipStore
from shards.format import check_shard
from shards.sources.sensor_file import listed
from shards.storage.local import Storage

_URL = re.compile(r"[a-z][a-z0-9+.-]*://")


@dataclass(frozen=True)
class Tars:
    """Tars below one root.

    Attributes:
        root: folder or URL.
        names: below it, with one folder level at most, sorted.
        series: folder name of each tar.
    """

    root: str
    names: tuple[str, ...]
    series: tuple[str, ...]


@dataclass
class Survey:
    """What the headers of all tars say.

    Attributes:
        members: how many declared members each tar holds.
        ignored: how many members were passed over, by ending.
    """

    members: dict[str, int] = field(default_factory=dict)
    ignored: Counter[str] = field(default_factory=Counter)


def find_tars(places: Sequence[str]) -> Tars:
    """Find tars and the root that they share.

    Args:
        places: tars, folders with tars (in them or one level below), or URLs of tars.

    Raises:
        UsageError: no tar, URLs and files together, or tars that lie in several places.
        FMError: a place that is not there, or a name that an index cannot hold.
    """
    if not places:
        raise UsageError("name the tars to index")
    remote = [bool(_URL.match(place)) for place in places]
    if any(remote) and not all(remote):
        raise UsageError("URLs and local tars cannot stand in one dataset; index them apart")
    found = [str(p) for place in places for p in ([place] if remote[0] else _local(Path(place)))]
    if not found:
        raise FMError(f"{places[0]}: no .tar is in it")
    if odd := [name for name in found if not name.endswith(".tar")]:
        place = odd[0].partition("?")[0]  # what follows may be secret
        raise FMError(
            f"{place}: not a plain .tar (a compressed tar has no byte ranges; unpack it first)"
        )
    folders = sorted({name.rpartition("/")[0] for name in found})
    if len(folders) == 1:
        root, names = folders[0], sorted({name.rpartition("/")[2] for name in found})
        series = [root.rpartition("/")[2]] * len(names)
    else:
        parents = {folder.rpartition("/")[0] for folder in folders}
        if len(parents) > 1:
            raise UsageError(
                f"the tars lie in {folders[0]}, {folders[-1]} and so on, which do not share a "
                "parent folder; index them apart"
            )
        (root,) = parents
        names = sorted({name[len(root) + 1 :] for name in found})
        series = [name.split("/")[0] for name in names]
    for name in names:
        try:
            check_shard(name)
        except FMError:
            raise FMError(
                f"{root}/{name}: an index cannot hold this name (letters, digits, _ - . only); "
                "make a link with another name and index that"
            ) from None
    return Tars(root, tuple(names), tuple(series))


def _local(place: Path) -> list[Path]:
    place = place.absolute()
    if place.is_dir():
        return sorted([*place.glob("*.tar"), *place.glob("*/*.tar")])
    if not place.is_file():
        raise FMError(f"{place}: no such tar or folder")
    return [place]


def survey(storage: Storage, tars: Tars, declared: Declaration) -> Survey:
    """Read the headers of all tars, and one member of each kind whole.

    Raises:
        FMError: the first 20 problems of all tars: damage, pickles, members of which nothing is
            said, and members that are not as declared.
    """
    result, problems = Survey(), list[str]()
    unsaid: dict[str, tuple[int, str]] = {}
    pickles: dict[str, tuple[int, str]] = {}
    peeked: set[tuple[str, str]] = set()
    for tar, series in zip(tars.names, tars.series, strict=True):
        result.members[tar] = 0
        try:
            size = storage.size(tar)
            for entry in scan(_reader(storage, tar), size, tar):
                ending = split_name(entry.name)[1]
                members = declared.find(series, ending)
                if members is None:
                    places = pickles if is_pickle(ending) else unsaid
                    count, first = places.get(ending, (0, f"{entry.name} in {tar}"))
                    places[ending] = count + 1, first
                elif not members:
                    result.ignored[ending] += 1
                else:
                    result.members[tar] += 1
                    if (series, ending) not in peeked:
                        peeked.add((series, ending))
                        problems += _peek(storage, tar, entry, members)
        except FMError as error:
            problems.append(str(error))
        except (OSError, CorruptError) as error:
            problems.append(f"{tar}: {error}")
    for ending, (count, first) in sorted(pickles.items()):
        problems.append(
            f"{count} pickles .{ending} (first {first}): loading one runs whatever code it holds, "
            "so they are refused; take the tensors out with --convert-pickles FOLDER"
        )
    for ending, (count, first) in sorted(unsaid.items(), key=lambda item: -item[1][0]):
        problems.append(
            f"{count} members .{ending} (first {first}) of which nothing is said; declare them, "
            f"or pass over them with --ignore {ending}"
        )
    if problems:
        raise FMError(listed(problems))
    if not any(result.members.values()):
        raise FMError(f"{tars.root}: the tars hold no declared member")
    return result


def _peek(storage: Storage, tar: str, entry: Entry, members: Sequence[object]) -> list[str]:
    """Return what is wrong with the first member of a kind."""
    if entry.size > MAX_MEMBER:
        return [f"{tar}: {entry.name} has {entry.size} bytes, more than is read"]
    view = memoryview(bytearray(entry.size))
    storage.read_into(tar, entry.offset, view)
    problems = []
    for member in members:
        if not isinstance(member, ArrayMember):
            continue
        try:
            if member.optional and not holds(view, member):
                continue
            array_of(view, member)
            if member.places:
                metadata.from_zarr(ZipStore(view), member)
        except CorruptError as error:
            problems.append(f"{tar}: {entry.name}: {error}")
    return problems


def _reader(storage: Storage, tar: str) -> Read:
    size = storage.size(tar)

    def read(offset: int, count: int) -> bytes:
        buffer = bytearray(max(0, min(count, size - offset)))
        storage.read_into(tar, offset, memoryview(buffer))
        return bytes(buffer)

    return read


def same_place(root: str, out: Path) -> bool:
    """Return whether the index goes into the folder of the tars."""
    return not _URL.match(root) and os.path.abspath(root) == os.path.abspath(out)
