"""The place that a model of images and places finds most like the image: GeoCLIP's way to answer.

The gallery is the training places of the benchmark, embedded by the location encoder alone: no
training image is looked at (Vivanco Cepeda et al., NeurIPS 2023, with another gallery).
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

import fm.location
from fm.console import progress
from fm.errors import FMError, UsageError
from fm.location import Pair
from probes.families.job import Job, Outcome
from probes.features.extraction import prepare
from probes.settings import NearestPlace

TASKS = ("geolocation",)


def run(job: Job) -> Outcome:
    """Embed test images and training places, and answer with the place of the largest cosine."""
    settings: NearestPlace = job.settings
    places = job.data.lonlat
    assert places is not None
    train, _, test = job.splits
    known = places(train)
    found = pair_of(job)
    with torch.inference_mode():
        gallery = functional.normalize(found.places(torch.from_numpy(known)).float(), dim=1)
        nearest = []
        with progress(f"placing {job.label}", len(test)) as bar:
            for start in range(0, len(test), settings.batch_size):
                rows = test[start : start + settings.batch_size]
                nearest.append((_images(found, job, rows) @ gallery.T).argmax(1).numpy())
                bar.advance(len(rows))
    notes = [
        f"a gallery of {len(train)} training places; no training image was looked at",
        "a place was the answer in pretraining too: where the overlap names test samples, the "
        "model was told theirs",
    ]
    return Outcome(known[np.concatenate(nearest)][:, None], None, notes)


def pair_of(job: Job) -> Pair:
    """The job's image encoder with the head and the location encoder that lie beside it.

    Raises:
        UsageError: it is not the image encoder of a run that contrasted images with places.
    """
    wanted = f"nearest-place needs RUN/export of a SatCLIP run, beside RUN/location; {job.label}"
    if job.folder is None:
        raise UsageError(f"{wanted} is no folder")
    inside = (job.folder / "location").is_dir()
    run = job.folder if inside else Path(job.folder).resolve().parent
    try:
        found = fm.location.pair(run, job.folder)
    except FMError as error:
        raise UsageError(f"{wanted}: {error}") from None
    return Pair(job.model, found.head, found.places).eval()


def _images(found: Pair, job: Job, rows: np.ndarray) -> torch.Tensor:
    inputs = job.data.read(rows)
    if found.head.size is not None:  # what is cut or resized fits tokens; the middle must not move
        valid = inputs.valid
        pixels = {m: torch.from_numpy(np.ascontiguousarray(x)) for m, x in inputs.pixels.items()}
        masks = None if valid is None else {m: torch.from_numpy(v) for m, v in valid.items()}
    else:
        pixels, masks = prepare(found.image_encoder, replace(inputs, times=None))
    return found.images(pixels, valid=masks, scaling=job.data.scaling, bands=job.data.bands)
