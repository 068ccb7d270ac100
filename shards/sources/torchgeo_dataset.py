"""Any dataset of torchgeo that gives samples by number: `torchgeo:EuroSAT?split=train`.

The text after the colon is the class of `torchgeo.datasets` and its keyword arguments; `root` is
`--root`, nothing is downloaded unless `--download` is given. A sample is torchgeo's dict with an
`image` (or other keys, `--modality NAME=KEY`), and a `label` or a `mask`.

torchgeo casts images to float32 whatever the files hold. `--stored uint16` says what they held:
each value must then be a whole number that fits, and the cast back is exact; `--stored float32`
says that the values are physical. Sensor, bands and the rest come from options as for `arrays`, but
for the datasets of `KNOWN`, whose layout is documented. Datasets that are cut by coordinates
(GeoDataset) are not read: `rasters` cuts the files themselves.
"""

import json
import os
import re
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from inspect import Parameter, signature
from pathlib import Path
from traceback import extract_tb
from typing import Any
from urllib.parse import parse_qsl

import numpy as np

from fm import sensors
from fm.errors import FMError, UsageError, suggest
from shards.format import LabelInfo, check_member
from shards.sample import Sample
from shards.sources import declare
from shards.sources.base import Content
from shards.sources.declare import Given, Recipe
from shards.sources.sensor_file import listed

HELP = "a dataset of torchgeo by name and arguments: torchgeo:EuroSAT?split=train"
EXAMPLE = "fm shards build 'torchgeo:EuroSAT?split=train' --root eurosat --out data/eurosat-train"
STORED = ("uint8", "uint16", "int16", "int32", "float32")
LABELS = ("class", "multilabel", "regression", "none")
MASK_MEMBER = "mask_pixels"


@dataclass(frozen=True)
class Known:
    """A dataset whose layout is documented.

    Attributes:
        modality: name of its image.
        sensor: of `fm.sensors`.
        stored: dtype of its files.
        gsd: metres, all bands on one grid.
        zero_is_data: bands in which 0 is a measurement; in the others it is no data.
    """

    modality: str
    sensor: str
    stored: str
    gsd: float
    zero_is_data: tuple[str, ...]


_EUROSAT = Known("s2l1c", "sentinel2-l1c", "uint16", 10.0, ("B10",))
KNOWN = {"EuroSAT": _EUROSAT, "EuroSATSpatial": _EUROSAT, "EuroSAT100": _EUROSAT}
"""Bands are read from the dataset's own `bands` (the files keep B8A last; torchgeo says so since
October 2023) and put into the order of the sensor's table, as the source `eurosat` does."""


@dataclass(frozen=True)
class Spec:
    """A class of `torchgeo.datasets` and the arguments it is made with."""

    name: str
    arguments: tuple[tuple[str, Any], ...]


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--spec", required=True, help="NAME?argument=value&argument=value")
    parser.add_argument("--root", type=Path, required=True, help="folder of the dataset's files")
    parser.add_argument("--download", action="store_true", help="let torchgeo download it")
    parser.add_argument("--licence", default="not stated", help="licence of the data")
    parser.add_argument(
        "--modality",
        action="append",
        default=[],
        metavar="NAME=KEY",
        help="modality and its key in torchgeo's sample (default image=image)",
    )
    parser.add_argument(
        "--stored",
        action="append",
        default=[],
        metavar="[MODALITY=]X",
        help=f"what the files hold, one of {', '.join(STORED)}; float32 means physical values",
    )
    parser.add_argument("--label", choices=LABELS, help="kind of the key `label`")
    parser.add_argument(
        "--classes", help="class names with commas, where the dataset has no list of its own"
    )
    parser.add_argument("--ignore", type=int, help="number of a mask that says no label here")
    declare.add_options(parser)


