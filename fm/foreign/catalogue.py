"""What is known of released files and the files cannot say: bands, order, units, normalisation.

`catalogue.json` holds it, each number with its source. Nothing here is a guess: where two
normalisations of one file are in circulation (SoftCon's are not equivalent), both are listed and
one must be named.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

from fm import weights
from fm.errors import FMError, UsageError, suggest
from fm.foreign.bands import parse
from fm.foreign.inventory import inventory
from fm.foreign.recognise import Recognised
from fm.normalize import Normalisation
from fm.sensors import Band


@dataclass(frozen=True)
class Known:
    """One released model.

    Attributes:
        name: here.
        title: in words.
        layouts: inventories that its files may have.
        bands: of the file's channels in its order, as `fm models convert --bands` takes them; empty
            where they are the user's to say.
        normalisation: name to the numbers, in physical units, and where they were read.
        numbers: what the shapes of its file say; another file is refused.
        objective: how it was trained, with the paper.
        data: on what.
        licence: of the weights; `unknown` where none was found.
        source: where the facts were read.
        arguments: of `fm.foreign.load`.
        network: which network of a file that holds several.
        file: its published name, where it is known.
        sha256: of the file, or the beginning that its published name carries.
        torchgeo: name of torchgeo's enum for it.
        image_px: side of the images it was trained on, where positions depend on it.
        kind: `backbone`, or `location` for a location encoder.
        repo: `owner/name` on the hub.
        revision: the commit there that is meant; empty where none was published.
        path: of the file in the repository.
        package: `name==version` of the pip package that carries it.
        member: of the file in the package.
        page: where it is to be had, when it is in neither.
        convertible: eofm has the architecture.
        remark: what to know; why it is not converted.
        derived: channel of the file that is no band to the formula of bands that makes it.
        zero_channels: channels of the file that were always zero in training, with the reason.
    """

    name: str
    title: str
    layouts: tuple[str, ...]
    bands: str
    normalisation: Mapping[str, Mapping[str, Any]]
    numbers: Mapping[str, Any]
    objective: str
    data: str
    licence: str
    source: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    network: str | None = None
    file: str = ""
    sha256: str = ""
    torchgeo: str = ""
    image_px: int | None = None
    kind: str = "backbone"
    repo: str = ""
    revision: str = ""
    path: str = ""
    package: str = ""
    member: str = ""
    page: str = ""
    convertible: bool = True
    remark: str = ""
    derived: Mapping[str, str] = field(default_factory=dict)
    zero_channels: Mapping[str, str] = field(default_factory=dict)

    @property
    def family(self) -> str:
        """The family of its files."""
        return inventory(self.layouts[0]).family if self.layouts else ""

    @property
    def pinned(self) -> str:
        """What is held fast of its file: `sha256`, `sha256 (8 digits)`, `revision`, `no`."""
        if len(self.sha256) == 64:
            return "sha256"
        if self.sha256 and self.revision:
            return f"revision, {len(self.sha256)} digits"
        return "revision" if self.revision else "no"

    def band_list(self) -> dict[str, tuple[Band, ...]]:
        """Return the modality and its bands, derived channels last.

        Raises:
            UsageError: the entry does not say them.
        """
        if not self.bands:
            raise UsageError(f"{self.name}: {self.remark or 'bands are not published'}")
        listed = parse(self.bands)
        for modality, items in listed.items():
            more = [
                Band(n, None, None, items[0].gsd_m, "index", modality=modality)
                for n in self.derived
            ]
            listed[modality] = (*items, *more)
        return listed

    def normaliser(self, chosen: str | None) -> tuple[str, Normalisation]:
        """Return one normalisation by its name, or the only one.

        Raises:
            UsageError: there are several and none was named, or no such name.
        """
        names = list(self.normalisation)
        if not names:
            raise UsageError(f"{self.name}: {self.remark or 'give --normalisation'}")
        if chosen is None:
            if len(names) > 1:
                told = "; ".join(f"{n}: {v['source']}" for n, v in self.normalisation.items())
                raise UsageError(
                    f"{self.name}: {len(names)} normalisations are in circulation, which are not "
                    f"equivalent; give normalisation= one of {', '.join(names)} ({told})"
                )
            chosen = names[0]
        if chosen not in names:
            raise UsageError(f"{self.name}: no normalisation {chosen!r}; {suggest(chosen, names)}")
        values = {k: v for k, v in self.normalisation[chosen].items() if k != "source"}
        return chosen, Normalisation.from_dict(values)

    def check(self, found: Recognised, where: str) -> None:
        """Refuse a file that is not this model's.

        Raises:
            FMError: another family, or other sizes: heads, say, would be wrong unnoticed.
        """
        families = {inventory(layout).family for layout in self.layouts}
        if found.family not in families:
            raise FMError(
                f"{where}: the keys are those of {found.family}, {self.name} is "
                f"{' or '.join(sorted(families))}"
            )
        for key, value in self.numbers.items():
            value = tuple(value) if isinstance(value, list) else value
            if found.numbers.get(key) != value:
                raise FMError(
                    f"{where}: {key} is {found.numbers.get(key)}, of {self.name} it is {value}"
                )

    def notes(self, chosen: str, sha256: str) -> tuple[str, ...]:
        """Say for a report what was taken from here."""
        notes = [f"normalisation {chosen}: {self.normalisation[chosen]['source']}"]
        if self.sha256:
            same = sha256.startswith(self.sha256)
            told = "is the published file's" if same else f"is not {self.sha256}..., as published"
            notes.append(f"sha256 {told}" if sha256 else "sha256 unknown: given in memory")
        return tuple(notes)


@cache
def catalogue() -> dict[str, Known]:
    """Return all entries by name."""
    text = (resources.files("fm.foreign") / "catalogue.json").read_text(encoding="utf-8")
    values = json.loads(text)
    result = {}
    for name, item in values["entries"].items():
        named = {n: values["normalisations"][key] for n, key in item.pop("normalisation").items()}
        layouts = tuple(item.pop("layouts"))
        item["bands"] = values["band_lists"].get(item["bands"], item["bands"])
        result[name] = Known(name, layouts=layouts, normalisation=named, **item)
    return result


def find(name: str) -> Known:
    """Look an entry up as `known` does, and any of torchgeo's weight enums.

    Raises:
        UsageError: there is none; one that eofm carries is suggested with its prefix.
    """
    from fm.foreign.torchgeo_weights import NAME, described, torchgeo_names

    if NAME.fullmatch(name) and (item := described(name)):
        return item
    if NAME.fullmatch(name):
        raise UsageError(f"torchgeo has no weights {name!r}; {suggest(name, torchgeo_names())}")
    if name not in _named() and weights.meant(name):
        raise UsageError(f"no known weights {name!r}; {near(name)} (fm models list lists them)")
    return known(name)


def near(name: str) -> str:
    """Say which weights a wrong name may mean: of the catalogue, or those that eofm carries."""
    ours = weights.meant(name)
    return f"did you mean {ours!r}?" if ours else suggest(name, _named())


def _named() -> dict[str, Known]:
    """Return all entries by name, and by torchgeo's."""
    entries = catalogue()
    return {item.torchgeo: item for item in entries.values() if item.torchgeo} | entries


def known(name: str) -> Known:
    """Look an entry up, by its name or torchgeo's.

    Raises:
        UsageError: there is none.
    """
    named = _named()
    if name not in named:
        raise UsageError(
            f"no known weights {name!r}; {suggest(name, named)} (fm models list lists them)"
        )
    return named[name]
