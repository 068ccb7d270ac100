"""Masked autoencoding of series: masks, targets and codes over time, and a run from a dataset."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import shards
from fm.errors import UsageError
from fm.models.series import time_code
from fm.rng import CounterRng
from pretrain import masking
from pretrain.augment import dihedral
from pretrain.build import build
from pretrain.data import open_data
from pretrain.engine.batches import MicroBatch
from pretrain.objectives.mae import MAE
from pretrain.objectives.masked import MAEConfig
from pretrain.objectives.multiscale import MultiScaleConfig, MultiScaleMAE
from pretrain.plan.dryrun import describe
from pretrain.trainer import load_config, run
from tests.pretrain.batches import backbone, s2_batch

IMAGES = 3
DECODER = {"width": 48, "depth": 1, "heads": 4}


def series(count: int = 4, start: int = 0) -> MicroBatch:
    parts = [s2_batch(count, seed, start) for seed in range(IMAGES)]
    names = parts[0].pixels
    pixels = {m: torch.stack([part.pixels[m] for part in parts], dim=1) for m in names}
    months = torch.arange(start, start + count)[:, None] + 5 * torch.arange(IMAGES)
    return replace(parts[0], pixels=pixels, times=1.4e9 + 2.6e6 * months.double())


def objective(decoder: dict[str, object] | None = None, **options: object) -> MAE:
    made = backbone(time_code_width=24)
    given = {"decoder": {**DECODER, **(decoder or {})}, **options}
    return MAE(made, MAEConfig.model_validate(given))


def test_targets_are_the_pixels_of_their_own_image() -> None:
    made, batch = objective(target="pixel"), series()
    inputs = made.inputs(batch)
    masks = made.masks(inputs.pixels, batch.rng, 1.0, inputs.images)
    target, _ = made.targets(inputs, masks, "s2l1c")
    rows, columns = made.backbone.grids(batch.pixels)["s2l1c"]
    rows //= IMAGES
    index = masks.predict["s2l1c"]
    assert set((index // (rows * columns)).flatten().tolist()) == {0, 1, 2}
    for name, x in batch.pixels.items():
        side = x.shape[-1] // columns
        for sample, slot in ((0, 0), (1, 3), (3, index.shape[1] - 1)):
            image, place = divmod(int(index[sample, slot]), rows * columns)
            row, column = divmod(place, columns)
            own = x[sample, image][
                :, row * side : (row + 1) * side, column * side : (column + 1) * side
            ]
            want = (own.to(torch.float32) * 1e-4 - 0.2) / 0.1
            assert torch.allclose(target[name][sample, slot], want, atol=1e-5)


def test_consistent_masks_hide_the_same_places_of_all_images() -> None:
    rng = CounterRng(7, torch.zeros(5, dtype=torch.int64), torch.arange(5))
    grids = {"a": (IMAGES * 4, 5), "b": (IMAGES * 4, 5), "c": (IMAGES * 2, 2)}
    masks = masking.draw(grids, rng, "consistent", 0.75, 0.5, images=IMAGES)
    single = masking.draw({"a": (4, 5)}, rng, "consistent", 0.75, 0.5)
    number = masking.counts(grids, "consistent", 0.75, 0.5, images=IMAGES)
    for part, alone in ((masks.keep, single.keep), (masks.predict, single.predict)):
        assert torch.equal(part["a"], part["b"])
        by_image = part["a"].reshape(5, IMAGES, -1)
        for image in range(IMAGES):
            assert torch.equal(by_image[:, image] - 20 * image, alone["a"])
    assert {name: x.shape[1] for name, x in masks.predict.items()} == number
    free = masking.draw(grids, rng, "group", 0.75, 1.0, images=IMAGES).keep["a"]
    assert len({len({i for i in row if i < 20}) for row in free.tolist()}) > 1


@pytest.mark.parametrize("mask", ["group", "consistent"])
def test_the_weight_is_known_and_losses_add_up_over_micro_batches(mask: str) -> None:
    made, batch = objective(mask=mask), series()
    batch.weight[3] = 0.5
    valid = {m: torch.rand(x.shape) > 0.3 for m, x in batch.pixels.items()}
    for x in valid.values():
        x[0, 1] = False  # an image without data
    for given in (batch, replace(batch, valid=valid)):
        whole = made(given, given.rng)
        assert whole.weight == made.weight(given)
        parts = [made(part, part.rng) for part in given.split(3)]
        assert sum(p.weight for p in parts) == whole.weight
        total = sum(p.loss_sum.item() for p in parts)
        assert total == pytest.approx(whole.loss_sum.item(), rel=1e-5)
    assert made.weight(replace(batch, valid=valid)) < made.weight(batch)


def test_what_is_invalid_is_neither_seen_nor_a_target() -> None:
    made, batch = objective(), series()
    valid = {m: torch.rand(x.shape) > 0.3 for m, x in batch.pixels.items()}
    spoiled = {
        m: torch.where(valid[m], x.to(torch.int32), 60000).to(x.dtype)
        for m, x in batch.pixels.items()
    }
    told = replace(batch, valid=valid)
    loss = made(told, told.rng).loss_sum
    assert torch.equal(made(replace(told, pixels=spoiled), told.rng).loss_sum, loss)
    assert not torch.allclose(made(batch, batch.rng).loss_sum, loss)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["joint", "cross"])
def test_images_in_another_order_are_predicted_alike(kind: str) -> None:
    made, batch = objective({"kind": kind}), series()
    inputs = made.inputs(batch)
    masks = made.masks(inputs.pixels, batch.rng, 1.0, inputs.images)
    first = made._predict(inputs, masks)["s2l1c"]
    order = torch.tensor([2, 0, 1])
    pixels = {m: x[:, order] for m, x in batch.pixels.items()}
    moved = made.inputs(replace(batch, pixels=pixels, times=batch.times[:, order]))
    rows, columns = made.backbone.grids(batch.pixels)["s2l1c"]
    one = rows * columns // IMAGES
    place = order.argsort()  # where each image went

    def follow(numbers: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: place[x // one] * one + x % one for name, x in numbers.items()}

    other = masking.TokenMasks(follow(masks.keep), follow(masks.predict))
    second = made._predict(moved, other)["s2l1c"]
    for name, x in first.items():
        assert torch.allclose(second[name], x, atol=1e-4)
    still = made._predict(made.inputs(replace(batch, pixels=pixels)), other)["s2l1c"]
    assert not torch.allclose(still["s2l1c_10"], first["s2l1c_10"], atol=1e-3)


def test_the_decoder_has_a_part_of_its_own_for_the_time() -> None:
    for given, share in ((None, 12), (24, 24)):
        made, batch = objective({"time_code_width": given}), series()
        inputs = made.inputs(batch)
        codes = made.backbone.position_codes(inputs, 48, None, given)["s2l1c"]
        count = codes.shape[1] // IMAGES
        for image in range(IMAGES):
            own = codes[:, image * count : (image + 1) * count]
            want = time_code(share, batch.times[:, image])[:, None].expand(-1, count, -1)
            assert torch.equal(own[..., -share:], want)
            assert torch.equal(own[..., :-share], codes[:, :count, :-share])
        assert not made.backbone.prefix_code(torch.device("cpu"), 48, None, given).any()
    for options, problem in (
        ({"time_code_width": 48}, "leaves no channels for the place"),
        ({"width": 12, "heads": 3}, "leaves no channels for the place"),
        ({"predict": 0.3, "where": "window"}, "where=window is of single images"),
    ):
        with pytest.raises(UsageError, match=problem):
            objective(options)
    with pytest.raises(UsageError, match=r"needs model\.options\.time_code_width"):
        MAE(backbone(), MAEConfig.model_validate({"decoder": {"time_code_width": 12}}))
    with pytest.raises(UsageError, match="makes images of one time"):
        MultiScaleMAE(backbone(time_code_width=24), MultiScaleConfig())


def test_the_images_of_a_sample_turn_together() -> None:
    batch = series(16)
    turned = dihedral(batch.pixels, batch.rng)
    for image in range(IMAGES):
        alone = dihedral({m: x[:, image] for m, x in batch.pixels.items()}, batch.rng)
        for name, x in alone.items():
            assert torch.equal(turned[name][:, image].to(torch.int32), x.to(torch.int32))


def test_pictures_show_the_images_one_below_the_other() -> None:
    made, batch = objective(target="pixel"), series(2)
    for sample, panels in enumerate(made.panels(batch, batch.rng)):
        for panel in panels:
            stored = batch.pixels[panel.modality][sample].to(torch.float32)
            want = ((stored * 1e-4 - 0.2) / 0.1).movedim(0, 1).flatten(1, 2).numpy()
            assert np.allclose(panel.image, want, atol=1e-5)
            assert panel.shown.shape == want.shape[1:]


def write(folder: Path, *, dated: bool = True) -> Path:
    rng = np.random.default_rng(0)

    def samples():
        for i in range(12):
            array = rng.integers(1, 9000, (IMAGES, 4, 24, 24)).astype(np.uint16)
            times = [f"2021-{1 + (i + 4 * t) % 12:02d}-15T10:30:00Z" for t in range(IMAGES)]
            known = {"times": times} if dated else {}
            yield shards.Sample(f"s{i:02d}", {"s2l1c_10": array}, **known)

    shards.write_dataset(
        folder,
        samples(),
        name="series",
        modalities={"s2l1c_10": shards.Declared("sentinel2-l1c", ("B02", "B03", "B04", "B08"))},
        labels={},
        provenance={"source": __file__.rpartition("/")[2]},
        licence="CC0-1.0",
    )
    return folder


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("series") / "d")


def test_series_without_times_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "d", dated=False)
    with pytest.raises(UsageError, match="without the images' times"):
        describe(load_config("satmae_temporal_tiny", [*WORDS, f"data.path={folder}"]))


def test_the_images_of_a_sample_are_cropped_alike(dataset: Path) -> None:
    ds = shards.open(dataset)
    whole = {ds[i].key: ds[i].arrays["s2l1c_10"] for i in range(len(ds))}
    batch = next(iter(ds.loader(batch_size=6, crop=8, random_crop=True)))
    places = set()
    for key, given in zip(batch.keys, batch.pixels["s2l1c_10"].numpy(), strict=True):
        windows = np.lib.stride_tricks.sliding_window_view(whole[key], (8, 8), axis=(-2, -1))
        at = np.argwhere((windows == given[:, :, None, None]).all(axis=(0, 1, -2, -1)))
        assert len(at) == 1
        places.add(tuple(at[0]))
    assert len(places) > 1


WORDS = [
    "data.modalities=[s2l1c_10]",
    "data.bands={s2l1c_10: [B02, B03, B04, B08]}",
    "data.crop=16",
    "data.batch_size=4",
    "schedule.steps=3",
    "schedule.warmup=1",
]


def test_a_run_on_series(dataset: Path, tmp_path: Path) -> None:
    words = [*WORDS, f"data.path={dataset}", f"out={tmp_path / 'run'}"]
    config = load_config("satmae_temporal_tiny", words)
    found = describe(config)["parts"][""]
    assert found["shapes"] == {"s2l1c_10": [3, 4, 16, 16]}
    assert found["grids"] == {"s2l1c": [6, 2]}
    blind = describe(load_config("satmae_temporal_tiny", [*WORDS, "data.path=/nowhere"]))
    assert {k: v for k, v in blind["parts"][""].items() if k != "samples"} == {
        k: v for k, v in found.items() if k != "samples"
    }
    data = open_data(config)
    batch = MicroBatch.of(data.first("", 4), series().rng)
    assert batch.times is not None
    assert batch.select(slice(1, 3)).times.tolist() == batch.times[1:3].tolist()
    assert build(config, data.layout)(batch, batch.rng).loss_sum > 0
    run(config)
    assert (tmp_path / "run" / "export" / "model.safetensors").exists()
    single = ["model.options.time_code_width=null", "objective.decoder.time_code_width=null"]
    with pytest.raises(UsageError, match="series of 3 images, the model takes single ones"):
        describe(load_config("satmae_temporal_tiny", [*words, *single]))
    for images, told in (("2", "series of 3"), ("1", "series of 3")):
        other = load_config("satmae_temporal_tiny", [*words, f"data.images={images}"])
        with pytest.raises(UsageError, match=rf"data\.images={images}: .*{told}"):
            describe(other)
