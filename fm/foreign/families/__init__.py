"""One file a family: from what a file says and the caller adds to a `Plan`."""

from collections.abc import Callable

from fm.foreign.convert import Choice, Plan
from fm.foreign.families import (
    copernicus,
    croma,
    dofa,
    efficientnet,
    galileo,
    less,
    panopticon,
    presto,
    resnet,
    satmae,
    spectral,
    vit,
)
from fm.foreign.reading import Reading
from fm.foreign.recognise import Recognised

PLANS: dict[str, Callable[[Reading, Recognised, Choice], Plan]] = {
    "vit": vit.plan,
    "scale_mae": vit.plan,
    "satmaepp_rgb": vit.plan,
    "satmae_temporal": vit.plan,
    "satmae_group": satmae.plan,
    "satmaepp_group": satmae.plan,
    "spectral_vit": spectral.plan_vit,
    "spectral_resnet": resnet.plan_spectral,
    "less_v1": less.plan,
    "less_v2": less.plan,
    "copernicus_fm": copernicus.plan,
    "dofa": dofa.plan,
    "croma": croma.plan,
    "panopticon": panopticon.plan,
    "presto": presto.plan,
    "galileo": galileo.plan,
    "resnet": resnet.plan,
    "indexed_resnet": resnet.plan_indexed,
    "efficientnet": efficientnet.plan,
    "efficientnet_lite": efficientnet.plan,
}
