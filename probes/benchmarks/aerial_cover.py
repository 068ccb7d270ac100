"""Land cover a pixel in aerial pictures: LoveDA and LandCover.ai.

LoveDA (Wang et al., arXiv 2110.08733): 1024 px of 0.3 m in urban and rural Wuhan, Changzhou and
Nanjing. The labels of its test list are on a server only, so its validation list is the test here
and validation is drawn from train.

LandCover.ai (Boguszewski et al., arXiv 2005.02264): chips of 512 px cut from 41 orthophotos of
Poland. The published lists put chips of one orthophoto into train, val and test;
`landcoverai` keeps orthophotos whole, `landcoverai-original` has the published lists.
"""

from functools import partial
from pathlib import Path

from fm.errors import FMError
from probes.benchmarks import signatures
from probes.benchmarks.declare import Array, Declaration, Holdout, Listing
from probes.benchmarks.files import Files, MaskFiles, all_there, names_in, numbers, read_lines

LOVEDA = ("background", "building", "road", "water", "barren", "forest", "agriculture")
LANDCOVER = ("background", "building", "woodland", "water", "road")
SCENES = ("Urban", "Rural")


def scan_loveda(folder: Path, scenes: tuple[str, ...]) -> Listing:
    """List the pictures of `Train` and `Val`."""
    homes: list[Path] = []
    split: list[str] = []
    for home, part in (("Train", "train"), ("Val", "test")):
        for scene in scenes:
            root = folder / home / scene
            names = names_in(root / "images_png", ".png")
            if not names:
                raise FMError(f"{root}/images_png: no picture in it; the download is incomplete")
            all_there(root / "masks_png", names, set(names_in(root / "masks_png", ".png")))
            homes += [root / "images_png" / name for name in names]
            split += [part] * len(names)
    table = {0: -1} | {stored: stored - 1 for stored in range(1, 8)}
    return Listing(
        ids=[f"{h.parents[2].name}/{h.parents[1].name}/{h.name}" for h in homes],
        split=split,
        source=Files(lambda i, array, date: homes[i]),
        mask=MaskFiles(lambda i: homes[i].parents[1] / "masks_png" / homes[i].name, numbers(table)),
    )


def scan_landcover(folder: Path) -> Listing:
    """List the chips of `train.txt`, `val.txt` and `test.txt`."""
    ids: list[str] = []
    split: list[str] = []
    for part in ("train", "val", "test"):
        lines = read_lines(folder / f"{part}.txt")
        ids += lines
        split += [part] * len(lines)
    root = folder / "output"
    there = {*names_in(root, ".jpg"), *names_in(root, ".png")}
    all_there(root, [name for i in ids for name in (f"{i}.jpg", f"{i}_m.png")], there)
    return Listing(
        ids=ids,
        split=split,
        source=Files(lambda i, array, date: root / f"{ids[i]}.jpg"),
        mask=MaskFiles(lambda i: root / f"{ids[i]}_m.png", numbers({n: n for n in range(5)})),
        groups=[name.rpartition("_")[0] for name in ids],
    )


def _loveda(name: str, help: str, scenes: tuple[str, ...], counts: dict[str, int]) -> Declaration:
    return Declaration(
        name=name,
        version=1,
        help=help,
        task="segmentation",
        primary="miou",
        classes=LOVEDA,
        arrays=(Array("rgb_0", "rgb", ("R", "G", "B"), "uint8", (1024, 1024), 0.3),),
        scan=partial(scan_loveda, scenes=scenes),
        published=counts,
        split="test is the published val list (the published test has no labels); val from train",
        layout="{Train,Val}/{Urban,Rural}/{images_png,masks_png}/N.png",
        paper="Wang et al., arXiv 2110.08733",
        witness="LoveDA",
        leaks="val is drawn from train picture by picture; neighbours are not told",
        holdout=Holdout("train", {"val": 0.2, "train": 0.8}, by="sample"),
        crop=512,
        checks=(signatures.eight_bits,),
    )


def _landcover(
    name: str, help: str, split: str, leaks: str, holdout: Holdout | None
) -> Declaration:
    return Declaration(
        name=name,
        version=1,
        help=help,
        task="segmentation",
        primary="miou",
        classes=LANDCOVER,
        arrays=(Array("rgb_0", "rgb", ("R", "G", "B"), "uint8", (512, 512), 0.25),),
        scan=scan_landcover,
        published={"train": 7470, "val": 1602, "test": 1602},
        split=split,
        layout="output/ORTHOPHOTO_N.jpg, output/ORTHOPHOTO_N_m.png and {train,val,test}.txt",
        paper="Boguszewski et al., arXiv 2005.02264",
        witness="LandCoverAI",
        leaks=leaks,
        holdout=holdout,
        unit="scene",
        checks=(signatures.eight_bits,),
    )


MIXED = "eight of 41 orthophotos have pixels of 0.5 m, the rest 0.25 m, which is given for all"
DECLARATIONS = (
    _loveda(
        "loveda", "7 land covers, 0.3 m, windows of 512 px", SCENES, {"train": 2522, "test": 1669}
    ),
    _loveda("loveda-urban", "LoveDA's urban pictures", ("Urban",), {}),
    _loveda("loveda-rural", "LoveDA's rural pictures", ("Rural",), {}),
    _landcover(
        "landcoverai",
        "5 land covers, 0.25 m, 512 px, orthophotos kept whole",
        "whole orthophotos in train, val and test",
        MIXED,
        Holdout("all", {"test": 0.2, "val": 0.15, "train": 0.65}),
    ),
    _landcover(
        "landcoverai-original",
        "5 land covers, 0.25 m, 512 px, the published lists",
        "the published lists",
        f"chips of one orthophoto are in train, val and test, so scores are high; {MIXED}",
        None,
    ),
)
