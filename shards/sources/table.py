"""What a table tells of each sample: key, place, time, split, grid and labels.

CSV cells are text until a column says otherwise (a key `007` stays `007`); in Parquet the column
types are the file's. Empty cells are unknown. Lists (`times`, multi-labels) are Parquet lists, or
text with `;` between the items.
"""

import csv
import math
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fm.errors import FMError, UsageError, suggest
from shards.format import LabelInfo, check_key, check_member
from shards.sample import check_label, parse_time
from shards.sources.declare import pairs

COLUMNS = ("key", "lon", "lat", "time", "times", "split", "crs", "transform")
"""Columns with a meaning; all but `key` may be absent."""
KINDS = ("class", "multilabel", "regression", "text")


@dataclass(frozen=True)
class Row:
    """One row, checked.

    Attributes:
        index: place in the table, from 0.
        key: of the sample.
        lonlat: degrees, or None.
        time: ISO-8601, or None.
        times: of a temporal sample.
        split: or None.
        crs: of `transform`.
        transform: six numbers `a b c d e f`.
        labels: by label name, as `Sample` takes them.
    """

    index: int
    key: str
    lonlat: tuple[float, float] | None = None
    time: str | None = None
    times: tuple[str, ...] | None = None
    split: str | None = None
    crs: str | None = None
    transform: tuple[float, float, float, float, float, float] | None = None
    labels: Mapping[str, Any] = field(default_factory=dict)


def add_options(parser: ArgumentParser) -> None:
    """Add the options that name the table, its columns and its labels."""
    parser.add_argument(
        "--table",
        type=Path,
        required=True,
        help="CSV or Parquet with a row a sample; columns key, lon, lat, time, times, split, crs, "
        "transform (only key is needed) and labels",
    )
    parser.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="NAME=COLUMN",
        help="the table's own name of one of those columns, such as lon=longitude",
    )
    for kind in KINDS:
        parser.add_argument(
            f"--{kind}",
            action="append",
            default=[],
            metavar="[LABEL=]COLUMN",
            help=f"a {kind} label",
        )
    parser.add_argument(
        "--classes",
        action="append",
        default=[],
        metavar="LABEL=a,b,c",
        help="class names in the order of their numbers (or LABEL=@FILE, a name a line)",
    )


def read_table(arguments: Namespace) -> tuple[list[Row], dict[str, LabelInfo], list[str]]:
    """Read and check the table.

    Returns:
        the rows, the labels (masks are not the table's), and what is wrong, a line each.

    Raises:
        FMError: there is no such table.
        UsageError: options that contradict each other.
    """
    path: Path = arguments.table
    names, columns = load_columns(path)
    renamed = pairs("--column", arguments.column)
    for name in renamed:
        if name not in COLUMNS:
            raise UsageError(f"--column {name}=...: {suggest(name, COLUMNS)}")
    problems: list[str] = []
    wanted = {name: renamed.get(name, name) for name in COLUMNS}
    for name, column in wanted.items():
        if column not in names and (name == "key" or name in renamed):
            problems.append(f"{path}: no column {column!r}; {suggest(column, names)}")
    labels: dict[str, tuple[str, str]] = {}
    for kind in KINDS:
        for text in getattr(arguments, kind):
            label, equals, column = text.partition("=")
            label, column = (label, column) if equals else (text, text)
            if column not in names:
                problems.append(f"{path}: no column {column!r}; {suggest(column, names)}")
            if label in labels:
                raise UsageError(f"label {label!r} is given twice")
            labels[check_member(label)] = (kind, column)
    classes = {
        label: parse_classes(text) for label, text in pairs("--classes", arguments.classes).items()
    }
    if problems:
        return [], {}, problems
    infos = {
        label: label_info(path, label, kind, columns[column], classes.get(label), problems)
        for label, (kind, column) in labels.items()
    }
    if problems:
        return [], {}, problems
    rows, keys = [], set()
    for index in range(len(columns[wanted["key"]])):
        cells = {
            name: columns[column][index] for name, column in wanted.items() if column in columns
        }
        where = f"{path}: row {index + 1}"
        try:
            row = parse_row(index, cells)
            known = {
                label: label_value(columns[column][index], infos[label])
                for label, (_, column) in labels.items()
            }
            known = {label: value for label, value in known.items() if value is not None}
            for label, value in known.items():
                check_label(row.key, value, infos[label])
        except FMError as error:
            problems.append(f"{where}: {error}")
            continue
        if row.key in keys:
            problems.append(f"{where}: key {row.key!r} comes twice")
        keys.add(row.key)
        rows.append(replace(row, labels=known))
    if not len(columns[wanted["key"]]):
        problems.append(f"{path}: no rows")
    return rows, infos, problems


def class_names(arguments: Namespace, label: str) -> tuple[str, ...] | None:
    """The class names that `--classes` gives a label; None when it gives none."""
    text = pairs("--classes", arguments.classes).get(label)
    return None if text is None else parse_classes(text)


