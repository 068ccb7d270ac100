"""Feature maps of a run's export on samples of the run's own data, if both are at hand."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from fm.config import parse
from fm.errors import FMError
from pretrain.report.pca import Components, components
from pretrain.report.read import Record


@dataclass(frozen=True)
class Mapped:
    """The samples of one part and their features.

    Attributes:
        part: of a mixture; empty for one dataset.
        keys: of the samples.
        images: modality to `[B, C, H, W]` physical values, NaN where there is no data.
        bands: modality to its bands.
        groups: token group to its components.
    """

    part: str
    keys: tuple[str, ...]
    images: dict[str, np.ndarray]
    bands: dict[str, Any]
    groups: dict[str, Components]


def mapped(record: Record, count: int) -> tuple[list[Mapped], list[str]]:
    """Encode the first samples of each part.

    Args:
        record: of the run.
        count: samples a part.

    Returns:
        what could be made, and one line for each thing that could not.
    """
    if record.card is None:
        return [], ["There is no export yet: feature maps are made of a run that has ended."]
    import fm
    from pretrain.config import RunConfig
    from pretrain.data import open_data

    values = {**record.config, "data": {**record.config["data"], "statistics": "dataset"}}
    try:
        config = parse(RunConfig, values, str(record.folder / "config.yaml"))
        model = fm.load(record.folder / "export")
        data = open_data(config)
    except (FMError, OSError) as error:
        return [], [f"No feature maps: {error}."]
    found, notes = [], []
    for part in data.parts:
        try:
            found.append(_part(model, data, part, min(count, len(data.parts[part])), config.seed))
        except (FMError, OSError) as error:
            where = f" of {part}" if part else ""
            notes.append(f"No feature maps{where}: {error}.")
    return found, notes


def _part(model: Any, data: Any, part: str, count: int, seed: int) -> Mapped:
    import torch

    batch = data.first(part, count, seed=seed, device=torch.device("cpu"), max_bad=1.0)
    valid = {name: batch.valid(name) for name in batch.pixels}
    with torch.inference_mode():
        features = model.encode(
            batch.pixels,
            scaling=batch.scaling,
            valid=valid,
            lonlat=batch.lonlat,
            time=batch.time,
            times=batch.times,
        )
    tokens = features.tokens.float().numpy()
    mask = np.ones(tokens.shape[:2], bool) if features.mask is None else features.mask.numpy()
    groups, start = {}, 0
    for name, grid in features.grid.items():
        stop = start + grid[0] * grid[1]
        groups[name] = components(tokens[:, start:stop], mask[:, start:stop], grid)
        start = stop
    images = {}
    for name, pixels in batch.pixels.items():
        scale, offset = (1.0, 0.0) if pixels.is_floating_point() else batch.scaling[name]
        values = pixels.numpy().astype(np.float64) * scale + offset
        values = np.where(valid[name].numpy(), values, np.nan)
        # the images of a series one below the other, as their tokens are
        images[name] = (
            np.concatenate(list(values.swapaxes(0, 1)), 2) if values.ndim == 5 else values
        )
    return Mapped(part, tuple(batch.keys), images, dict(model.bands), groups)
