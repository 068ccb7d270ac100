"""`fm models pull`: from a name to a checkpoint with a card, or to nothing."""

import hashlib
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bench.flaky_server import FlakyServer, Plan
from fm import checkpoint, location
from fm.cli import main
from fm.errors import FMError, UsageError
from fm.foreign import catalogue
from fm.hub import HubFile
from fm.pull import download
from fm.pull.released import pull
from tests.fm.foreign.states import state_of
from tests.fm.location.test_released import lightning
from tests.fm.pull.hub import NEW, OLD, REPO, main_is, put

NAME = "decur-rn50-s1"
"""Two bands, one normalisation, nothing to choose."""


class Place:
    """A hub with one small file of DeCUR's layout, and the catalogue's entry for it."""

    def __init__(self, folder: Path, monkeypatch) -> None:
        self.root, self.patch = folder / "hub", monkeypatch
        path = folder / "made.pth"
        torch.save(state_of("decur"), path)
        self.data = path.read_bytes()
        self.sha256 = put(self.root, self.data)
        main_is(self.root, OLD)
        self.entry(sha256=self.sha256)

    def entry(self, name: str = NAME, **values: object) -> None:
        told = {"repo": REPO, "revision": OLD, "path": "w.pth", **values}
        changed = replace(catalogue.known(name), **told)
        self.patch.setitem(catalogue.catalogue(), name, changed)

    def serve(self, plan: Plan | None = None) -> FlakyServer:
        server = FlakyServer(self.root, plan)
        self.patch.setenv("HF_ENDPOINT", server.url)
        return server


@pytest.fixture
def place(tmp_path: Path, monkeypatch) -> Place:
    monkeypatch.setattr(download, "WAIT", 0.0)
    return Place(tmp_path, monkeypatch)


def only(folder: Path, *names: str) -> bool:
    """Nothing of ours lies in a folder but these."""
    return sorted(p.name for p in folder.iterdir() if p.name not in ("hub", "made.pth")) == sorted(
        names
    )


def test_a_pulled_model_is_a_checkpoint_with_licence_source_and_hash(
    place: Place, tmp_path: Path
) -> None:
    with place.serve(Plan({"drop": 1.0}, most=1)) as server:
        done = pull(NAME, tmp_path / "ours")
        assert server.faults["drop"] > 1
    assert done.sha256 == place.sha256
    model = checkpoint.load(tmp_path / "ours")
    card = model.card
    assert card is not None
    assert card.name == NAME
    assert card.licence == catalogue.known(NAME).licence
    assert card.parent == f"resnet: {REPO}@{OLD}/w.pth, sha256 {place.sha256}"
    assert card.objective["published"] == "DeCUR (arXiv 2309.05300)"
    assert [band.name for band in card.bands["s1grd_10"]] == ["VV", "VH"]
    assert only(tmp_path, "ours")


def test_wrong_bytes_leave_nothing(place: Place, tmp_path: Path, capsys) -> None:
    with place.serve(Plan({"corrupt": 1.0})):
        assert main(["models", "pull", NAME, "--to", str(tmp_path / "ours")]) == 1
    error = capsys.readouterr().err
    assert f"pinned is {place.sha256}" in error
    assert only(tmp_path)


def test_a_newer_revision_is_told_and_not_taken(place: Place, tmp_path: Path, capsys) -> None:
    torch.save({"newer": torch.ones(3)}, tmp_path / "newer.pth")
    put(place.root, (tmp_path / "newer.pth").read_bytes(), revision=NEW)
    (tmp_path / "newer.pth").unlink()
    main_is(place.root, NEW)
    with place.serve():
        done = pull(NAME, tmp_path / "ours")
    assert done.sha256 == place.sha256
    said = capsys.readouterr().err
    assert f"{REPO} is at {NEW[:12]} now; the pinned {OLD[:12]} was taken" in said
    # a server that serves the newer one under the pinned address
    with place.serve() as server:
        server.headers["X-Repo-Commit"] = NEW
        with pytest.raises(FMError, match="refused: the server serves revision"):
            pull(NAME, tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("known", "missing", "ask"),
    [
        ({"sha256": ""}, "sha256", "--sha256"),
        ({"revision": ""}, "revision", "--revision"),
        ({"revision": "", "sha256": ""}, "revision and no sha256", "--revision and --sha256"),
    ],
)
def test_unpinned_is_asked_for(place, tmp_path: Path, capsys, known, missing: str, ask) -> None:
    place.entry(**{"sha256": place.sha256, **known})
    with place.serve() as server:
        said = f"{NAME} is unpinned: no {missing} of its file is published; give {ask}, or"
        with pytest.raises(UsageError, match=said):
            pull(NAME, tmp_path / "ours")
        assert not server.requests
        done = pull(NAME, tmp_path / "ours", accept_unpinned=True)
    assert done.parent == f"{REPO}@{OLD}/w.pth, sha256 {place.sha256}"
    said = capsys.readouterr().err
    assert ("unpinned; revision" in said) == ("revision" in known)
    assert (f"SHA-256 {place.sha256}; give it as --sha256" in said) == ("sha256" in known)
    assert ("nothing of it is published" in said) == ("sha256" in known)
    with place.serve():
        given = {"sha256": place.sha256, "revision": OLD}
        assert pull(NAME, tmp_path / "pinned", **given).sha256 == place.sha256


