"""Small in-memory batches and objectives for the tests of this room."""

import torch

from fm.models import VisionTransformer, create_model
from fm.normalize import Normalisation
from fm.rng import CounterRng
from fm.sensors import sensor
from pretrain.engine.batches import MicroBatch
from pretrain.objectives.mae import MAE
from pretrain.objectives.masked import MAEConfig
from tests.fm.test_models import s2_pixels


def backbone(names: tuple[str, ...] = ("sentinel2-l1c",), **options: object) -> VisionTransformer:
    torch.manual_seed(0)
    bands = {m: b for name in names for m, b in sensor(name).modalities.items()}
    normalisation = {
        m: Normalisation.fit(
            "zscore", {"mean": [-14.0 if "s1" in m else 0.2] * len(b), "std": [0.1] * len(b)}
        )
        for m, b in bands.items()
    }
    settings = {"token_m": 120, "depth": 1, "normalisation": normalisation, **options}
    return create_model("vit_nano", bands=bands, **settings)  # type: ignore[arg-type]


def s2_batch(count: int = 4, seed: int = 0, start: int = 0) -> MicroBatch:
    pixels = s2_pixels(count, seed)
    rng = CounterRng(7, torch.zeros(count, dtype=torch.int64), torch.arange(start, start + count))
    return MicroBatch(pixels, torch.ones(count), dict.fromkeys(pixels, (1e-4, 0.0)), rng)


def mae(**options: object) -> MAE:
    return MAE(backbone(), MAEConfig.model_validate(options))
