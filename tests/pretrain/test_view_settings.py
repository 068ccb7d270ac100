"""What a view's config refuses, in one line."""

from typing import Any

import pytest

from fm.config import parse
from fm.errors import UsageError
from fm.sensors import sensor
from pretrain.settings.view import ViewConfig, kind_of

S2 = sensor("sentinel2-l1c").modalities
S1 = sensor("sentinel1-grd").modalities


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"hue": 0.1}, "reflectance has no hue"),
        ({"optical": {"hue": 0.1}}, "reflectance has no hue"),
        ({"brightness": 0.4}, "say of which sensors, such as optical.brightness"),
        ({"radar": {"brightness": 0.4}}, "ask for gain_db"),
        ({"radar": {"grey": 0.2}}, "ask for unsafe_grey"),
        ({"radar": {"solarise": 0.2}}, "turning dB over"),
        ({"hyperspectral": {"grey": 0.2}}, "ask for unsafe_grey"),
        ({"hyperspectral": {"solarise": 0.2}}, "upside down"),
        ({"optical": {"blur": [2.0, 1.0]}}, "LOWEST, HIGHEST"),
        ({"scale": [0.5, 0.2]}, "LOWEST, HIGHEST"),
        ({"resize": False}, "give size=PIXELS"),
    ],
)
def test_what_says_something_false_of_a_sensor_is_refused(values: Any, told: str) -> None:
    with pytest.raises(UsageError, match=told) as error:
        parse(ViewConfig, values, "a recipe")
    assert "\n" not in str(error.value)


def test_effects_of_sensors_that_are_not_there_are_refused() -> None:
    config = ViewConfig.model_validate({"radar": {"gain_db": 1.0}})
    config.check(S1, "objective.view")
    config.check({**S1, **S2}, "objective.view")
    with pytest.raises(UsageError, match=r"objective.view.radar is set.*s2l1c_10 \(optical\)"):
        config.check(S2, "objective.view")
    ViewConfig().check(S2, "objective.view")


def test_kinds_come_from_units_and_the_number_of_bands() -> None:
    kinds = {
        "sentinel2-l1c": "optical",
        "sentinel1-grd": "radar",
        "sentinel1-so2sat": "other",
        "enmap-l2a": "hyperspectral",
        "aviris-indian-pines": "hyperspectral",
    }
    for name, kind in kinds.items():
        assert {kind_of(bands) for bands in sensor(name).modalities.values()} == {kind}


def test_the_default_set_of_radar_and_spectra_has_no_colours() -> None:
    config = ViewConfig()
    assert config.radar.gain_db == config.radar.unsafe_contrast == config.radar.unsafe_grey == 0
    assert config.hyperspectral.contrast == config.hyperspectral.unsafe_grey == 0
    assert not config.optical.legacy_wrap
    assert not config.optical.solarise