def test_a_hash_given_must_agree_with_the_published_digits(place: Place, tmp_path: Path) -> None:
    place.entry(sha256=place.sha256[:8])
    with place.serve() as server:
        with pytest.raises(UsageError, match=r"of decur-rn50-s1 [0-9a-f]{8} is published"):
            pull(NAME, tmp_path / "ours", sha256="0" * 64)
        for given in ({"sha256": "abc"}, {"revision": "main"}):
            with pytest.raises(UsageError, match="wanted"):
                pull(NAME, tmp_path / "ours", **given)
        assert not server.requests
        assert pull(NAME, tmp_path / "ours", sha256=place.sha256).sha256 == place.sha256
        # another revision is taken with its own hash beside, and only so
        other = put(place.root, place.data + b"\0", revision=NEW)
        with pytest.raises(FMError, match="refused: SHA-256"):
            pull(NAME, tmp_path / "newer", revision=NEW)
        done = pull(NAME, tmp_path / "newer.pth", revision=NEW, sha256=other, raw=True)
    assert done.sha256 == other
    assert (tmp_path / "newer.pth").read_bytes() == place.data + b"\0"


def test_offline_is_one_line_and_a_file_at_hand_does(place: Place, tmp_path: Path, capsys) -> None:
    with place.serve() as server:
        pass
    words = ["models", "pull", NAME, "--to", str(tmp_path / "ours")]
    assert main([*words[:-1], str(tmp_path / "far" / "ours")]) == 1
    assert main(words) == 1
    assert only(tmp_path)  # defect: an empty .ours.pull stayed
    error = capsys.readouterr().err
    assert "cannot be reached (connection refused); offline, give it with --from" in error
    assert error.count("\n") == 2
    assert server.url.partition("//")[2] in error
    (tmp_path / "other.pth").write_bytes(place.data[:-1])
    assert main([*words, "--from", str(tmp_path / "other.pth")]) == 1
    assert "refused: SHA-256 is" in capsys.readouterr().err
    assert not (tmp_path / "ours").exists()
    assert main([*words, "--from", str(tmp_path / "made.pth"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["sha256"] == place.sha256
    assert told["report"]["counts"]["dropped"] > 0
    card = checkpoint.read_card(tmp_path / "ours")
    assert card.parent == f"resnet: made.pth given by hand, sha256 {place.sha256}"
    assert main([*words, "--from", str(tmp_path / "made.pth")]) == 1
    assert "exists already; name another with --to" in capsys.readouterr().err


def test_what_conversion_would_refuse_is_said_before_the_download(
    place: Place, tmp_path: Path
) -> None:
    place.entry("softcon-rn50-s2")
    place.entry("galileo-tiny", convertible=False)  # all that are listed are converted by now
    with place.serve() as server:
        for name, said in (
            ("softcon-rn50-s2", "2 normalisations are in circulation"),
            ("seco-rn50", "give --bands and --normalisation"),
            ("copernicus-fm", "give --bands and --normalisation of your data"),
            ("galileo-tiny", "recognised and not converted"),
            ("presto", "give --bands and --normalisation"),
            ("ResNet18_Weights.LANDSAT_TM_TOA_MOCO", "not in the catalogue: give --bands and"),
            ("ResNet18_Weights.LANDSAT_TM_TOA_MOKO", "did you mean 'ResNet18_Weights.LANDSAT_TM"),
            ("decur-rn50-s3", "did you mean"),
        ):
            with pytest.raises(UsageError, match=said) as caught:
                pull(name, tmp_path / "ours")
            assert "\n" not in str(caught.value)
        assert not server.requests


def test_what_would_be_lost_or_passed_over_is_refused(place, tmp_path: Path, capsys) -> None:
    made = tmp_path / "made.pth"
    words = ["models", "pull", NAME, "--to", str(tmp_path), "--from", str(made), "--overwrite"]
    assert main(words) == 2
    assert "which it is made of" in capsys.readouterr().err
    assert made.is_file()
    with pytest.raises(UsageError, match="location encoder, with no use for heads; leave it out"):
        pull("satclip-r18-l10", tmp_path / "places", heads=3, licence="MIT")
    taken = pull(NAME, tmp_path / "new" / "w.pth", file=made, raw=True)
    assert taken.path.read_bytes() == made.read_bytes()
    assert only(tmp_path / "new", "w.pth")


def test_a_folder_of_yours_is_told_before_the_download(place: Place, tmp_path: Path) -> None:
    """Defect: all of the file came, and then the folder was refused."""
    (tmp_path / "yours").mkdir()
    (tmp_path / "yours" / "thesis.tex").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "yours")
    for name, words in (("yours", r"is there and holds no card\.json"), ("link", "is a link")):
        with place.serve() as server, pytest.raises(FMError, match=words):
            pull(NAME, tmp_path / name, overwrite=True)
        assert not server.requests
    with pytest.raises(FMError, match=r"holds no location\.json"):
        pull("satclip-r18-l10", tmp_path / "yours", overwrite=True)
    with pytest.raises(FMError, match="yours exists already; name another with --to, or give --ov"):
        pull(NAME, tmp_path / "yours")


def test_a_file_that_came_whole_is_not_fetched_twice(place: Place, tmp_path: Path) -> None:
    place.entry(numbers={"stages": [9]})
    with place.serve() as server:
        with pytest.raises(FMError, match="stages is"):
            pull(NAME, tmp_path / "ours")
        sent = server.bytes_sent
        place.entry(numbers={}, sha256=place.sha256)
        pull(NAME, tmp_path / "ours")
        assert server.bytes_sent == sent
    assert only(tmp_path, "ours")


def test_location_encoders_come_from_hub_and_wheel(place, tmp_path: Path, monkeypatch) -> None:
    torch.save(lightning(10, width=16, dim=8), tmp_path / "made.pth")
    sha256 = put(place.root, (tmp_path / "made.pth").read_bytes())
    place.entry("satclip-r18-l10", sha256=sha256)
    place.entry("satclip-r18-l40", sha256=sha256)
    with place.serve():
        done = pull("satclip-r18-l10", tmp_path / "places")
        with pytest.raises(FMError, match="L is 10, of satclip-r18-l40 it is 40"):
            pull("satclip-r18-l40", tmp_path / "other")
    encoder = location.load(tmp_path / "places")
    where = torch.tensor([[13.4, 52.5]], dtype=torch.float64)
    assert torch.equal(encoder(where), location.satclip(tmp_path / "made.pth")(where))
    told = json.loads((tmp_path / "places" / "location.json").read_text())
    assert (told["licence"], told["parent"]) == ("MIT", done.parent)

    state = state_of("geoclip")
    inside = tmp_path / "w.pth"
    torch.save(state, inside)
    wheel = tmp_path / "geoclip-1.3.0-py3-none-any.whl"
    item = catalogue.known("geoclip")
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(inside, item.member)
    digest = hashlib.sha256(inside.read_bytes()).hexdigest()
    with pytest.raises(UsageError, match=r"pip download --no-deps geoclip==1\.3\.0"):
        pull("geoclip", tmp_path / "geo")
    with pytest.raises(FMError, match="refused: SHA-256"):
        pull("geoclip", tmp_path / "geo", file=wheel)
    assert not (tmp_path / ".geo.pull").exists()  # the wheel is at hand
    monkeypatch.setitem(catalogue.catalogue(), "geoclip", replace(item, sha256=digest))
    pull("geoclip", tmp_path / "geo", file=wheel)
    assert torch.equal(location.load(tmp_path / "geo")(where), location.geoclip(inside)(where))


def test_addresses(monkeypatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example/hf/")
    assert HubFile("a/b", "c d.pth", OLD).url() == (
        f"https://mirror.example/hf/a/b/resolve/{OLD}/c%20d.pth"
    )
    with pytest.raises(UsageError, match="is no commit"):
        HubFile("a/b", "c.pth", "main").url()
    monkeypatch.setenv("HF_ENDPOINT", "mirror")
    with pytest.raises(UsageError, match="not an address"):
        HubFile("a/b", "c.pth", OLD).url()


def test_a_file_is_not_put_in_the_place_of_a_folder(place: Place, tmp_path: Path) -> None:
    """Defect: what was copied stayed beside the folder as `.NAME.part`."""
    (tmp_path / "mine").mkdir()
    made = tmp_path / "made.pth"
    with pytest.raises(UsageError, match="is a folder; name a file by --file"):
        pull(NAME, tmp_path / "mine", file=made, raw=True, overwrite=True)
    assert only(tmp_path, "mine")
