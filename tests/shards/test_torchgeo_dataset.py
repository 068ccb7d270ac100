"""torchgeo's samples are floats: what they were is declared and checked, never guessed."""

import pickle
from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch

from fm import sensors
from fm.errors import FMError, UsageError
from fm.torchvision_guard import install
from shards.sources import torchgeo_dataset
from shards.sources.base import Content

install()  # before torchvision is imported
from torchgeo import datasets  # noqa: E402

FILE_ORDER = (
    *("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08"),
    *("B09", "B10", "B11", "B12", "B8A"),
)


class Toy(datasets.NonGeoDataset):
    """Three images of two bands whose numbers tell index and band."""

    classes = ("wet", "dry", "urban")
    split = "train"

    def __init__(self, root: Path, flavour: str = "class", factor: float = 1.0) -> None:
        if not Path(root).is_dir():
            raise datasets.DatasetNotFoundError(self)
        self.root, self.flavour, self.factor = root, flavour, factor
        if flavour == "none":
            self.classes = None

    def __len__(self) -> int:
        return 0 if self.flavour == "empty" else 3

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        image = torch.arange(2.0)[:, None, None] * 1000 + index * 10 + torch.ones(2, 4, 4)
        sample = {"image": image * self.factor, "elevation": image[:1] - 5}
        if self.flavour == "class":
            sample["label"] = torch.tensor(index)
        elif self.flavour == "multilabel":
            sample["label"] = torch.tensor([1, 0, index % 2])
        elif self.flavour == "regression":
            sample["label"] = torch.tensor(index + 0.5)
        elif self.flavour == "mask":
            sample["mask"] = torch.full((1, 4, 4), index)
        return sample


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "Toy", Toy, raising=False)
    torchgeo_dataset._dataset.cache_clear()


def read(spec: str, root: Path, *words: str) -> Content:
    parser = ArgumentParser()
    torchgeo_dataset.configure(parser)
    return torchgeo_dataset.read(parser.parse_args(["--spec", spec, "--root", str(root), *words]))


RADAR = ("--sensor", "landsat8-oli-l1", "--bands", "B2,B3", "--nodata", "0")


def test_a_declared_dataset_is_stored_as_it_was(tmp_path: Path) -> None:
    content = read("Toy", tmp_path, *RADAR, "--stored", "uint16", "--licence", "CC0-1.0")
    make = pickle.loads(pickle.dumps(content.make))  # as a worker process gets it
    samples = [make(task) for task in content.tasks]
    assert [sample.key for sample in samples] == [f"toy_train_{i:07d}" for i in range(3)]
    for index, sample in enumerate(samples):
        pixels = sample.arrays["image"]
        assert pixels.dtype == np.uint16
        assert pixels[:, 0, 0].tolist() == [index * 10 + 1, index * 10 + 1001]
        assert (sample.labels, sample.split) == ({"label": index}, "train")
    declared = content.modalities["image"]
    assert (declared.sensor, declared.bands) == ("landsat8-oli-l1", ("B2", "B3"))
    assert content.labels["label"].classes == ("wet", "dry", "urban")
    assert content.licence == "CC0-1.0"


@pytest.mark.parametrize(
    ("spec", "words", "message"),
    [
        ("Toy", RADAR, "image: torchgeo gives float32; say with --stored what the files hold"),
        ("Toy", ("--stored", "uint16"), "say what took the pixels: --sensor NAME or --sensor-file"),
        ("Toy", (*RADAR[:3], "B2,B3,B4", *RADAR[4:], "--stored", "uint16"), "3 bands are named"),
        ("Toy?flavour=multilabel", (*RADAR, "--stored", "uint16"), "say with --label what it is"),
        ("Toy?flavour=none", (*RADAR, "--stored", "uint16", "--label", "class"), "no label in"),
        ("Toy?flavour=empty", (*RADAR, "--stored", "uint16"), "holds no samples"),
        ("Toy?flavor=mask", RADAR, "Toy takes no 'flavor'; did you mean 'flavour'"),
        ("EuroSAT?split=trian", RADAR, "EuroSAT(split='trian') could not be opened in"),
        ("EuroSAT?split=trian", RADAR, "AssertionError at: assert self.split in"),
        ("Toys", RADAR, "torchgeo has no dataset 'Toys'"),
        ("NAIP", RADAR, "is cut by coordinates; read its files with `rasters`"),
        ("Toy?root=here", RADAR, "root is the option --root"),
        ("Toy?transforms=x", RADAR, "transforms is not taken"),
        ("Toy?flavour", RADAR, "write NAME?argument=value"),
        ("Toy", (*RADAR, "--stored", "float64"), "did you mean 'float32'"),
        ("Toy", (*RADAR, "--modality", "image=picture"), "no 'picture' in a sample"),
    ],
)
def test_what_is_not_said_stops(
    tmp_path: Path, spec: str, words: tuple[str, ...], message: str
) -> None:
    with pytest.raises(FMError) as caught:
        read(spec, tmp_path, *words)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrong_word_on_the_files_is_noticed(tmp_path: Path) -> None:
    content = read("Toy?factor=0.5", tmp_path, *RADAR, "--stored", "uint16")
    with pytest.raises(FMError, match="not whole numbers"):
        list(content.samples())
    torchgeo_dataset._dataset.cache_clear()
    content = read("Toy?factor=100", tmp_path, *RADAR, "--stored", "uint16")
    with pytest.raises(FMError, match="does not fit into uint16"):
        list(content.samples())
    # a reflectance of a thousand is no physical value
    physical = ("--sensor", "sentinel2-l1c", "--bands", "B02,B03", "--stored", "float32")
    with pytest.raises(FMError, match="look scaled"):
        list(read("Toy?factor=10", tmp_path, *physical).samples())
    content = read("Toy?factor=0.0001", tmp_path, *physical)
    first = next(content.samples())
    assert first.arrays["image"][1, 0, 0] == pytest.approx(0.1001)
    with pytest.raises(FMError, match="is not there"):
        read("Toy", tmp_path / "absent", *RADAR, "--stored", "uint16")


