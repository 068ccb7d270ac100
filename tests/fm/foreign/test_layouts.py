"""Every kept layout is converted, made a location encoder, or recognised and refused in words.

Those that are converted are put through the same faults in `test_convert`.
"""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from fm import foreign
from fm.errors import FMError
from fm.foreign.inventory import inventory, layouts
from fm.foreign.recognise import FAMILIES, recognise
from fm.location import geoclip, satclip
from probes.backbones.of_packages import NAMED
from probes.location.packages import GEOCLIP
from shards.building.packages import fetch
from tests.fm.foreign.states import ALL, CASES, identity, state_of
from tests.fm.location.test_released import lightning

UNCONVERTED: tuple[str, ...] = ()
PLACES = ("geoclip",)
WHERE = torch.tensor([[13.4, 52.5], [-70.7, -33.4]], dtype=torch.float64)


def test_every_layout_is_held_by_a_test() -> None:
    assert set(layouts()) == {*CASES, *UNCONVERTED, *PLACES}
    families = {inventory(layout).family for layout in CASES}
    assert families == {name for name, one in FAMILIES.items() if one.convertible}


@pytest.mark.parametrize("layout", [*CASES, *UNCONVERTED, *PLACES])
def test_the_released_sizes_are_of_the_same_family(layout: str) -> None:
    found = inventory(layout)
    meta = {
        key: torch.empty(shape, device="meta")
        for key, shape in found.expand().items()
        if found.part(key) != "alias"
    }
    reading = foreign_state(layout, meta)
    assert recognise(reading).family == found.family


def foreign_state(layout: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take wrapping prefixes and other networks off, as reading does, without the values."""
    from fm.foreign.networks import choose
    from fm.foreign.reading import PREFIXES

    while lead := next((p for p in PREFIXES if all(k.startswith(p) for k in state)), ""):
        state = {key.removeprefix(lead): value for key, value in state.items()}
    part = CASES[layout][1].get("part") if layout in CASES else None
    one = choose(state, part, layout)
    return state if one is None else one.state


@pytest.mark.parametrize("layout", [*UNCONVERTED, *PLACES])
def test_what_is_not_converted_is_refused_in_words(layout: str) -> None:
    state = state_of(layout)
    _, found = foreign.inspect(state)
    assert (found.family, found.convertible) == (layout, False)
    assert "does not convert it" in found.text()
    with pytest.raises(FMError, match=f"recognised as {layout}, which eofm does not convert") as e:
        foreign.load(state, bands=ALL, normalisation=identity(ALL))
    assert "\n" not in str(e.value)
    assert found.notes[0] in str(e.value)


def located(kind: str) -> dict[str, Tensor]:
    return state_of("geoclip") if kind == "geoclip" else lightning(3)["state_dict"]


def load(kind: str, state: dict[str, Tensor], folder: Path):
    torch.save(state if kind == "geoclip" else {"state_dict": state}, folder / "w.ckpt")
    return (geoclip if kind == "geoclip" else satclip)(folder / "w.ckpt")


@pytest.mark.parametrize("kind", ["geoclip", "satclip"])
@pytest.mark.parametrize("fault", ["missing", "renamed", "shape", "extra"])
def test_location_towers_load_whole_or_not_at_all(tmp_path: Path, kind: str, fault: str) -> None:
    state = located(kind)
    assert load(kind, state, tmp_path)(WHERE).shape[0] == 2
    key = "LocEnc1.capsule.3.weight" if kind == "geoclip" else "model.location.nnet.layers.1.weight"
    keys = [key] if kind == "geoclip" else [key, key.replace("location.", "")]
    for name in keys:
        value = state[name]
        if fault == "missing":
            del state[name]
        elif fault == "renamed":
            state[f"{name}_x"] = state.pop(name)
        elif fault == "shape":
            state[name] = value[:, :-1].clone()
        else:
            state[name.replace("weight", "extra")] = torch.ones(2)
    with pytest.raises(FMError) as caught:
        load(kind, state, tmp_path)
    text = str(caught.value)
    assert "\n" not in text
    if fault == "shape":
        assert "expected" in text
    else:
        assert "lacks" in text or "beyond what is known" in text or "is not of GeoCLIP" in text
    assert any(word in text for word in ("head.layers", "capsule.3", "layers.1", "extra"))


def test_other_formats_are_named(tmp_path: Path) -> None:
    (tmp_path / "w.pb").write_bytes(b"\x08\x07")
    with pytest.raises(FMError, match="a TensorFlow graph"):
        foreign.inspect(tmp_path / "w.pb")


@pytest.mark.data
def test_real_files_of_pip_packages(package_cache: Path, tmp_path: Path) -> None:
    """AugNet and GeoCLIP become models and run."""
    from fm import checkpoint, location
    from fm.pull.released import pull

    augnet = NAMED["augnet-resnet50"]
    try:
        folders = [fetch(one, package_cache) for one in (augnet.package, GEOCLIP)]
    except FMError as error:
        pytest.skip(str(error))
    done = pull("augnet-rn50", tmp_path / "augnet", file=folders[0] / augnet.member)
    assert done.sha256 in (checkpoint.read_card(tmp_path / "augnet").parent or "")
    model = checkpoint.load(tmp_path / "augnet")
    ((modality, _),) = model.bands.items()
    with torch.no_grad():
        pooled = model.encode({modality: torch.rand(1, 3, 64, 64) * 255}).pooled
    assert pooled.shape == (1, 2048)
    assert pooled.isfinite().all()
    file = folders[1] / "geoclip/model/weights/location_encoder_weights.pth"
    pull("geoclip", tmp_path / "geo", file=file)
    near = torch.tensor([[2.35, 48.86], [2.35, 48.87], [151.2, -33.9]], dtype=torch.float64)
    found = torch.nn.functional.normalize(location.load(tmp_path / "geo")(near), dim=1)
    assert (found @ found.T)[0, 1] > 0.85
    assert (found @ found.T)[0, 2] < 0.3
