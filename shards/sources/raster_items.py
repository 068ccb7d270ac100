"""Which files make up an item: found in a tree by patterns, or listed in a table.

*Tree.* Each band has a pattern of a file name with at most one `*`. What the `*` stands for, with
the folder, names the item: `--bands B02=*_B02.tif` finds item `2021/T33UUP` in
`2021/T33UUP_B02.tif`; with `B02=B02.tif` the folder alone names it. A multi-band file is an item of
its own.

*Table.* CSV or Parquet with a row a file (item, href and, when a file holds one band, band), or a
STAC ItemCollection, whose asset keys are the bands. The columns of time, split and label belong to
the item; a tree takes them from a table too.
"""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fm.errors import FMError, UsageError, suggest

STAC = (".json", ".geojson")
RASTERS = (".tif", ".tiff", ".jp2", ".vrt", ".img")
MASK = "mask"
BANDS = "raster:bands"
"""What an asset states of its bands (STAC raster extension 1.1): scale, offset, nodata."""


@dataclass(frozen=True)
class Item:
    """One thing to cut up.

    Attributes:
        name: as in the tree or table.
        files: band to `(path, place of the band in the file from 1)`.
        mask: path of the mask.
        time: ISO-8601, or None.
        split: or None.
        label: as in the table, or None.
        stated: path to what a STAC asset states of its bands (`BANDS`).
    """

    name: str
    files: Mapping[str, tuple[str, int]]
    mask: str | None = None
    time: str | None = None
    split: str | None = None
    label: Any = None
    stated: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Columns:
    """Names of a table's columns; None for what the table does not tell."""

    item: str
    href: str
    band: str | None
    time: str | None
    split: str | None
    label: str | None


def in_tree(
    root: Path, patterns: Mapping[str, str], mask: str | None, problems: list[str]
) -> list[Item]:
    """Find items of one file a band.

    Args:
        root: searched with all folders below it.
        patterns: band to file name with at most one `*`.
        mask: the mask's pattern, or None.
        problems: gains a line for every band that an item lacks or has twice.
    """
    wanted = dict(patterns) | ({MASK: mask} if mask else {})
    found: dict[str, dict[str, str]] = {}
    for band, pattern in wanted.items():
        before, star, after = pattern.partition("*")
        if "*" in after or "/" in pattern:
            raise UsageError(f"{band}={pattern}: a pattern is a file name with at most one *")
        for path in sorted(root.rglob(pattern)):
            stem = path.name[len(before) : len(path.name) - len(after)] if star else ""
            folder = path.parent.relative_to(root).as_posix()
            name = "/".join(part for part in ("" if folder == "." else folder, stem) if part)
            files = found.setdefault(name or root.resolve().name, {})
            if band in files:
                problems.append(f"{name}: two files for {band}: {files[band]}, {path}")
            files[band] = str(path)
    items = []
    for name, files in sorted(found.items()):
        if lacking := [band for band in wanted if band not in files]:
            problems.append(f"{name}: no file for {', '.join(lacking)}")
            continue
        items.append(
            Item(name, {band: (files[band], 1) for band in patterns}, mask=files.get(MASK))
        )
    return items


