"""Masked autoencoding under a spectral basis: components as targets, seen tokens, views."""

import numpy as np
import pytest
import torch

from fm.errors import UsageError
from fm.models import create_model
from fm.models.embed import Moments
from fm.models.embed.spectral_views import bank_of
from fm.normalize import Normalisation
from fm.rng import CounterRng
from fm.sensors import sensor
from pretrain.engine.batches import MicroBatch
from pretrain.objectives.mae import MAE
from pretrain.objectives.masked import MAEConfig
from pretrain.objectives.targets import token_loss
from tests.pretrain.batches import mae

NAME = "aviris_20"
BANDS = sensor("aviris-indian-pines").bands[::10]


def objective(**config: object) -> MAE:
    torch.manual_seed(0)
    count = len(BANDS)
    spread = Normalisation.fit("zscore", {"mean": [0.0] * count, "std": [1.0] * count})
    model = create_model(
        "vit_nano",
        bands={NAME: BANDS},
        normalisation={NAME: spread},
        token_m=60,
        depth=1,
        basis={"aviris": {"components": 12}},
    )
    z = np.random.default_rng(0).normal(size=(500, count)).cumsum(axis=1) / 3
    for _, basis in model.bases():
        basis.fit(Moments.of(z))
    settings = {"target": "pixel", "decoder": {"width": 32, "depth": 1, "heads": 2}, **config}
    return MAE(model, MAEConfig.model_validate(settings))


def batch(count: int = 6) -> MicroBatch:
    generator = torch.Generator().manual_seed(1)
    pixels = {NAME: torch.randn(count, len(BANDS), 9, 9, generator=generator).cumsum(dim=1) / 3}
    rng = CounterRng(3, torch.zeros(count, dtype=torch.int64), torch.arange(count))
    return MicroBatch(pixels, torch.ones(count), {NAME: (1.0, 0.0)}, rng)


def test_targets_are_components() -> None:
    made = objective()
    given = batch()
    inputs = made.inputs(given)
    masks = made.masks(inputs.pixels, given.rng, 1.0)
    target, _ = made.targets(inputs, masks, "aviris")
    ((_, basis),) = made.backbone.bases()
    index = int(masks.predict["aviris"][0, 0])
    rows, columns = divmod(index, 3)
    pixel = given.pixels[NAME][0, :, 3 * rows + 1, 3 * columns + 2]
    want = basis.matrix @ pixel
    assert torch.allclose(target[NAME][0, 0, :, 1, 2], want, atol=1e-5)
    assert made.heads["aviris"][NAME].out_features == 12 * 9


@pytest.mark.parametrize("kind", ["joint", "cross"])
def test_seen_tokens_count_as_much_as_asked(kind: str) -> None:
    decoder = {"kind": kind, "width": 32, "depth": 1, "heads": 2}
    without, beside = objective(decoder=decoder), objective(decoder=decoder, visible=0.5)
    beside.load_state_dict(without.state_dict())
    given = batch()
    inputs = without.inputs(given)
    masks = without.masks(inputs.pixels, given.rng, 1.0)
    seen, _ = beside._decode(inputs, masks, everywhere=True)
    parts = beside._read(seen, inputs, masks.keep, None)["aviris"]
    truth = {NAME: without.backbone.embedding("aviris").patches(inputs, masks.keep["aviris"])[NAME]}
    mean = token_loss(parts, truth).mean(dim=1).sum()
    number = masks.predict["aviris"].shape[1]
    first, second = without(given, given.rng), beside(given, given.rng)
    assert second.weight == first.weight == len(given.weight) * number
    assert second.loss_sum.item() == pytest.approx(
        (first.loss_sum + 0.5 * number * mean).item(), rel=1e-5
    )


def test_views_change_what_is_seen_and_not_what_is_asked_for() -> None:
    made = objective(spectral_views=16)
    given = batch(64)
    inputs = made.inputs(given)
    shown = made.through_views(inputs, given.rng)
    views = shown.views[NAME]
    assert 8 < int((views < 0).sum()) < 26  # a quarter
    index = torch.zeros(64, 1, dtype=torch.int64)
    embedding = made.backbone.embedding("aviris")
    clean, seen = (embedding.patches(i, index)[NAME] for i in (inputs, shown))
    changed = (clean - seen).abs().flatten(1).amax(dim=1) > 1e-4
    assert torch.equal(changed, views >= 0)
    ((_, basis),) = made.backbone.bases()
    bank, offset = bank_of(basis, 16)
    row = int((views >= 0).nonzero()[0])
    pixel = given.pixels[NAME][row, :, 1, 1]
    want = bank[views[row]] @ pixel + offset[views[row]]
    assert torch.allclose(seen[row, 0, :, 1, 1], want, atol=1e-4)
    # the same samples see the same views whatever micro-batch they are in
    part = made.through_views(
        made.inputs(given.select(slice(9, 20))), given.rng.select(slice(9, 20))
    )
    assert torch.equal(part.views[NAME], views[9:20])


def test_it_learns_components() -> None:
    made = objective(visible=1.0, spectral_views=8)
    given = batch(16)
    optimizer = torch.optim.AdamW(made.parameters(), 3e-3)
    losses = []
    for _ in range(30):
        out = made(given, given.rng)
        loss = out.loss_sum / out.weight
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_views_need_a_basis() -> None:
    with pytest.raises(UsageError, match=r"needs model\.options\.basis"):
        mae(spectral_views=4)
