"""Released weights: SatCLIP's files without their image towers, GeoCLIP's own embeddings."""

import math
from pathlib import Path

import pytest
import torch

from fm.errors import FMError
from fm.location import SphericalHarmonics, geoclip, satclip

PLACES = torch.tensor([[2.35, 48.85], [-74.0, 40.7], [-180.0, -90.0]], dtype=torch.float64)


def lightning(degrees: int = 4, width: int = 6, dim: int = 5, **settings: object) -> dict:
    """What a SatCLIP file holds: an image tower, the network under two names, settings, Adam."""
    torch.manual_seed(0)
    shapes = {
        "layers.0.weight": (width, degrees**2),
        "layers.0.bias": (width,),
        "layers.1.weight": (width, width),
        "layers.1.bias": (width,),
        "last_layer.weight": (dim, width),
        "last_layer.bias": (dim,),
    }
    network = {key: 0.3 * torch.randn(size, dtype=torch.float64) for key, size in shapes.items()}
    state = {"model.visual.fc.weight": torch.zeros(3, 3), "model.logit_scale": torch.tensor(2.0)}
    for prefix in ("model.nnet.", "model.location.nnet."):
        state |= {prefix + key: value for key, value in network.items()}
    told = {
        "le_type": "sphericalharmonics",
        "pe_type": "siren",
        "harmonics_calculation": "analytic",
        "legendre_polys": degrees,
        "air_temp_data_path": None,
    }
    return {
        "epoch": 499,
        "pytorch-lightning_version": "2.0.2",
        "state_dict": state,
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(3)}}}],
        "hyper_parameters": told | settings,
    }


def saved(folder: Path, content: object) -> Path:
    torch.save(content, folder / "satclip.ckpt")
    return folder / "satclip.ckpt"


def by_hand(state: dict, degrees: int) -> torch.Tensor:
    """The published network, with its features: pi at m = 0, angles from the south at 180 W."""
    from scipy.special import sph_harm_y

    phi, theta = torch.deg2rad(PLACES + torch.tensor([180.0, 90.0])).T.numpy()
    columns = []
    for degree in range(degrees):
        for m in range(-degree, degree + 1):
            value = sph_harm_y(degree, abs(m), theta, phi)
            if m == 0:
                columns.append(math.pi * value.real)
            else:
                part = value.imag if m < 0 else value.real
                columns.append((-1) ** m * math.sqrt(2) * part)
    x = torch.stack([torch.tensor(column) for column in columns], 1)
    p = "model.location.nnet."
    x = torch.sin(30 * (x @ state[p + "layers.0.weight"].T + state[p + "layers.0.bias"]))
    x = torch.sin(x @ state[p + "layers.1.weight"].T + state[p + "layers.1.bias"])
    return x @ state[p + "last_layer.weight"].T + state[p + "last_layer.bias"]


def test_satclip_loads_without_the_image_tower(tmp_path: Path) -> None:
    content = lightning()
    path = saved(tmp_path, content)
    made = satclip(path, dtype=torch.float64)
    expected = by_hand(content["state_dict"], 4)
    assert torch.allclose(made(PLACES), expected, atol=1e-12)
    assert not made.training
    assert sum(value.numel() for value in made.parameters()) == 6 * 17 + 6 * 7 + 5 * 7
    assert (made.encoding.L, made.encoding.convention) == (4, "satclip")
    single = satclip(path)
    assert single(PLACES).dtype == torch.float32
    assert torch.allclose(single(PLACES).double(), expected, atol=2e-5)


def test_satclip_of_the_closed_form_has_its_convention(tmp_path: Path) -> None:
    path = saved(tmp_path, lightning(harmonics_calculation="closed-form"))
    assert satclip(path).encoding.convention == "closed_form"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"le_type": "grid"}, "only sphericalharmonics"),
        ({"harmonics_calculation": "table"}, "harmonics_calculation 'table'"),
        ({"legendre_polys": 5}, "harmonics of 5 degrees"),
    ],
)
def test_satclip_refuses_what_it_would_get_wrong(tmp_path: Path, change: dict, words: str) -> None:
    content = lightning()
    content["hyper_parameters"] |= change
    with pytest.raises(FMError, match=words):
        satclip(saved(tmp_path, content))


def test_satclip_networks_that_differ_are_refused(tmp_path: Path) -> None:
    content = lightning()
    content["state_dict"]["model.nnet.layers.1.bias"] = torch.ones(6, dtype=torch.float64)
    with pytest.raises(FMError, match="differ"):
        satclip(saved(tmp_path, content))


