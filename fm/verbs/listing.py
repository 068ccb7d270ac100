"""`fm models list`: weights by what they take and are, and the backbones there are."""

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fm.foreign.catalogue import Known

COLUMNS = ("name", "takes", "architecture", "parameters", "objective", "data", "licence", "from")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--sensor", help="those that take bands of it, such as sentinel2 or rgb")
    parser.add_argument("--licence", help="those under it, such as MIT; unknown for none found")
    parser.add_argument("--objective", help="those trained by it, such as MAE")
    parser.add_argument("--kind", choices=("backbone", "location"), help="of images, or of places")
    parser.add_argument(
        "--torchgeo", action="store_true", help="every weight enum of the installed torchgeo too"
    )
    parser.add_argument(
        "--backbones", action="store_true", help="the architectures fm.create_model knows instead"
    )
    parser.add_argument("--json", action="store_true", help="as JSON, with every field")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the list."""
    from fm.errors import UsageError

    if getattr(arguments, "backbones", False):
        filters = ("sensor", "licence", "objective", "kind", "torchgeo")
        if given := [name for name in filters if getattr(arguments, name)]:
            raise UsageError(f"--{given[0]} is of weights, and --backbones have none; leave it out")
        return _backbones(arguments.json)
    from fm.foreign.catalogue import catalogue, find
    from fm.weights import names

    own = [entry for entry in map(carried, names()) if _has(arguments, entry)]
    items = list(catalogue().values())
    if arguments.torchgeo:
        from fm.foreign.torchgeo_weights import torchgeo_names

        have = {item.torchgeo for item in items}
        items += [find(name) for name in torchgeo_names() if name not in have]
    items = [item for item in items if _has(arguments, asdict(item))]
    if not (own or items):
        raise UsageError("no weights fit these filters; fm models list shows all")
    if arguments.json:
        print(json.dumps([*own, *(values(item) for item in items)], indent=2))
        return 0
    rows = [COLUMNS, *(_carried_row(entry) for entry in own), *(_row(item) for item in items)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    for row in rows:
        print(
            "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        )
    return 0


def values(item: "Known") -> dict[str, Any]:
    """Return everything that is known of an entry as plain values."""
    from fm.foreign.sizes import parameters

    return {
        **asdict(item),
        "normalisation": list(item.normalisation),
        "takes": _takes(item),
        "architecture": _architecture(item),
        "parameters": parameters(item),
        "pinned": item.pinned,
    }


def carried(name: str) -> dict[str, Any]:
    """Return what is known of weights that eofm carries, keyed as `values`.

    Args:
        name: of `fm.weights.names`.
    """
    from fm import weights
    from fm.sensors import sensor_of_modality

    card, probed = weights.card(name), weights.probes(name)
    sensors = dict.fromkeys(sensor_of_modality(modality).name for modality in card["bands"])
    data = card["data"]
    parts = data["parts"].values() if "parts" in data else [data]
    count = sum(len(bands) for bands in card["bands"].values())
    return {
        "name": weights.PREFIX + name,
        "kind": "backbone",
        "bands": "; ".join(
            f"{modality}:{','.join(band['name'] for band in bands)}"
            for modality, bands in card["bands"].items()
        ),
        "takes": f"{', '.join(sensors)}, {count} bands",
        "architecture": f"{card['architecture']['name']}, {card['architecture']['width']} wide",
        "parameters": probed["parameters"],
        "objective": card["objective"]["kind"],
        "data": ", ".join(part["name"] for part in parts),
        "licence": card["licence"],
        "source": "eofm itself",
        "sha256": card["weights_sha256"],
        "pinned": "sha256",
    }


def _carried_row(entry: dict[str, Any]) -> tuple[str, ...]:
    place = f"{entry['source']} (sha256 {entry['sha256'][:8]})"
    shown = {**entry, "parameters": _millions(entry["parameters"]), "from": place}
    return tuple(shown[column] for column in COLUMNS)


def _millions(count: int | None) -> str:
    return "unknown" if count is None else f"{count / 1e6:.1f} M"


def _has(arguments: argparse.Namespace, entry: dict[str, Any]) -> bool:
    def has(wanted: str | None, *texts: str) -> bool:
        return wanted is None or any(wanted.lower() in text.lower() for text in texts)

    return (
        has(arguments.sensor, entry["bands"], entry.get("takes", ""))
        and has(arguments.licence, entry["licence"])
        and has(arguments.objective, entry["objective"])
        and arguments.kind in (None, entry["kind"])
    )


def _row(item: "Known") -> tuple[str, ...]:
    from fm.foreign.sizes import parameters

    return (
        item.name,
        _takes(item),
        _architecture(item) if item.convertible else f"{_architecture(item)}, not converted",
        _millions(parameters(item)),
        item.objective,
        item.data,
        item.licence,
        _from(item),
    )


def _takes(item: "Known") -> str:
    if item.kind == "location":
        return "longitude, latitude"
    if not item.bands:
        return "bands: yours to say"
    listed = item.band_list()
    count = sum(len(bands) for bands in listed.values()) - len(item.derived)
    more = f" and {', '.join(item.derived)}" if item.derived else ""
    return f"{item.bands.partition(':')[0].partition('@')[0]}, {count} bands{more}"


def _architecture(item: "Known") -> str:
    numbers = item.numbers
    if "stages" in numbers:
        return {(2, 2, 2, 2): "ResNet-18", (3, 4, 6, 3): "ResNet-50"}.get(
            tuple(numbers["stages"]), "ResNet"
        )
    if {"width", "depth", "patch"} <= set(numbers):
        return f"ViT {numbers['width']} x {numbers['depth']}, patch {numbers['patch']}"
    if "L" in numbers:
        return f"harmonics L = {numbers['L']}, SIREN"
    return item.family or "see torchgeo"


def _from(item: "Known") -> str:
    place = item.package or item.page
    if item.repo:
        place = f"{item.repo}@{item.revision[:7]}" if item.revision else item.repo
    held = "no hash published"
    if item.sha256:
        whole = len(item.sha256) == 64
        held = "sha256 " if whole else f"only {len(item.sha256)} digits of sha256: "
        held += item.sha256[:8]
    return f"{place} ({held}{'' if item.revision or not item.repo else ', no revision published'})"


def _backbones(as_json: bool) -> int:
    from fm.models.registry import FAMILIES

    if as_json:
        rows = [
            {"name": f"{family}_{name}", "help": item.help, **size}
            for family, item in FAMILIES.items()
            for name, size in item.sizes.items()
        ]
        print(json.dumps(rows, indent=2))
        return 0
    for family, item in FAMILIES.items():
        for name, size in item.sizes.items():
            numbers = "  ".join(f"{key} {value}" for key, value in size.items())
            print(f"{family + '_' + name:<20} {numbers}  ({item.help})")
    return 0
