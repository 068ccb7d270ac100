"""NumPy arrays and a table: `.npy`, `.npz` or a folder of `.npy`, a row of the table a sample.

    --modality s2=pixels.npy        [N, C, H, W] or [N, T, C, H, W], memory-mapped
    --modality s2=pixels.npz:x      the array `x`; held in memory by each worker
    --modality s2=patches/          KEY.npy a sample, [C, H, W] or [T, C, H, W]

Row i of the table belongs to place i of a stacked array, and by key to a file of a folder. What
the arrays mean, `shards.sources.declare` reads from the options. Pickled (object) arrays are
refused: reading one runs code.
"""

import zipfile
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from fm.errors import FMError, UsageError
from shards.format import LabelInfo, check_dataset_name, check_member
from shards.sample import Sample
from shards.sources import declare
from shards.sources.base import Content
from shards.sources.declare import Recipe
from shards.sources.sensor_file import listed
from shards.sources.table import Row, class_names, read_table
from shards.sources.table import add_options as add_table_options

HELP = "NumPy arrays (.npy, .npz, folders of .npy) and a table (CSV, Parquet)"
EXAMPLE = (
    "fm shards build arrays --modality s2=pixels.npy --sensor sentinel2-l1c --bands B02,B03,B04 "
    "--nodata 0 --table rows.csv --class land_cover --out data/mine"
)
AXES = ("CHW", "HWC", "TCHW", "THWC")
LARGEST_NPZ = 4 << 30
"""Bytes of an array in an .npz; larger ones belong into an .npy, which is memory-mapped."""


@dataclass(frozen=True)
class Stack:
    """Where the arrays of a modality or mask lie.

    Attributes:
        name: of the modality or mask.
        path: .npy, .npz or folder.
        member: array in the .npz; empty otherwise.
        axes: of one sample, one of `AXES`, or `HW` for a mask.
    """

    name: str
    path: Path
    member: str
    axes: str


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--name", default="arrays", help="name of the dataset (default arrays)")
    parser.add_argument("--licence", default="not stated", help="licence of the data")
    parser.add_argument(
        "--modality",
        action="append",
        default=[],
        required=True,
        metavar="NAME=FILE",
        help="NAME=pixels.npy, NAME=pixels.npz:ARRAY or NAME=FOLDER; may come several times",
    )
    parser.add_argument(
        "--axes",
        action="append",
        default=[],
        metavar="[MODALITY=]AXES",
        help=f"order of a sample's axes, one of {', '.join(AXES)} (default CHW or TCHW)",
    )
    parser.add_argument(
        "--mask",
        action="append",
        default=[],
        metavar="LABEL=FILE",
        help="a mask label, [N, H, W] or a folder of [H, W]; its classes come from --classes",
    )
    parser.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="LABEL=NUMBER",
        help="number of a mask that says no label here",
    )
    declare.add_options(parser)
    add_table_options(parser)


def read(arguments: Namespace) -> Content:
    """Read the table and the arrays' headers.

    Raises:
        UsageError: options that contradict each other.
        FMError: a list of what is wrong with the files.
    """
    check_dataset_name(arguments.name)
    rows, labels, problems = read_table(arguments)
    stacks = _stacks(arguments)
    recipes: dict[str, Recipe] = {}
    options = declare.given(arguments, list(stacks))
    masks = _masks(arguments, labels, problems)
    for stack in (*stacks.values(), *masks.values()):
        try:
            shape, dtype = _header(stack, rows)
        except FMError as error:
            problems.append(str(error))
            continue
        if len(shape) != len(stack.axes):
            problems.append(
                f"{stack.path}: {stack.name}: a sample has shape {shape}, expected {stack.axes}"
            )
            continue
        if stack.axes == "HW":
            if np.dtype(dtype).kind not in "iu":
                problems.append(f"{stack.path}: {dtype} mask, expected whole numbers")
            continue
        recipe = declare.resolve(options[stack.name], dtype, problems)
        if recipe is None:
            continue
        recipes[stack.name] = recipe
        count = shape[stack.axes.index("C")]
        if count != len(recipe.table):
            problems.append(
                f"{stack.path}: {count} bands along C of {stack.axes} {shape}, "
                f"{len(recipe.table)} are named for {stack.name}"
            )
        if "T" in stack.axes and rows:
            steps = shape[0]
            short = [row.key for row in rows if row.times is None or len(row.times) != steps]
            if short:
                problems.append(
                    f"{arguments.table}: {len(short)} rows have not {steps} times, such as "
                    f"{short[0]}: a temporal sample needs the column times"
                )
    if problems:
        raise FMError(listed(problems))
    for label, stack in masks.items():
        labels[label] = LabelInfo(
            label,
            "mask",
            class_names(arguments, label) or (),
            ignore=_ignore(arguments, label),
            member=stack.name,
        )
    everything = {**stacks, **{stack.name: stack for stack in masks.values()}}
    return Content(
        name=arguments.name,
        tasks=rows,
        make=partial(make, stacks=tuple(everything.values()), recipes=recipes),
        files=partial(files_of, tuple(everything.values())),
        modalities={name: recipe.declared for name, recipe in recipes.items()},
        labels=labels,
        provenance={
            "source": "arrays",
            "table": arguments.table.name,
            "arrays": {name: stack.path.name for name, stack in everything.items()},
        },
        licence=arguments.licence,
    )


