import pytest

from fm.errors import FMError, UsageError
from fm.sensors import Band
from shards.sources.sensor_file import read_sensor_file

GOOD = """
name: my-camera
platform: UAV
scale: 1.0e-4
offset: -0.1
nodata: [65535, none]
bands:
  - {name: blue, wavelength_nm: 475, fwhm_nm: 20, gsd_m: 0.5, unit: reflectance}
  - {name: VV, polarisation: VV, gsd_m: 10, unit: dB}
"""


def write(tmp_path, text):
    path = tmp_path / "bands.yaml"
    path.write_text(text)
    return path


def test_everything_is_read_as_written(tmp_path):
    found = read_sensor_file(write(tmp_path, GOOD))
    assert (found.name, found.platform, found.level) == ("my-camera", "UAV", "")
    assert (found.scale, found.offset) == (1e-4, -0.1)
    assert found.nodata == (65535, None)
    assert found.table == (
        Band("blue", 475.0, 20.0, 0.5, "reflectance"),
        Band("VV", None, None, 10.0, "dB", "VV"),
    )
    assert [band.name for band in found.select(["VV", "blue"])] == ["VV", "blue"]
    assert found.nodata_of(["VV", "blue"]) == (None, 65535)
    with pytest.raises(UsageError, match="did you mean 'blue'"):
        found.select(["blu"])


def test_what_is_not_said_stays_unknown(tmp_path):
    found = read_sensor_file(
        write(
            tmp_path,
            "name: x\nbands: [{name: a, gsd_m: 1, unit: dn}, {name: 2, gsd_m: 1, unit: dn}]",
        )
    )
    assert (found.scale, found.offset, found.nodata) == (None, None, None)
    assert found.nodata_of(["a"]) is None
    assert [band.name for band in found.table] == ["a", "2"]
    assert found.table[0].wavelength_nm is None


def test_one_number_is_the_nodata_of_every_band(tmp_path):
    bands = "bands: [{name: a, gsd_m: 1, unit: dn}, {name: b, gsd_m: 1, unit: dn}]"
    for text, number in (("0", 0), ("none", None), ("null", None)):
        found = read_sensor_file(write(tmp_path, f"name: x\nnodata: {text}\n{bands}"))
        assert found.nodata == (number, number)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("offset: -0.1", "ofset: -0.1", "key 'ofset' is unknown; did you mean 'offset'"),
        ("scale: 1.0e-4", "scale: 1e-4", "YAML takes 1e-4 for text"),
        ("scale: 1.0e-4", "scale: 0", "scale is 0"),
        ("my-camera", "enmap-l2a", "known already"),
        ("wavelength_nm: 475", "wavelength_nm: 0.475", "looks like micrometres"),
        ("wavelength_nm: 475, ", "", "fwhm_nm without wavelength_nm"),
        ("gsd_m: 0.5, ", "", "band 'blue': gsd_m is missing"),
        ("gsd_m: 0.5", "gsd_m: -1", "gsd_m is -1"),
        ("unit: dB", "unit: db", "unit 'db' is spelt 'dB'"),
        (", unit: dB", "", "band 'VV': unit is missing"),
        ("name: VV", "name: BLUE", "comes twice"),
        ("fwhm_nm", "fwmh_nm", "did you mean 'fwhm_nm'"),
        ("[65535, none]", "[65535]", "nodata lists 1 numbers for 2 bands"),
        ("[65535, none]", "0.5", "expected a whole stored number"),
        ("bands:", "band:", "bands is missing"),
        ("  - {name: blue", "  - {nam: blue", "name is missing"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(tmp_path, old, new, message):
    assert old in GOOD
    with pytest.raises(FMError) as caught:
        read_sensor_file(write(tmp_path, GOOD.replace(old, new)))
    assert "bands.yaml: " in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_problems_come_at_once(tmp_path):
    bad = GOOD.replace("offset", "ofset").replace("unit: dB", "unit: DB")
    with pytest.raises(FMError, match=r"ofset.*spelt 'dB'"):
        read_sensor_file(write(tmp_path, bad))


def test_files_that_are_none(tmp_path):
    with pytest.raises(FMError, match="no such sensor file"):
        read_sensor_file(tmp_path / "absent.yaml")
    with pytest.raises(FMError, match="not YAML"):
        read_sensor_file(write(tmp_path, "bands: [unclosed"))
    with pytest.raises(FMError, match="a mapping"):
        read_sensor_file(write(tmp_path, "- 1"))