def test_satclip_is_strict(tmp_path: Path) -> None:
    content = lightning()
    for prefix in ("model.nnet.", "model.location.nnet."):
        del content["state_dict"][prefix + "layers.1.bias"]
    with pytest.raises(FMError, match=r"lacks head\.layers\.0\.bias"):
        satclip(saved(tmp_path, content))
    with pytest.raises(FMError, match="no location network"):
        satclip(saved(tmp_path, {"state_dict": {"model.visual.w": torch.zeros(2)}}))


class Harm:
    def __reduce__(self) -> tuple:
        return print, ("run",)


def test_no_code_of_a_file_is_run(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = saved(tmp_path, lightning() | {"callbacks": Harm()})
    with pytest.raises(FMError, match="refused"):
        satclip(path)
    assert capsys.readouterr().out == ""


def fake_geoclip() -> dict:
    torch.manual_seed(0)
    shapes = {"capsule.1": (6, 8), "capsule.3": (6, 6), "capsule.5": (6, 6), "head.0": (5, 6)}
    state = {}
    for i in range(2):
        state[f"LocEnc{i}.capsule.0.b"] = torch.randn(4, 2)
        for name, (out, inputs) in shapes.items():
            state[f"LocEnc{i}.{name}.weight"] = torch.randn(out, inputs)
            state[f"LocEnc{i}.{name}.bias"] = torch.randn(out)
    return state


def test_geoclip_is_strict(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(fake_geoclip(), path)
    made = geoclip(path)
    assert made(PLACES).shape == (3, 5)
    assert len(made.features(PLACES).hidden) == 6
    lacking = fake_geoclip()
    del lacking["LocEnc1.capsule.5.bias"]
    torch.save(lacking, path)
    with pytest.raises(FMError, match=r"lacks head\.layers\.1\.bias"):
        geoclip(path)
    torch.save(fake_geoclip() | {"LocEnc0.capsule.7.weight": torch.zeros(2)}, path)
    with pytest.raises(FMError, match=r"capsule\.7"):
        geoclip(path)


GEOCLIP_PLACES = [[2.35, 48.85], [-74.0, 40.7], [139.69, 35.69], [0, 90], [180, -45]]
GEOCLIP_STARTS = [
    [-0.00836299266666174, 0.002806449541822076, -0.0019524387316778302, 0.00683930329978466],
    [-0.009777525439858437, 0.003863345365971327, 0.013975447043776512, 0.006390431430190802],
    [0.0033355995547026396, -0.000666794425342232, -0.00020732387201860547, -0.000770003593063111],
    [0.026659393683075905, -0.002927395747974515, 0.032280512154102325, 0.008842280134558678],
    [0.016419285908341408, 0.012250679545104504, 0.009758349508047104, 0.002345409942790866],
]
GEOCLIP_LENGTHS = [
    0.23807045817375183,
    0.19854407012462616,
    0.26006412506103516,
    0.36859384179115295,
    0.28902164101600647,
]
"""Made once by the package's own code (1.3.0, in float64, given (lat, lon))."""


@pytest.mark.data
def test_geoclip_reproduces_its_embeddings(package_cache: Path) -> None:
    from probes.location.packages import GEOCLIP
    from shards.building.packages import fetch

    try:
        folder = fetch(GEOCLIP, package_cache)
    except FMError as error:
        pytest.skip(str(error))
    made = geoclip(folder, dtype=torch.float64)
    out = made(torch.tensor(GEOCLIP_PLACES, dtype=torch.float64))
    assert out.shape == (5, 512)
    # their projection takes a float32 square root of 3: 2e-6
    assert torch.allclose(out[:, :4], torch.tensor(GEOCLIP_STARTS).double(), atol=1e-5)
    assert torch.allclose(out.norm(dim=1), torch.tensor(GEOCLIP_LENGTHS).double(), atol=1e-5)
    swapped = made(torch.tensor(GEOCLIP_PLACES, dtype=torch.float64)[:2].flip(1))
    assert not torch.allclose(swapped, out[:2], atol=1e-2)


def test_the_factor_matters() -> None:
    """Were pi left out, every zonal feature would be a third of what the weights expect."""
    zonal = [degree * degree + degree for degree in range(4)]
    ours = SphericalHarmonics(4, "satclip").double()(PLACES)[:, zonal]
    plain = SphericalHarmonics(4, "closed_form").double()(PLACES)[:, zonal]
    assert torch.allclose(ours, math.pi * plain, atol=1e-14)