def read(arguments: Namespace) -> Content:
    """Open the dataset and look at its first sample.

    Raises:
        UsageError: an unknown dataset or argument.
        FMError: the dataset is not there, or a list of what has to be said of it.
    """
    spec = parse(arguments.spec)
    root: Path = arguments.root
    dataset = _dataset(spec, root, arguments.download, os.getpid())
    if not len(dataset):
        raise FMError(f"{root}: {spec.name} holds no samples")
    known = None if arguments.sensor or arguments.sensor_file else KNOWN.get(spec.name)
    standard = [f"{known.modality if known else 'image'}=image"]
    keys = declare.pairs("--modality", arguments.modality or standard)
    stored = dict(declare.split_options("--stored", arguments.stored, list(keys)))
    options = declare.given(arguments, list(keys))
    first = dict(dataset[0])
    problems: list[str] = []
    recipes: dict[str, Recipe] = {}
    orders: dict[str, tuple[int, ...]] = {}
    for name, key in keys.items():
        check_member(name)
        if key not in first:
            problems.append(f"{spec.name}: no {key!r} in a sample; it has {', '.join(first)}")
            continue
        image = _numpy(first[key])
        one = options[name]
        if known is not None:
            one, orders[name] = _known(name, known, dataset, one)
            stored.setdefault(name, known.stored)
        if name not in stored:
            problems.append(
                f"{name}: torchgeo gives {image.dtype}; say with --stored what the files hold"
            )
            continue
        if stored[name] not in STORED:
            raise UsageError(f"--stored {stored[name]}: {suggest(stored[name], STORED)}")
        recipe = declare.resolve(one, stored[name], problems)
        if recipe is None:
            continue
        if image.ndim not in (3, 4) or image.shape[-3] != len(recipe.table):
            problems.append(f"{name}: shape {image.shape}, {len(recipe.table)} bands are named")
        recipes[name] = recipe
    labels = _labels(arguments, spec, dataset, first, problems)
    if problems:
        raise FMError(listed(problems))
    title = re.sub(r"[^A-Za-z0-9]+", "-", spec.name.lower()).strip("-")
    split = getattr(dataset, "split", None)  # torchgeo's own default where none is given
    return Content(
        name=f"torchgeo-{title}",
        tasks=list(enumerate(_keys(spec, dataset, split))),
        make=partial(
            make,
            spec=spec,
            root=root,
            keys=keys,
            stored=stored,
            recipes=recipes,
            orders=orders,
            labels=labels,
            split=split if isinstance(split, str) else None,
        ),
        modalities={name: recipe.declared for name, recipe in recipes.items()},
        labels=labels,
        provenance={
            "source": "torchgeo",
            "dataset": spec.name,
            "arguments": {name: str(value) for name, value in spec.arguments},
            "torchgeo": _version(),
            "place_and_time": "not given by torchgeo",
        },
        licence=arguments.licence,
    )


