"""What a STAC item states of its assets (raster extension 1.1), beside what the files state."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fm.errors import FMError
from shards.sources.raster_io import Header
from shards.sources.raster_items import Item


def with_stated(
    items: Sequence[Item], headers: Mapping[str, Header], problems: list[str]
) -> dict[str, Header]:
    """Add what STAC items state of their assets to headers that do not tell.

    Args:
        items: with `stated`.
        headers: by path.
        problems: gains a line for each asset that contradicts its file.
    """
    result = dict(headers)
    for item in items:
        for path, bands in item.stated.items():
            header = result.get(path)
            if header is None:
                continue
            if len(bands) != header.count:
                problems.append(f"{path}: STAC describes {len(bands)} bands, it has {header.count}")
                continue
            pairs, numbers = [], []
            for place, band in enumerate(bands):
                own = header.scales[place], header.offsets[place]
                said = _stated_number(band, "scale", 1.0), _stated_number(band, "offset", 0.0)
                if (1.0, 0.0) not in (own, said) and not np.allclose(
                    own, said, rtol=1e-6, atol=1e-12
                ):
                    problems.append(f"{path}: scale and offset {own}, its STAC item says {said}")
                pairs.append(said if own == (1.0, 0.0) else own)
                missing, number = header.nodata[place], _stated_number(band, "nodata", None)
                if missing is not None and number is not None and not _same(missing, number):
                    problems.append(f"{path}: no-data {missing:g}, its STAC item says {number:g}")
                numbers.append(number if missing is None else missing)
            scales, offsets = zip(*pairs, strict=True)
            result[path] = replace(header, scales=scales, offsets=offsets, nodata=tuple(numbers))
    return result


def _stated_number(band: Mapping[str, Any], key: str, unsaid: Any) -> Any:
    try:  # "nan" and "inf" are text in STAC
        return unsaid if band.get(key) is None else float(band[key])
    except (TypeError, ValueError, AttributeError):
        raise FMError(f"raster:bands: {key} {str(band)[:60]} is no number") from None


def _same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))
