import itertools
import subprocess
import sys

import pytest

import fm
from fm.errors import UsageError
from fm.sensors import (
    aviris,
    enmap,
    list_sensors,
    modality_bands,
    sensor,
    sensor_of_modality,
    sentinel1,
    wavelengths,
)

MODALITIES = {
    "sentinel2-l1c": {"s2l1c_10": 4, "s2l1c_20": 6, "s2l1c_60": 3},
    "sentinel2-l1c-n0400": {"s2l1c_10": 4, "s2l1c_20": 6, "s2l1c_60": 3},
    "sentinel2-l2a": {"s2l2a_10": 4, "s2l2a_20": 6, "s2l2a_60": 2},
    "sentinel2-l2a-n0400": {"s2l2a_10": 4, "s2l2a_20": 6, "s2l2a_60": 2},
    "sentinel1-grd": {"s1grd_10": 2},
    "aviris-indian-pines": {"aviris_20": 200},
    "enmap-l2a": {"enmap_30": 224},
    "desis-l2a": {"desis_30": 235},
    "eo1-hyperion": {"hyperion_30": 198},
    "hyperview": {"hyperview_2": 150},
    "landsat5-tm-l1": {"l5l1_30": 7},
    "landsat5-tm-l2": {"l5l2_30": 6},
    "landsat7-etm-gls": {"l7gls_28": 6},
    "landsat7-etm-l1": {"l7l1_15": 1, "l7l1_30": 8},
    "landsat7-etm-l2": {"l7l2_30": 6},
    "landsat8-oli-l1": {"l8l1_15": 1, "l8l1_30": 10},
    "landsat8-oli-l2": {"l8l2_30": 7},
    "landsat9-oli-l1": {"l9l1_15": 1, "l9l1_30": 10},
    "landsat9-oli-l2": {"l9l2_30": 7},
    "landsat5-tm-toa8": {"l5toa8_30": 7},
    "landsat7-etm-toa8": {"l7toa8_30": 9},
    "landsat7-etm-sr8": {"l7sr8_30": 6},
    "landsat8-oli-toa8": {"l8toa8_30": 11},
    "landsat8-oli-sr8": {"l8sr8_30": 7},
    "modis-blue-marble": {"bluemarble_7413": 3},
    "modis-shiptracks": {"modisbyte_1000": 3},
    "neon-rgb": {"neonrgb_0": 3},
    "rgb": {"rgb_0": 3},
    "nir-rgb": {"nirrgb_0": 4},
    "sentinel1-so2sat": {"s1so2sat_10": 8},
    "sentinel3-olci": {"s3olci_300": 21},
    "landsat8-oli-8bit": {"l8byte_15": 6},
    "sentinel2-8bit": {"s2byte_10": 12},
}


def test_modalities_of_every_sensor():
    assert list_sensors() == sorted(MODALITIES)
    for name, expected in MODALITIES.items():
        found = sensor(name).modalities
        assert {m: len(b) for m, b in found.items()} == expected
        assert list(found) == list(expected), "finest grid first"


@pytest.mark.parametrize("name", list(MODALITIES))
def test_tables_are_sane(name):
    item = sensor(name)
    assert len({b.name for b in item.bands}) == len(item.bands)
    for band in item.bands:
        assert band.modality.endswith(f"_{band.gsd_m:.0f}")
        assert band.unit in {"reflectance", "dB", "linear", "dn"}
        unknown = band.unit in {"dB", "linear"} or (name, band.name) == ("nir-rgb", "NIR")
        assert (band.wavelength_nm is None) == (band.fwhm_nm is None) == unknown
        if band.wavelength_nm is not None and band.fwhm_nm is not None:
            assert 400 <= band.wavelength_nm <= 12_500
            assert 2 < band.fwhm_nm < 0.6 * band.wavelength_nm
    if any(band.unit == "dn" for band in item.bands):
        assert (item.scale, item.offset) == (1.0, 0.0), "uncalibrated numbers have no scale"


def test_sentinel2_order_is_the_products():
    names = [band.name for band in sensor("sentinel2-l1c").bands]
    assert " ".join(names) == "B01 B02 B03 B04 B05 B06 B07 B08 B8A B09 B10 B11 B12"
    assert [b.name for b in sensor("sentinel2-l2a").bands] == [n for n in names if n != "B10"]
    assert " ".join(b.name for b in modality_bands("s2l1c_20")) == "B05 B06 B07 B8A B11 B12"
    centres = [band.wavelength_nm for band in sensor("sentinel2-l1c").bands]
    assert centres == sorted(centres)


def test_baseline_0400_takes_1000_off():
    # DN 1000 of baseline 04.00 is the DN 0 of before; DN 11000 is reflectance 1.
    for level in ("l1c", "l2a"):
        new, old = sensor(f"sentinel2-{level}-n0400"), sensor(f"sentinel2-{level}")
        assert 1000 * new.scale + new.offset == pytest.approx(0.0, abs=1e-12)
        assert 11000 * new.scale + new.offset == pytest.approx(1.0)
        assert 10000 * old.scale + old.offset == pytest.approx(1.0)
        assert new.bands == old.bands
        assert sensor_of_modality(new.bands[0].modality) is old