def load_columns(path: Path) -> tuple[list[str], dict[str, list[Any]]]:
    """Read a CSV or Parquet file: column names, and cells by column (text or None in CSV).

    Raises:
        FMError: there is no such file, or it is not what its ending says.
    """
    if not path.is_file():
        raise FMError(f"{path}: no such table; give a CSV or Parquet file")
    if path.suffix.lower() == ".parquet":
        import pyarrow
        from pyarrow import parquet

        try:
            table = parquet.read_table(path)
        except pyarrow.ArrowException as error:
            raise FMError(f"{path}: not a Parquet file ({str(error).splitlines()[0]})") from None
        return table.column_names, {
            name: table.column(name).to_pylist() for name in table.column_names
        }
    if path.suffix.lower() != ".csv":
        raise FMError(f"{path}: a table is .csv or .parquet")
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = [row for row in csv.reader(stream, strict=True) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise FMError(f"{path}: not a CSV file in UTF-8 ({error})") from None
    if not rows:
        raise FMError(f"{path}: the table is empty")
    names = [name.strip() for name in rows[0]]
    if len(set(names)) != len(names):
        raise FMError(f"{path}: two columns have the same name")
    for number, row in enumerate(rows[1:], start=1):
        if len(row) != len(names):
            raise FMError(f"{path}: row {number} has {len(row)} cells for {len(names)} columns")
    return names, {
        name: [row[place].strip() or None for row in rows[1:]] for place, name in enumerate(names)
    }


def parse_classes(text: str) -> tuple[str, ...]:
    """Class names written `a,b,c`, or `@FILE` with a name a line.

    Raises:
        FMError: there is no such file.
    """
    if text.startswith("@"):
        try:
            lines = Path(text[1:]).read_text(encoding="utf-8").splitlines()
        except OSError:
            raise FMError(f"{text[1:]}: no such file of class names") from None
        return tuple(line.strip() for line in lines if line.strip())
    return tuple(name.strip() for name in text.split(","))


def label_info(
    path: Path,
    label: str,
    kind: str,
    cells: Sequence[Any],
    classes: tuple[str, ...] | None,
    problems: list[str],
) -> LabelInfo:
    """Declare a label by its column.

    Args:
        path: of the table, for errors.
        label: name of the label.
        kind: one of `KINDS`.
        cells: the column.
        classes: class names, where the user gave them; text names its own, in alphabetical order.
        problems: gains a line when classes are needed or come twice.
    """
    if kind in ("regression", "text"):
        return LabelInfo(label, kind)  # type: ignore[arg-type]
    if classes is None:
        # text names its classes; numbers alone do not
        values = {item for cell in cells if not _empty(cell) for item in _items(cell, kind)}
        named = all(isinstance(value, str) and not _whole(value) for value in values)
        if not values or not named:
            problems.append(f"{path}: label {label!r}: name its classes with --classes {label}=...")
            return LabelInfo(label, kind, ("unknown",))  # type: ignore[arg-type]
        classes = tuple(sorted(values))
    if len(set(classes)) != len(classes):
        problems.append(f"label {label!r}: a class name comes twice in --classes")
    return LabelInfo(label, kind, classes)  # type: ignore[arg-type]


def _items(cell: Any, kind: str) -> list[Any]:
    if kind == "class":
        return [cell]
    if isinstance(cell, str):
        return [item.strip() for item in cell.split(";") if item.strip()]
    return list(cell) if isinstance(cell, list | tuple) else [cell]


def _empty(cell: Any) -> bool:
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def _whole(text: str) -> bool:
    return text.lstrip("-").isdigit()


def label_value(cell: Any, label: LabelInfo) -> Any:
    """A cell as `Sample` takes it; None where it is empty or NaN.

    Raises:
        FMError: no such class, or no number.
    """
    if _empty(cell):
        return None
    if label.kind == "text":
        return str(cell)
    if label.kind == "regression":
        value = _float(label.name, cell)
        return None if math.isnan(value) else value
    numbers = [_class(item, label) for item in _items(cell, label.kind)]
    return numbers[0] if label.kind == "class" else numbers


def _class(value: Any, label: LabelInfo) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a column of integers with gaps is one of floats
    # classes that are called 10, 20, 30 are meant by name, also where a column holds integers
    if str(value) in label.classes:
        return label.classes.index(str(value))
    if isinstance(value, bool) or not _whole(str(value)) or any(map(_whole, label.classes)):
        raise FMError(f"label {label.name!r} is {value!r}; {suggest(str(value), label.classes)}")
    return int(value)


def parse_row(index: int, cells: Mapping[str, Any]) -> Row:
    """Check the cells of one row, by the names of `COLUMNS`; labels are not among them.

    Raises:
        FMError: a cell is not what its column means.
    """
    key = check_key(str(cells["key"]))
    lon, lat = cells.get("lon"), cells.get("lat")
    if (lon is None) != (lat is None):
        raise FMError("lon without lat, or the other way round")
    lonlat = None
    if lon is not None:
        lonlat = _float("lon", lon), _float("lat", lat)
        if not (abs(lonlat[0]) <= 180 and abs(lonlat[1]) <= 90):
            raise FMError(f"({lonlat[0]:g}, {lonlat[1]:g}) is not (lon, lat) in degrees")
    times = None
    if cells.get("times") is not None:
        times = tuple(_time(item) for item in _items(cells["times"], "multilabel"))
    transform = cells.get("transform")
    if transform is not None:
        if isinstance(transform, str):
            transform = transform.replace(",", " ").split()
        transform = tuple(_float("transform", number) for number in transform)
        if len(transform) != 6:
            raise FMError("transform is not six numbers a b c d e f")
    if (transform is None) != (cells.get("crs") is None):
        raise FMError("crs and transform come together")
    return Row(
        index=index,
        key=key,
        lonlat=lonlat,
        time=None if cells.get("time") is None else _time(cells["time"]),
        times=times,
        split=None if cells.get("split") is None else str(cells["split"]),
        crs=None if cells.get("crs") is None else str(cells["crs"]),
        transform=transform,
    )


def _time(value: Any) -> str:
    text = value.isoformat() if hasattr(value, "isoformat") else str(value)
    parse_time("time", text)
    return text


def _float(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise FMError(f"{name} is {value!r}, expected a number") from None
