"""Copernicus-FM against torchgeo's module, and what ours does where that gives up."""

from typing import Any

import pytest
import torch
from torch import Tensor

from fm import checkpoint, create_model, foreign
from fm.errors import UsageError
from fm.sensors import Band, sensor
from tests.fm.foreign.states import ALL, identity
from tests.fm.foreign.test_parity import close, pixels, randomised

import torchgeo.models as torchgeo  # isort: skip  # after test_parity, which mends torchvision

(MODALITY,) = ALL
BANDS = ALL[MODALITY]
SMALL = {"img_size": 24, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3}
LONLAT = torch.tensor([[13.4, 52.5], [-70.7, -33.4]], dtype=torch.float64)
TIME = torch.tensor([1.6e9, 1.2e9], dtype=torch.float64)
NAN = float("nan")


def both(pool: bool = True, **changed: Any) -> tuple[torch.nn.Module, Any]:
    theirs = randomised(torchgeo.CopernicusFM(**SMALL, global_pool=pool, num_classes=4))
    with torch.no_grad():  # so that places count
        theirs.pos_embed.normal_(generator=torch.Generator().manual_seed(3))
    ours, report = foreign.load(
        theirs.state_dict(), bands=ALL, normalisation=identity(ALL), heads=3, **changed
    )
    dropped = {entry.source.partition(".")[0] for entry in report.dropped}
    assert dropped == {"patch_embed_variable", "head"}
    return theirs, ours


def run(theirs: Any, x: Tensor, metadata: Tensor, bands=BANDS, kernel: int | None = None) -> Tensor:
    with torch.no_grad():
        return theirs.forward_features(
            x,
            metadata,
            wavelengths=[band.wavelength_nm for band in bands],
            bandwidths=[band.fwhm_nm for band in bands],
            kernel_size=kernel,
        )


def known(area: float, lonlat: Tensor = LONLAT, time: Tensor = TIME) -> Tensor:
    """What the original takes: lon, lat, days since 1970, km²."""
    return torch.cat([lonlat, time[:, None] / 86400, torch.full((2, 1), area)], dim=1)


AREA = (8 * 10 / 1000) ** 2


@pytest.mark.parametrize("pool", [True, False])
@pytest.mark.parametrize("side", [24, 40])
def test_outputs_are_torchgeo_s(pool: bool, side: int) -> None:
    theirs, ours = both(pool)
    x = pixels(ALL, side)
    with torch.no_grad():
        found = ours.encode(x, lonlat=LONLAT, time=TIME).pooled
    close(found, run(theirs, x[MODALITY], known(AREA)))


def test_any_bands_in_any_order_and_number() -> None:
    theirs, ours = both()
    order = [4, 0, 12, 7]
    chosen = {MODALITY: pixels(ALL, 24)[MODALITY][:, order]}
    listed = {MODALITY: [BANDS[i] for i in order]}
    with torch.no_grad():
        found = ours.encode(chosen, bands=listed, lonlat=LONLAT, time=TIME).pooled
    close(found, run(theirs, chosen[MODALITY], known(AREA), [BANDS[i] for i in order]))


def test_what_is_unknown_touches_its_own_sample_only() -> None:
    """The original takes the learned codes for the whole batch when one sample lacks its place."""
    theirs, ours = both()
    x = pixels(ALL, 24)
    some, when = LONLAT.clone(), TIME.clone()
    some[1], when[1] = NAN, NAN
    with torch.no_grad():
        found = ours.encode(x, lonlat=some, time=when).pooled
        none = ours.encode(x).pooled
    close(found[:1], run(theirs, x[MODALITY], known(AREA))[:1])
    nowhere = known(AREA, torch.full_like(LONLAT, NAN), torch.full_like(TIME, NAN))
    close(found[1:], run(theirs, x[MODALITY], nowhere)[1:])
    close(none, run(theirs, x[MODALITY], nowhere))
    assert not torch.allclose(found[:1], none[:1], atol=1e-3)


def test_kernels_of_another_size_and_grounds_of_another_distance() -> None:
    theirs, _ = both()
    options = {"width": 48, "depth": 2, "heads": 3, "kernel": 8, "grid": 3}
    small = create_model("copernicus_base", bands=ALL, token_m=40, **options).eval()
    state = {
        k: v for k, v in theirs.state_dict().items() if "variable" not in k and "head" not in k
    }
    small.net.load_state_dict(state)
    x = pixels(ALL, 12)
    with torch.no_grad():
        found = small.encode(x, lonlat=LONLAT, time=TIME).pooled
        finer = small.encode(x, lonlat=LONLAT, time=TIME, gsd={MODALITY: 9.0}).pooled
    close(found, run(theirs, x[MODALITY], known((4 * 10 / 1000) ** 2), kernel=4))
    close(finer, run(theirs, x[MODALITY], known((4 * 9 / 1000) ** 2), kernel=4))
    with pytest.raises(UsageError, match="leave `area` out of metadata"):
        small.encode(x, gsd={MODALITY: 5.0})


def test_wavelengths_and_widths_are_never_made_up(tmp_path) -> None:
    _, ours = both()
    checkpoint.save(tmp_path / "ours", ours)
    again = checkpoint.load(tmp_path / "ours")
    x, one = {MODALITY: torch.rand(1, 1, 24, 24)}, identity(ALL)[MODALITY].select([0])
    with torch.no_grad():
        whole = {MODALITY: torch.rand(1, 13, 24, 24)}
        assert torch.equal(again.encode(whole).pooled, ours.encode(whole).pooled)
    for changed, said in (
        ({"wavelength_nm": None}, "has no wavelength"),
        ({"fwhm_nm": None}, r"has no width \(fwhm_nm\), which Copernicus-FM needs"),
        ({"wavelength_nm": 0.49}, "has a wavelength of 0.49 nm, Copernicus-FM knows 100 to"),
    ):
        values = {"wavelength_nm": 490.0, "fwhm_nm": 60.0, **changed}
        band = Band("x", values["wavelength_nm"], values["fwhm_nm"], 10.0, "reflectance")
        with pytest.raises(UsageError, match=said):
            again.encode(
                x,
                bands={MODALITY: [band]},
                normalisation={MODALITY: one},
            )
    radar = foreign.on_grid(sensor("sentinel1-grd").bands, 10)
    with pytest.raises(UsageError, match="'VV' of s1grd_10 has no wavelength"):
        create_model("copernicus_nano", bands=radar)