def files_of(stacks: Sequence[Stack], row: Row) -> list[Path]:
    """The files that a sample is read from."""
    return [s.path / f"{row.key}.npy" if s.path.is_dir() else s.path for s in stacks]


def make(row: Row, *, stacks: Sequence[Stack], recipes: Mapping[str, Recipe]) -> Sample:
    """Read one sample.

    Raises:
        FMError: an array that is not what its header or its declaration says.
    """
    arrays = {}
    for stack in stacks:
        pixels = _one(stack, row)
        if stack.name in recipes:
            order = [stack.axes.index(axis) for axis in "TCHW" if axis in stack.axes]
            pixels = pixels.transpose(order)
            if pixels.ndim == 4 and len(row.times or ()) != len(pixels):
                raise FMError(f"sample {row.key}: {len(pixels)} steps, times {row.times}")
            pixels = declare.apply(recipes[stack.name], pixels, f"sample {row.key}: {stack.name}")
        arrays[stack.name] = np.ascontiguousarray(pixels)
    return Sample(
        key=row.key,
        arrays=arrays,
        lonlat=row.lonlat,
        time=row.time,
        times=row.times,
        split=row.split,
        labels=dict(row.labels),
        crs=row.crs,
        transform=row.transform,
    )


def _stacks(arguments: Namespace) -> dict[str, Stack]:
    files = declare.pairs("--modality", arguments.modality)
    for name in files:
        check_member(name)
    axes = dict(declare.split_options("--axes", arguments.axes, list(files)))
    for text in axes.values():
        if text not in AXES:
            raise UsageError(f"--axes {text}: one of {', '.join(AXES)}")
    found = {}
    for name, text in files.items():
        stack = _stack(name, text, axes.get(name, ""))
        if not stack.axes:
            # C before H and W is the layout of the whole project; T is told by the dimensions
            try:
                dimensions = len(_shape(stack))
            except FMError:
                dimensions = 3
            stack = Stack(name, stack.path, stack.member, "TCHW" if dimensions == 4 else "CHW")
        found[name] = stack
    return found


def _masks(
    arguments: Namespace, labels: Mapping[str, LabelInfo], problems: list[str]
) -> dict[str, Stack]:
    found = {}
    for label, text in declare.pairs("--mask", arguments.mask).items():
        if label in labels:
            raise UsageError(f"label {label!r} is given twice")
        if class_names(arguments, label) is None:
            problems.append(f"--mask {label}: name its classes with --classes {label}=...")
        found[check_member(label)] = _stack(f"{label}_mask", text, "HW")
    return found


def _ignore(arguments: Namespace, label: str) -> int | None:
    text = declare.pairs("--ignore", arguments.ignore).get(label)
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"--ignore {label}={text}: give a whole number") from None


def _stack(name: str, text: str, axes: str) -> Stack:
    path, colon, member = text.rpartition(":")
    if colon and path.lower().endswith(".npz"):
        return Stack(name, Path(path), member, axes)
    return Stack(name, Path(text), "", axes)


