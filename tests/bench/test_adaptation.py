"""The study's models: bands left out, kernels resized like images."""

import torch

from bench.studies.adaptation import BANDS, MODALITY, as_images, fewer
from fm.adapt import to_bands, to_size
from fm.models import create_model
from fm.normalize import Normalisation
from fm.sensors import sensor

GLS = sensor("landsat7-etm-gls").bands


def small():
    torch.manual_seed(0)
    return create_model(
        "vit_nano",
        bands={MODALITY: GLS},
        token_m=85.5,
        width=24,
        depth=1,
        heads=3,
        normalisation={MODALITY: Normalisation("zscore", (90.0,) * 6, (20.0,) * 6)},
    ).eval()


@torch.no_grad()
def test_a_model_of_fewer_bands_takes_all_and_reads_its_own() -> None:
    model = small()
    x = torch.rand(2, 6, 15, 15) * 200
    for kept in BANDS.values():
        whole, report = fewer(model, kept)
        chosen = tuple(b for b in GLS if b.name in kept)
        few, _ = to_bands(model, {MODALITY: chosen})
        want = few.encode({MODALITY: x[:, [GLS.index(b) for b in chosen]]}).tokens
        torch.testing.assert_close(whole.encode({MODALITY: x}).tokens, want, rtol=1e-4, atol=1e-5)
        assert set(report["dropped"][MODALITY]) == {b.name for b in GLS} - set(kept)


@torch.no_grad()
def test_kernels_resized_like_images_answer_more_to_more_pixels() -> None:
    model = small()
    other = as_images(model, 6)
    x = torch.rand(1, 6, 12, 12) * 200
    fine = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    want = model.encode({MODALITY: x}).tokens
    right = to_size(model, patch_size=6)[0].encode({MODALITY: fine}).tokens
    torch.testing.assert_close(right, want, rtol=1e-4, atol=1e-5)
    assert (other.encode({MODALITY: fine}).tokens - want).abs().max() > 0.1