def test_landsat_surface_reflectance_scale():
    # USGS: valid range 7273-43636 is reflectance 0-1.
    item = sensor("landsat8-oli-l2")
    assert 7273 * item.scale + item.offset == pytest.approx(0.0, abs=2e-5)
    assert 43636 * item.scale + item.offset == pytest.approx(1.0, abs=2e-5)


def test_radar_has_no_optical_wavelength():
    vv, vh = sensor("sentinel1-grd").bands
    assert (vv.polarisation, vh.polarisation) == ("VV", "VH")
    assert pytest.approx(5.5466e7, rel=1e-4) == sentinel1.WAVELENGTH_NM
    with pytest.raises(UsageError, match=r"'VV' of s1grd_10 has no wavelength"):
        wavelengths((vv, vh))
    assert wavelengths(sensor("sentinel2-l2a").select(["B04", "B08"])) == (664.6, 832.8)


def test_indian_pines_leaves_out_the_water_bands():
    bands = sensor("aviris-indian-pines").bands
    numbers = [int(band.name[1:]) for band in bands]
    assert len(numbers) == 200
    assert set(range(1, 221)) - set(numbers) == {*range(104, 109), *range(150, 164), 220}
    assert set(aviris.DROPPED) == {*range(104, 109), *range(150, 164), 220}
    assert bands[0].wavelength_nm == 400.0
    # Even spacing over all 220: 219 steps from 400 to 2500, gaps included.
    for number, band in zip(numbers, bands, strict=True):
        assert band.wavelength_nm == pytest.approx(400 + (number - 1) * 2100 / 219, abs=0.006)


def test_enmap_table():
    bands = sensor("enmap-l2a").bands
    assert (bands[0].wavelength_nm, round(bands[0].fwhm_nm, 3)) == (418.24, 6.996)
    assert bands[-1].wavelength_nm == 2445.53
    centres = wavelengths(bands)
    assert all(a < b for a, b in itertools.pairwise(centres))
    # VNIR and SWIR detectors interleave below 1000 nm; wider gaps only around water vapour.
    assert [(a, b) for a, b in itertools.pairwise(centres) if b - a > 13] == [
        (1390.84, 1461.46),
        (1759.83, 1939.44),
    ]


def test_enmap_202_bands_keep_the_clear_window():
    centres = wavelengths(enmap.bands_202())
    assert len(centres) == 202
    gaps = [(a, b) for a, b in itertools.pairwise(centres) if b - a > 13]
    assert gaps == [(1283.29, 1530.64), (1728.4, 1977.37)]
    assert 1609.36 in centres


def test_other_imaging_spectrometers():
    desis, hyperview = (
        wavelengths(sensor("desis-l2a").bands),
        wavelengths(sensor("hyperview").bands),
    )
    assert (desis[0], desis[-1]) == (402.0, 998.7)
    assert (hyperview[0], hyperview[-1]) == (462.0, 938.8)
    bands = sensor("eo1-hyperion").bands
    assert (bands[0].name, bands[-1].name) == ("B008", "B224")
    falls = [(a, b) for a, b in itertools.pairwise(bands) if b.wavelength_nm < a.wavelength_nm]
    assert [(a.name, b.name) for a, b in falls] == [("B057", "B077")]


def test_eight_bit_landsat_is_no_landsat_level():
    """Numbers of another scale never share an array's name with the products'."""
    for name in ("landsat5-tm", "landsat7-etm", "landsat8-oli"):
        ours = set(sensor(f"{name}-toa8").modalities)
        assert not ours & set(sensor(f"{name}-l1").modalities)
        assert wavelengths(sensor(f"{name}-toa8").select(["B1", "B4"])) == wavelengths(
            sensor(f"{name}-l1").select(["B1", "B4"])
        )


def test_wrong_names_say_which_are_near():
    with pytest.raises(UsageError, match="did you mean 'sentinel2-l1c'"):
        sensor("sentinel2-lic")
    with pytest.raises(UsageError, match="sentinel2-l2a has no band 'B10'"):
        sensor("sentinel2-l2a").band("B10")
    with pytest.raises(UsageError, match="did you mean 's2l1c_10'"):
        modality_bands("s2l1c_1O")
    with pytest.raises(UsageError, match="named twice"):
        sensor("sentinel2-l2a").select(["B02", "b02"])
    with pytest.raises(
        UsageError, match="enmap-l2a has no band 'red'; its 224 bands are B001 to B224"
    ) as caught:
        sensor("enmap-l2a").band("red")
    assert "\n" not in str(caught.value)
    assert [b.name for b in sensor("sentinel2-l1c").select(["B12", "b8a"])] == ["B12", "B8A"]


def test_import_loads_no_torch():
    code = (
        "import sys, fm, fm.sensors, fm.normalize, fm.geo; fm.sensor('sentinel2-l1c'); "
        "sys.exit(any(m in sys.modules for m in ('torch', 'fm.models', 'timm')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_lazy_names():
    assert fm.sensor is sensor
    assert "create_model" in dir(fm)
    with pytest.raises(AttributeError, match="no attribute 'sensr'"):
        _ = fm.sensr