def parse(text: str) -> Spec:
    """Read `NAME?key=value&key=value`; values are JSON where they are, else text.

    A key that comes twice is a list.

    Raises:
        UsageError: another form, or an argument that has its own option.
    """
    name, _, query = text.partition("?")
    found: dict[str, list[Any]] = {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise UsageError(f"--spec {text}: write NAME?argument=value&argument=value") from None
    for key, value in pairs:
        if key in ("root", "download", "transforms"):
            hint = "is not taken" if key == "transforms" else f"is the option --{key}"
            raise UsageError(f"--spec {text}: {key} {hint}")
        try:
            item = json.loads(value)
        except ValueError:
            item = value
        if isinstance(item, dict) or (isinstance(item, list) and any(map(_nested, item))):
            raise UsageError(f"--spec {text}: {key} is nested; give a value or a list of values")
        found.setdefault(key, []).append(tuple(item) if isinstance(item, list) else item)
    return Spec(name, tuple((key, v[0] if len(v) == 1 else tuple(v)) for key, v in found.items()))


def _nested(item: Any) -> bool:
    return isinstance(item, list | dict)


@lru_cache(maxsize=2)
def _dataset(spec: Spec, root: Path, download: bool, process: int) -> Any:
    # torchgeo brings torch anyway, so the guard that needs it may be called here
    from fm.torchvision_guard import install

    install()
    from torchgeo import datasets

    kind = getattr(datasets, spec.name, None)
    if not isinstance(kind, type) or not issubclass(kind, datasets.NonGeoDataset):
        if isinstance(kind, type) and issubclass(kind, datasets.GeoDataset):
            raise UsageError(
                f"torchgeo's {spec.name} is cut by coordinates; read its files with `rasters`"
            )
        raise UsageError(f"torchgeo has no dataset {spec.name!r}; {suggest(spec.name, _names())}")
    accepted = signature(kind).parameters
    open_ended = any(p.kind is Parameter.VAR_KEYWORD for p in accepted.values())
    for name, _ in spec.arguments:
        if name not in accepted and not open_ended:
            names = [n for n in accepted if n not in ("root", "download", "transforms")]
            raise UsageError(f"{spec.name} takes no {name!r}; {suggest(name, names)}")
    extra = {"download": True} if download else {}
    if download and "download" not in accepted:
        raise UsageError(f"{spec.name} cannot download; put its files into {root}")
    try:
        return kind(root=root, **dict(spec.arguments), **extra)
    except datasets.DatasetNotFoundError:
        raise FMError(
            f"{root}: {spec.name} is not there; name its folder with --root, or give --download"
        ) from None
    except (AssertionError, ValueError, TypeError, KeyError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        if not reason:  # torchgeo checks its arguments by asserts without words
            reason = f"{type(error).__name__} at: {extract_tb(error.__traceback__)[-1].line}"
        given = ", ".join(f"{name}={value!r}" for name, value in spec.arguments)
        raise FMError(
            f"{spec.name}({given}) could not be opened in {root}: {reason[:200]}"
        ) from None


def _names() -> list[str]:
    from torchgeo import datasets

    return [
        name
        for name in datasets.__all__
        if isinstance(kind := getattr(datasets, name), type)
        and issubclass(kind, datasets.NonGeoDataset)
    ]


def _version() -> str:
    from importlib.metadata import version

    return version("torchgeo")


def _known(name: str, known: Known, dataset: Any, options: Given) -> tuple[Given, tuple[int, ...]]:
    """Fill the options of a documented dataset in; also the order its channels are put into."""
    if any(value is not None for key, value in vars(options).items() if key != "modality"):
        raise UsageError(
            f"{name}: this dataset's bands, scale and no-data are known; give --sensor as well to "
            "describe it yourself, or none of them"
        )
    table = [band.name for band in sensors.sensor(known.sensor).bands]
    have = list(dataset.bands)
    bands = sorted(have, key=table.index)
    filled = Given(
        name,
        sensor=known.sensor,
        bands=",".join(bands),
        gsd=str(known.gsd),
        nodata=",".join("none" if band in known.zero_is_data else "0" for band in bands),
    )
    return filled, tuple(have.index(band) for band in bands)


def _labels(
    arguments: Namespace,
    spec: Spec,
    dataset: Any,
    first: Mapping[str, Any],
    problems: list[str],
) -> dict[str, LabelInfo]:
    names = tuple(arguments.classes.split(",")) if arguments.classes else None
    if names is None and isinstance(getattr(dataset, "classes", None), list | tuple):
        names = tuple(str(name) for name in dataset.classes)
    labels: dict[str, LabelInfo] = {}
    kind = arguments.label
    if "label" in first and kind is None:
        value = _numpy(first["label"])
        if value.ndim == 0 and value.dtype.kind in "iu" and names:
            kind = "class"  # torchgeo's convention: a place in `classes`
        else:
            problems.append(
                f"{spec.name}: label is {value.dtype} {value.shape}; say with --label what it is"
            )
            kind = "none"
    if kind not in (None, "none"):
        if "label" not in first:
            problems.append(f"{spec.name}: no label in a sample; it has {', '.join(first)}")
        elif kind != "regression" and not names:
            problems.append(f"{spec.name}: name the classes with --classes a,b,c")
        labels["label"] = LabelInfo("label", kind, () if kind == "regression" else names or ("?",))
    if "mask" in first:
        if not names:
            problems.append(f"{spec.name}: name the mask's classes with --classes a,b,c")
        labels["mask"] = LabelInfo(
            "mask", "mask", names or ("?",), ignore=arguments.ignore, member=MASK_MEMBER
        )
    return labels


def _keys(spec: Spec, dataset: Any, split: Any) -> list[str]:
    """Names of the image files where torchgeo lists them (as in EuroSAT), else numbers."""
    files = getattr(dataset, "samples", None)
    if isinstance(files, list) and all(isinstance(item, tuple) for item in files):
        stems = [Path(str(item[0])).stem for item in files]
        if len(set(stems)) == len(stems) == len(dataset) and not any("." in s for s in stems):
            return stems
    parts = [spec.name.lower()] + ([split] if isinstance(split, str) else [])
    return ["_".join([*parts, f"{index:07d}"]) for index in range(len(dataset))]


def make(
    task: tuple[int, str],
    *,
    spec: Spec,
    root: Path,
    keys: Mapping[str, str],
    stored: Mapping[str, str],
    recipes: Mapping[str, Recipe],
    orders: Mapping[str, tuple[int, ...]],
    labels: Mapping[str, LabelInfo],
    split: str | None,
) -> Sample:
    """Read one sample.

    Raises:
        FMError: values that are not what `--stored` says, or a label of another form.
    """
    index, key = task
    given = dict(_dataset(spec, root, False, os.getpid())[index])
    arrays: dict[str, np.ndarray] = {}
    for name, recipe in recipes.items():
        where = f"sample {key}: {name}"
        image = _numpy(given[keys[name]])
        if name in orders:
            image = image[..., list(orders[name]), :, :]
        arrays[name] = declare.apply(recipe, _exact(image, stored[name], where), where)
    if "mask" in labels:
        mask = _numpy(given["mask"])
        mask = mask[0] if mask.ndim == 3 and len(mask) == 1 else mask
        small = max(len(labels["mask"].classes) - 1, labels["mask"].ignore or 0) < 256
        unsigned = small and (labels["mask"].ignore or 0) >= 0
        arrays[MASK_MEMBER] = _exact(mask, "uint8" if unsigned else "int32", f"{key}: mask")
    known: dict[str, Any] = {}
    if "label" in labels:
        value, kind = _numpy(given["label"]), labels["label"].kind
        if kind == "multilabel":
            count = len(labels["label"].classes)
            if value.shape != (count,) or not np.isin(value, (0, 1)).all():
                raise FMError(f"{key}: label {value.shape} is no row of {count} zeros and ones")
            known["label"] = np.flatnonzero(value).tolist()
        elif value.size != 1:
            raise FMError(f"{key}: label of shape {value.shape}, expected one number")
        elif kind == "class":
            known["label"] = int(_exact(value.reshape(1), "int32", f"{key}: label")[0])
        else:
            known["label"] = float(value.reshape(()))
    return Sample(
        key=key,
        arrays=arrays,
        split=split,
        labels=known,
    )


def _numpy(value: Any) -> np.ndarray:
    return np.asarray(value.numpy() if hasattr(value, "numpy") else value)


def _exact(values: np.ndarray, dtype: str, where: str) -> np.ndarray:
    """Cast to what the files held; exact or refused.

    Raises:
        FMError: a value that is not whole or does not fit.
    """
    if dtype.startswith("float"):
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    if not np.isfinite(values).all() or (values != np.rint(values)).any():
        raise FMError(f"{where}: values are not whole numbers, so the files do not hold {dtype}")
    if values.min() < limits.min or values.max() > limits.max:
        raise FMError(f"{where}: {values.min():g} to {values.max():g} does not fit into {dtype}")
    return values.astype(dtype)