def test_other_labels_and_other_images(tmp_path: Path) -> None:
    (tmp_path / "dem.yaml").write_text(
        "name: dem\nbands: [{name: height, gsd_m: 30, unit: m}]\nnodata: none\nscale: 1\noffset: 0"
    )
    two = (
        *("--modality", "l8=image", "--modality", "dem=elevation"),
        *("--stored", "l8=uint16", "--stored", "dem=int16"),
        *("--sensor", "l8=landsat8-oli-l1", "--bands", "l8=B2,B3", "--nodata", "l8=0"),
        *("--sensor-file", f"dem={tmp_path}/dem.yaml"),
    )
    content = read("Toy?flavour=multilabel", tmp_path, *two, "--label", "multilabel")
    samples = list(content.samples())
    assert [sample.labels["label"] for sample in samples] == [[0], [0, 2], [0]]
    assert samples[0].arrays["dem"].tolist() == [[[-4] * 4] * 4]
    assert samples[0].arrays["dem"].dtype == np.int16
    content = read("Toy?flavour=regression", tmp_path, *two, "--label", "regression")
    assert [sample.labels["label"] for sample in content.samples()] == [0.5, 1.5, 2.5]
    content = read("Toy?flavour=mask", tmp_path, *two, "--ignore", "2")
    masks = [sample.arrays["mask_pixels"] for sample in content.samples()]
    assert [mask.shape for mask in masks] == [(4, 4)] * 3
    assert [int(mask[0, 0]) for mask in masks] == [0, 1, 2]
    assert masks[0].dtype == np.uint8
    assert content.labels["mask"].ignore == 2


def eurosat(root: Path) -> None:
    """Files as the release has them: 13 uint16 bands, B8A last; each number tells its band."""
    base = root / datasets.EuroSAT.base_dir
    names = []
    for place, kind in enumerate(("AnnualCrop", "SeaLake")):
        (base / kind).mkdir(parents=True)
        path = base / kind / f"{kind}_{place + 1}.tif"
        names.append(f"{kind}_{place + 1}.jpg")
        values = np.array([int(name[1:].replace("8A", "85")) for name in FILE_ORDER])
        pixels = (values[:, None, None] * 10 + place + np.zeros((13, 64, 64))).astype(np.uint16)
        with rasterio.open(path, "w", "GTiff", 64, 64, 13, dtype="uint16") as raster:
            raster.write(pixels)
    (root / "eurosat-train.txt").write_text("\n".join(names))


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_eurosat_is_put_into_the_order_of_the_table(tmp_path: Path) -> None:
    eurosat(tmp_path)
    content = read("EuroSAT?split=train", tmp_path)
    declared = content.modalities["s2l1c"]
    table = tuple(band.name for band in sensors.sensor("sentinel2-l1c").bands)
    assert declared.bands == table
    assert (declared.gsd_m, declared.sensor) == (10.0, "sentinel2-l1c")
    assert declared.nodata[table.index("B10")] is None
    assert declared.nodata[table.index("B8A")] == 0
    first, second = content.samples()
    assert (first.key, second.key) == ("AnnualCrop_1", "SeaLake_2")
    for sample, place in ((first, 0), (second, 1)):
        pixels = sample.arrays["s2l1c"]
        assert (pixels.shape, pixels.dtype) == ((13, 64, 64), np.dtype(np.uint16))
        expected = [int(name[1:].replace("8A", "85")) * 10 + place for name in table]
        assert pixels[:, 5, 5].tolist() == expected
    assert (first.split, first.labels) == ("train", {"label": 0})
    assert content.labels["label"].classes == ("AnnualCrop", "SeaLake")
    with pytest.raises(UsageError, match="are known"):
        read("EuroSAT?split=train", tmp_path, "--nodata", "0")


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_eurosat_bands_may_be_chosen(tmp_path: Path) -> None:
    eurosat(tmp_path)
    content = read('EuroSAT?split=train&bands=["B8A","B04"]', tmp_path)
    assert content.modalities["s2l1c"].bands == ("B04", "B8A")
    pixels = next(content.samples()).arrays["s2l1c"]
    assert pixels[:, 0, 0].tolist() == [40, 850]