def multiband_in_tree(root: Path, pattern: str | None, bands: Sequence[str]) -> list[Item]:
    """Find items of one file each, all bands in it in a given order."""
    paths = sorted(root.rglob(pattern or "*"))
    items = []
    for path in paths:
        if path.is_file() and (pattern or path.suffix.lower() in RASTERS):
            name = path.relative_to(root).with_suffix("").as_posix()
            items.append(Item(name, {band: (str(path), i) for i, band in enumerate(bands, 1)}))
    return items


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read a CSV, Parquet or STAC ItemCollection into rows.

    An ItemCollection gives a row an asset, with columns `item`, `href`, `band` (the asset's key)
    and the item's properties.
    """
    suffix = path.suffix.lower()
    try:
        if suffix == ".csv":
            with path.open(encoding="utf-8-sig", newline="") as stream:
                return [
                    {key: value or None for key, value in row.items() if key is not None}
                    for row in csv.DictReader(stream)
                ]
        if suffix in STAC:
            return _stac(json.loads(path.read_text(encoding="utf-8")))
        if suffix == ".parquet":
            from pyarrow import parquet

            rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
            return rows
    except (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        reason = " ".join(str(error).split())
        raise FMError(f"{path}: this table cannot be read ({reason[:160]})") from None
    raise FMError(f"{path}: a table is .csv, .parquet, .json or .geojson (STAC ItemCollection)")


def _stac(content: Any) -> list[dict[str, Any]]:
    return [
        {
            "datetime": None,
            **(feature.get("properties") or {}),
            BANDS: asset.get(BANDS) or [],
            "item": feature["id"],
            "href": asset["href"],
            "band": band,
        }
        for feature in content["features"]
        for band, asset in sorted(feature["assets"].items())
    ]


def in_table(
    path: Path,
    columns: Columns,
    bands: Mapping[str, str] | Sequence[str],
    mask: str | None,
    problems: list[str],
) -> list[Item]:
    """Put the rows of a table together into items.

    Args:
        path: of the table; relative hrefs start from its folder.
        columns: their names.
        bands: band to its name in the band column; or, when a file holds all bands, their order.
        mask: the mask's name in the band column, or None.
        problems: gains a line for each item that is incomplete.
    """
    rows, suffix = read_rows(path), path.suffix.lower()
    _check_columns(path, rows, columns, ("item", "href"))
    wanted = dict(bands) if isinstance(bands, Mapping) else {}
    if wanted and columns.band is None:
        raise UsageError("--bands with a table needs its column of bands: --band-column NAME")
    names = {value: band for band, value in wanted.items()} | ({mask: MASK} if mask else {})
    found: dict[str, dict[str, str]] = {}
    stated: dict[str, Sequence[Mapping[str, Any]]] = {}
    for row in rows:
        files = found.setdefault(str(row[columns.item]), {})
        href = _href(path.parent, str(row[columns.href]))
        if not wanted:
            value = None if mask is None or columns.band is None else row.get(columns.band)
            band = MASK if mask is not None and value == mask else "*"
        elif row.get(columns.band or "") in names:
            band = names[row[columns.band or ""]]
        else:
            continue  # other assets: thumbnails, metadata
        if files.setdefault(band, href) != href:
            problems.append(f"{row[columns.item]}: two files for {band}")
        if suffix in STAC and row[BANDS]:
            stated[href] = row[BANDS]
    items = []
    for name, files in sorted(found.items()):
        needed = [*(wanted or "*"), *([MASK] if mask else [])]
        if lacking := [band for band in needed if band not in files]:
            problems.append(f"{name}: no file for {', '.join(lacking)}")
            continue
        if wanted:
            chosen = {band: (files[band], 1) for band in wanted}
        else:
            chosen = {band: (files["*"], place) for place, band in enumerate(bands, 1)}
        own = {href: stated[href] for href, _ in chosen.values() if href in stated}
        items.append(Item(name, chosen, mask=files.get(MASK), stated=own))
    return with_attributes(items, path, rows, columns, problems)


def with_attributes(
    items: Iterable[Item],
    path: Path,
    rows: Sequence[Mapping[str, Any]],
    columns: Columns,
    problems: list[str],
) -> list[Item]:
    """Give items their time, split and label from the rows that name them."""
    import dataclasses

    every = {"time": columns.time, "split": columns.split, "label": columns.label}
    wanted = {name: column for name, column in every.items() if column is not None}
    if not wanted:
        return list(items)
    _check_columns(path, rows, columns, ("item", *wanted))
    known: dict[str, dict[str, Any]] = {}
    for row in rows:
        values = {name: row.get(column) for name, column in wanted.items()}
        cells = {k: None if v != v else v for k, v in values.items()}  # NaN of Parquet: unknown
        name = str(row[columns.item])
        if known.setdefault(name, cells) != cells:
            problems.append(f"{name}: its rows in {path.name} tell different {', '.join(wanted)}")
    result = []
    for item in items:
        if item.name not in known:
            problems.append(f"{item.name}: not in {path.name}")
            continue
        cells = known[item.name]
        time: Any = cells.get("time")
        result.append(
            dataclasses.replace(
                item,
                time=time.isoformat() if hasattr(time, "isoformat") else time,
                split=None if cells.get("split") is None else str(cells["split"]),
                label=cells.get("label"),
            )
        )
    return result


def _check_columns(
    path: Path, rows: Sequence[Mapping[str, Any]], columns: Columns, needed: Iterable[str]
) -> None:
    if not rows:
        raise FMError(f"{path}: the table has no rows")
    for need in needed:
        column = getattr(columns, need)
        if column not in rows[0]:
            raise FMError(
                f"{path}: no column {column!r} (--{need}-column); {suggest(column, rows[0])}"
            )


def _href(folder: Path, href: str) -> str:
    if href.startswith("file://"):
        return href.removeprefix("file://")
    if "://" in href or href.startswith(("/vsi", "/")):
        return href
    return str(folder / href)
