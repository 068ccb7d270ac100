"""Reconstructions as numbers, kept beside their pictures so that a report needs no model.

`pictures/panels.npz` holds for panel *i* `image_i` and `predicted_i` (`[C, H, W]` float16, as the
model sees values) and `shown_i` (`[H, W]` bool), and `about`, JSON of what each panel is.
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from fm.errors import FMError
from fm.files import write_atomic
from fm.normalize import Normalisation
from fm.sensors import Band

if TYPE_CHECKING:
    from pretrain.objective import Panel

NAME = "panels.npz"
LARGEST = 64 * 2**20
"""Bytes of all arrays of a file; samples that would go beyond are left out."""


@dataclass(frozen=True)
class Stored:
    """One panel, all of its bands on one grid.

    Attributes:
        key: of the sample.
        modality: which array of it.
        bands: of the channels.
        image: `[C, H, W]` float32, physical units; NaN where the value is not known.
        predicted: likewise, hidden values replaced by the prediction.
        shown: `[C, H, W]` bool, True where the encoder saw the value's token.
        scale: `[C]`, physical units in one unit of the model.
    """

    key: str
    modality: str
    bands: tuple[Band, ...]
    image: np.ndarray
    predicted: np.ndarray
    shown: np.ndarray
    scale: np.ndarray


def save(
    folder: Path,
    samples: "Sequence[Sequence[Panel]]",
    keys: Sequence[str],
    *,
    bands: Mapping[str, Sequence[Band]],
    normalisation: Mapping[str, Normalisation],
) -> None:
    """Write the panels of some samples.

    Args:
        folder: made if need be.
        samples: panels of each sample.
        keys: the samples' keys.
        bands: modality to its bands, of the model.
        normalisation: modality to the numbers that lead back to physical units.
    """
    arrays: dict[str, np.ndarray] = {}
    about: list[dict[str, Any]] = []
    size = 0
    for panels, key in zip(samples, keys, strict=True):
        size += sum(p.image.size * 4 + p.shown.size for p in panels)
        if size > LARGEST:
            break
        for panel in panels:
            modality = panel.modality.rpartition(" of ")[2]
            known = list(bands[modality])
            own = list(panel.bands) or known
            names = [band.name for band in known]
            if not {band.name for band in own} <= set(names) or len(own) != len(panel.image):
                continue  # of no band that could be named: its picture has to do
            places = [names.index(band.name) for band in own]
            number = len(about)
            for name, values in (("image", panel.image), ("predicted", panel.predicted)):
                limit = np.finfo(np.float16).max
                arrays[f"{name}_{number}"] = np.clip(values, -limit, limit).astype(np.float16)
            arrays[f"shown_{number}"] = panel.shown
            about.append(
                {
                    "key": key,
                    "modality": modality,
                    "bands": [asdict(band) for band in own],
                    "normalisation": normalisation[modality].select(places).to_dict(),
                }
            )
    text = json.dumps({"version": 1, "panels": about}).encode()
    arrays["about"] = np.frombuffer(text, np.uint8)
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    write_atomic(folder / NAME, stream.getvalue())


def load(folder: Path) -> list[Stored]:
    """Read the panels of a run, those of one array joined where its bands are several groups.

    Returns:
        none when the run has not stored any.

    Raises:
        FMError: the file is damaged.
    """
    path = folder / NAME
    if not path.is_file():
        return []
    try:
        with np.load(path, allow_pickle=False) as held:
            about = json.loads(held["about"].tobytes())
            made = [_panel(held, number, what) for number, what in enumerate(about["panels"])]
    except (OSError, KeyError, ValueError, TypeError, BadZipFile, FMError) as error:
        raise FMError(f"{path}: damaged ({error}); remove it to report without it") from None
    joined: dict[tuple[str, str], list[Stored]] = {}
    for panel in made:
        joined.setdefault((panel.key, panel.modality), []).append(panel)
    return [_join(group) for group in joined.values()]


def _panel(held: Any, number: int, what: Mapping[str, Any]) -> Stored:
    normalisation = Normalisation.from_dict(what["normalisation"])
    shift = np.array(normalisation.shift, np.float32)[:, None, None]
    scale = np.array(normalisation.scale, np.float32)[:, None, None]
    image, predicted = (
        held[f"{name}_{number}"].astype(np.float32) * scale + shift
        for name in ("image", "predicted")
    )
    shown = np.broadcast_to(held[f"shown_{number}"], image.shape)
    bands = tuple(Band(**band) for band in what["bands"])
    return Stored(what["key"], what["modality"], bands, image, predicted, shown, scale[:, 0, 0])


def _join(group: Sequence[Stored]) -> Stored:
    """Put the channels of groups together, by wavelength where all have one."""
    if len(group) == 1:
        return group[0]
    bands = [band for panel in group for band in panel.bands]
    order = list(range(len(bands)))
    if all(band.wavelength_nm is not None for band in bands):
        order.sort(key=lambda k: bands[k].wavelength_nm or 0.0)
    arrays = [
        np.concatenate([getattr(panel, name) for panel in group])[order]
        for name in ("image", "predicted", "shown", "scale")
    ]
    first = group[0]
    return Stored(first.key, first.modality, tuple(bands[k] for k in order), *arrays)