def _shape(stack: Stack) -> tuple[int, ...]:
    """Shape of one sample, from the first header."""
    if stack.path.is_dir():
        first = min(stack.path.glob("*.npy"), default=None)
        if first is None:
            raise FMError(f"{stack.path}: no .npy in it")
        return _mapped(first).shape
    return _whole_shape(stack)[0][1:]


def _header(stack: Stack, rows: Sequence[Row]) -> tuple[tuple[int, ...], str]:
    """Shape and dtype of one sample; checks that there is one for each row."""
    if not stack.path.is_dir():
        shape, dtype = _whole_shape(stack)
        if shape[0] != len(rows) and rows:
            raise FMError(f"{stack.path}: {shape[0]} samples, the table has {len(rows)} rows")
        return shape[1:], dtype
    files = {path.stem for path in stack.path.glob("*.npy")}
    keys = {row.key for row in rows}
    if missing := sorted(keys - files):
        raise FMError(f"{stack.path}: {len(missing)} rows have no file, such as {missing[0]}.npy")
    if rows and (more := sorted(files - keys)):
        raise FMError(f"{stack.path}: {len(more)} files have no row, such as {more[0]}.npy")
    if not files:
        raise FMError(f"{stack.path}: no .npy in it")
    kinds: dict[tuple[int, str], str] = {}
    array = None
    for name in sorted(files):
        array = _mapped(stack.path / f"{name}.npy")
        kinds.setdefault((array.ndim, array.dtype.name), name)
    if len(kinds) > 1:
        different = "; ".join(f"{name}.npy: {n}-D {kind}" for (n, kind), name in kinds.items())
        raise FMError(f"{stack.path}: files of different kinds: {different}")
    assert array is not None
    return array.shape, array.dtype.name


def _whole_shape(stack: Stack) -> tuple[tuple[int, ...], str]:
    if stack.path.suffix.lower() != ".npz":
        array = _mapped(stack.path)
        if array.ndim == 0:
            raise FMError(f"{stack.path}: a single number, expected an array a sample")
        return array.shape, array.dtype.name
    try:
        with zipfile.ZipFile(stack.path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            member = stack.member or (names[0] if len(names) == 1 else "")
            if member not in names:
                raise FMError(
                    f"{stack.path}: name one of its arrays, {stack.path.name}:{names[0]}"
                    if names
                    else f"{stack.path}: holds no array"
                )
            if archive.getinfo(f"{member}.npy").file_size > LARGEST_NPZ:
                raise FMError(f"{stack.path}: {member} is too large for an .npz; save it as .npy")
            with archive.open(f"{member}.npy") as stream:
                version = np.lib.format.read_magic(stream)
                read = (
                    np.lib.format.read_array_header_1_0
                    if version == (1, 0)
                    else np.lib.format.read_array_header_2_0
                )
                shape, _, dtype = read(stream)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        if isinstance(error, FMError):
            raise
        raise FMError(f"{stack.path}: not an .npz of arrays ({error})") from None
    if dtype.hasobject:
        raise FMError(f"{stack.path}: {member} is pickled; save it as numbers")
    return shape, dtype.name


def _one(stack: Stack, row: Row) -> np.ndarray:
    if stack.path.is_dir():
        return _mapped(stack.path / f"{row.key}.npy")
    if stack.path.suffix.lower() == ".npz":
        return _loaded(stack.path, stack.member)[row.index]
    return _kept(stack.path)[row.index]


def _mapped(path: Path) -> np.ndarray:
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise FMError(f"{path}: no such file or folder") from None
    except (OSError, ValueError, EOFError) as error:
        objects = "pickle" in str(error).lower() or "Python objects" in str(error)
        reason = "it is pickled; save it as numbers" if objects else error
        raise FMError(f"{path}: not an .npy array that can be read ({reason})") from None
    return array


@lru_cache(maxsize=16)
def _kept(path: Path) -> np.ndarray:
    return _mapped(path)


@lru_cache(maxsize=2)
def _loaded(path: Path, member: str) -> np.ndarray:
    with np.load(path, allow_pickle=False) as archive:
        array: np.ndarray = archive[member or archive.files[0]]
    return array
