"""Writing a dataset: samples in, a folder of tars, index and description out, whole or not at all.

The same samples give the same bytes, here and in `shards.building.build`. See `shards.format` for
what lies in the folder.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sized
from pathlib import Path
from typing import Any

from fm.console import Bar, progress
from fm.errors import UsageError
from fm.files import atomic_folder
from shards.building.assemble import assemble, check_provenance
from shards.building.declare import Declared, resolve
from shards.building.part import Part, PartWriter, Place, Recipe
from shards.codecs.codec import AUTO, choose
from shards.codecs.video import Video
from shards.format import (
    DESCRIPTION,
    DatasetInfo,
    LabelInfo,
    check_dataset_name,
    check_labels,
)
from shards.sample import Sample

__all__ = ["Declared", "write_dataset"]


def write_dataset(
    out: str | os.PathLike[str],
    samples: Iterable[Sample],
    *,
    name: str,
    modalities: Mapping[str, Declared],
    labels: Mapping[str, LabelInfo] | None = None,
    provenance: Mapping[str, Any],
    licence: str,
    codec: str = AUTO,
    video: Video | None = None,
    samples_per_shard: int = 256,
    total: int | None = None,
    overwrite: bool = False,
) -> DatasetInfo:
    """Write a dataset folder in this process.

    Args:
        out: the new folder; it appears when everything is written.
        samples: read once, in order.
        name: of the dataset; shards are `NAME-000000.tar` and on.
        modalities: what the samples may hold.
        labels: what is known of the samples.
        provenance: where the data came from (JSON); the writer adds `quality`.
        licence: of the data.
        codec: `auto` (the best for each dtype) or one of `shards.format.CODECS`.
        video: what the codec `video` may lose; nothing when None.
        samples_per_shard: samples in each tar.
        total: number of samples, for the progress bar; the length of `samples` when it has one.
        overwrite: replace a dataset that is there.

    Returns:
        the description that was written.

    Raises:
        FMError: a sample contradicts the declaration, or there is none; nothing is left behind.
        UsageError: an unknown codec, sensor or band.
    """
    out = Path(out)
    recipe = make_recipe(name, modalities, labels or {}, codec, video)
    check_provenance(provenance)
    if samples_per_shard < 1:
        raise UsageError(f"samples_per_shard={samples_per_shard}: give at least 1")
    size = total if total is not None else len(samples) if isinstance(samples, Sized) else 0
    with (
        atomic_folder(out, overwrite=overwrite, ours=(DESCRIPTION,)) as folder,
        _parts_beside(out) as parts_folder,
    ):
        place = Place(folder, parts_folder)
        with progress("writing shards", size) as bar:
            parts = list(_parts(recipe, place, samples, samples_per_shard, bar))
        info = assemble(recipe, place, parts, provenance, licence)
    return info


@contextlib.contextmanager
def _parts_beside(out: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.parts.", dir=out.parent) as folder:
        yield Path(folder)


def _parts(
    recipe: Recipe, place: Place, samples: Iterable[Sample], per_shard: int, bar: Bar
) -> Iterator[Part]:
    writer, number = None, 0
    try:
        for sample in samples:
            writer = writer or PartWriter(recipe, place, number)
            writer.add(sample)
            bar.advance()
            if writer.seen == per_shard:
                yield writer.finish()
                writer, number = None, number + 1
        if writer is not None:
            yield writer.finish()
    finally:
        if writer is not None:
            writer.abandon()


def make_recipe(
    name: str,
    modalities: Mapping[str, Declared],
    labels: Mapping[str, LabelInfo],
    codec: str,
    video: Video | None = None,
    *,
    min_valid: float = 0.0,
    durable: bool = False,
) -> Recipe:
    """Check what is declared of a dataset.

    Raises:
        FMError: a name that cannot be one, or a label that is not described in full.
        UsageError: an unknown codec, sensor or band.
    """
    check_dataset_name(name)
    choose(codec, "uint16")
    if video is not None and codec != "video":
        raise UsageError(
            f"a bound for video, but the codec is {codec!r}; ask for the codec 'video'"
        )
    check_labels(labels, modalities)
    return Recipe(name, resolve(modalities), dict(labels), codec, video, min_valid, durable)
