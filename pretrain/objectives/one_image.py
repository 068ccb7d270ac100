"""Series for backbones of single images: one image of each sample, chosen by its position."""

from copy import copy

from fm.models import Backbone
from pretrain.augment import draw_view, seasons
from pretrain.objective import ObjectiveBatch
from pretrain.objectives.contrast.whole import whole_view


def one_image(batch: ObjectiveBatch, backbone: Backbone, name: str) -> ObjectiveBatch:
    """Return a batch as the backbone takes it.

    Args:
        batch: single images, or series.
        backbone: of series, or of single images: then one image with a valid pixel of each series
            is shown, with its time and labels.
        name: of the choice.
    """
    if backbone.series or all(x.ndim == 4 for x in batch.pixels.values()):
        return batch
    if any(x.is_meta for x in batch.pixels.values()):  # only measured: any image will do
        first = {m: x[:, 0] if x.ndim == 5 else x for m, x in batch.pixels.items()}
        labels = {name: x[:, 0] if x.ndim == 3 else x for name, x in batch.labels.items()}
        measured = copy(batch)
        measured.pixels, measured.labels, measured.times = first, labels, None
        return measured
    (image,) = seasons(batch, batch.rng, 1)
    return draw_view(batch, batch.rng, name, whole_view(None), image, bands=backbone.bands)
