"""Panels of components brought back to bands, for a person to look at."""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import torch

from fm.models import Backbone, VisionTransformer
from pretrain.objective import Panel


def in_bands(panels: Sequence[Panel], backbone: Backbone) -> list[Panel]:
    """Turn panels of spectral components into panels of bands; the others stay as they are.

    The pseudo-inverse of the whitening matrix leads back: exactly where all components are kept,
    else to what of a pixel the model can see.

    Args:
        panels: of an objective.
        backbone: that it trains.
    """
    if not backbone.bases():
        return list(panels)
    model = cast(VisionTransformer, backbone)  # no other family has bases
    found = []
    for panel in panels:
        group, _, modality = panel.modality.rpartition(" of ")
        basis = model.embedding(group).basis_of(modality) if group in model.groups else None
        if basis is None:
            found.append(panel)
            continue
        back = torch.linalg.pinv(basis.matrix.double()).cpu().numpy()
        image, predicted = (
            np.einsum("ck,khw->chw", back, values).astype(np.float32)
            for values in (panel.image, panel.predicted)
        )
        # what was seen is the same in both, to the bit
        predicted = np.where(panel.shown, image, predicted)
        found.append(replace(panel, image=image, predicted=predicted, bands=basis.bands))
    return found
