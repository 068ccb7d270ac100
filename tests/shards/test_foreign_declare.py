from pathlib import Path
from typing import Any

import pytest

from fm.errors import FMError, UsageError
from shards.foreign.declare import ArrayMember, JsonMember, TextMember
from shards.foreign.declare_file import from_mapping, from_options, read_declaration

S2 = {
    "modality": "s2l1c_10",
    "sensor": "sentinel2-l1c",
    "bands": ["B02", "B08"],
    "axes": "HWC",
    "nodata": 0,
}


def only(**changes: Any) -> ArrayMember:
    entry = {key: value for key, value in (S2 | changes).items() if value is not ...}
    (member,) = from_mapping({"members": {"s2.npy": entry}}).members["s2.npy"]
    assert isinstance(member, ArrayMember)
    return member


def test_what_the_sensor_says_need_not_be_said() -> None:
    member = only()
    assert (member.scale, member.offset, member.gsd_m) == (1e-4, 0.0, 10.0)
    assert member.codec == "foreign-npy@HWC"
    assert member.nodata == (0, 0)
    assert [band.wavelength_nm for band in member.table] == [492.4, 832.8]
    assert only(scale=0.1, offset=-3, nodata="none", gsd_m=20).nodata is None
    assert not only(nodata=...).nodata_said


def test_stored_axes_become_the_shape_of_the_index() -> None:
    assert only().shape((2, 5, 7)) == (2, 5, 7)
    assert only(axes="THWC").shape((4, 2, 5, 7)) == (4, 2, 5, 7)
    assert only(axes="TCHW").shape((1, 2, 5, 7)) == (2, 5, 7)
    assert only(axes="HWC").shape((3, 5, 7)) is None  # three bands where two are declared
    assert only(axes="CHW").shape((4, 2, 5, 7)) is None
    one = only(axes="THW", bands=["B02"])
    assert one.shape((4, 5, 7)) == (4, 1, 5, 7)


def test_the_example_of_the_documentation_holds(tmp_path: Path) -> None:
    import textwrap

    from shards.foreign import declare_file

    example = textwrap.dedent(str(declare_file.__doc__).split("options.\n", 1)[1])
    (tmp_path / "plots.yaml").write_text(example.partition("\nSeveral")[0])
    found = read_declaration(tmp_path / "plots.yaml")
    kinds = {pattern: type(members[0]) for pattern, members in found.members.items()}
    assert kinds == {
        "s2.npy": ArrayMember,
        "S1GRD/zarr.zip": ArrayMember,
        "mask.tif": ArrayMember,
        "json": JsonMember,
        "cls": TextMember,
    }
    assert sorted(found.labels) == ["cover", "crop", "scene"]
    assert found.find("S1GRD", "zarr.zip")
    assert found.find("S2RGB", "zarr.zip") == ()
    assert found.find("DEM", "zarr.zip") is None


def test_a_sensor_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "cam.yaml").write_text(
        "name: cam\nscale: 0.5\noffset: 1\nnodata: 9\n"
        "bands: [{name: red, wavelength_nm: 650, gsd_m: 0.1, unit: dn}]\n"
    )
    entry = {"modality": "cam", "sensor": "cam.yaml", "bands": ["red"], "axes": "CHW"}
    (member,) = from_mapping({"members": {"npy": entry}}, tmp_path).members["npy"]
    assert isinstance(member, ArrayMember)
    assert (member.sensor, member.scale, member.offset, member.nodata) == ("cam", 0.5, 1.0, (9,))


WRONG = {
    "no bands": ({"bands": ...}, "bands is missing"),
    "unknown band": ({"bands": ["B02", "B99"]}, "no band 'B99'"),
    "band twice": ({"bands": ["B02", "B02"]}, "named twice"),
    "no axes": ({"axes": ...}, "axes is None; say how the array is stored"),
    "unknown axes": ({"axes": "WHC"}, "axes is 'WHC'"),
    "no sensor": ({"sensor": ...}, "neither known nor a sensor file"),
    "near sensor": ({"sensor": "sentinel2-l1b"}, "did you mean 'sentinel2-l1c'"),
    "mixed grids": ({"bands": ["B02", "B05"]}, "say gsd_m"),
    "yaml number": ({"scale": "1e-4"}, "YAML takes 1e-4 for text"),
    "nodata count": ({"nodata": [0, 0, 0]}, "3 numbers for 2 bands"),
    "nodata text": ({"nodata": 0.5}, "a whole stored number"),
    "misspelt key": ({"ofset": 1}, "key 'ofset' is unknown; did you mean 'offset'"),
    "name": ({"modality": "S2"}, "name 'S2' of a modality"),
    "metadata of npy": ({"metadata": {"time": "t"}}, "of zarr.zip and json"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_meant_is_said_in_one_line(name: str) -> None:
    changes, reason = WRONG[name]
    with pytest.raises(FMError, match=reason) as caught:
        only(**changes)
    assert "\n" not in str(caught.value)


def test_all_problems_come_together() -> None:
    members = {
        "a.npy": S2 | {"axes": "?"},
        "b.npy": S2,
        "c.npy": S2,
        "d.pth": S2,
        "e.jpg": S2,
        "zarr.zip": S2,
        "x/y/z.npy": S2,
    }
    with pytest.raises(FMError) as caught:
        from_mapping({"members": members, "ignore": ["b.npy"], "licence": 4})
    text = str(caught.value)
    for part in (
        "a.npy: axes",
        "'s2l1c_10' is declared twice",
        "d.pth: pickles are refused",
        "members .e.jpg are not read",
        "say which one with array",
        "write ENDING or FOLDER/ENDING",
        "b.npy is both declared and ignored",
        "licence is 4",
    ):
        assert part in text


def test_options_say_the_same_as_a_file() -> None:
    short = from_options(
        [
            "s2.npy=s2l1c_10:sentinel2-l1c:B02,B08:HWC:0",
            "zarr.zip#bands=s1grd_10:sentinel1-grd:VV,VH:TCHW:none",
        ]
    )
    assert short.members["s2.npy"] == (only(),)
    (grd,) = short.members["zarr.zip"]
    assert isinstance(grd, ArrayMember)
    assert grd.codec == "zarr.zip:bands"
    for wrong in ("s2.npy", "s2.npy=a:b:c:d", "s2.npy=a:sentinel2-l1c:B02:CHW:x"):
        with pytest.raises(UsageError, match="--member"):
            from_options([wrong])


def test_files_that_are_no_declaration(tmp_path: Path) -> None:
    with pytest.raises(FMError, match="no such declaration"):
        read_declaration(tmp_path / "none.yaml")
    for text in ("members: [", "- 1", "name: a"):
        (tmp_path / "a.yaml").write_text(text)
        with pytest.raises(FMError, match=r"a\.yaml: "):
            read_declaration(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text("members: !!python/object/apply:os.getcwd []")
    with pytest.raises(FMError, match="not YAML"):
        read_declaration(tmp_path / "a.yaml")
