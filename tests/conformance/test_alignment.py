"""T1 and T2: each output is trained towards its own pixels, and the decoder knows what it predicts.

Nothing here knows how an objective masks. A value is *seen* when changing it changes what the
prediction heads are given; it is a *target* when changing it changes the loss of an encoder that
is blind (every parameter of its embedding is 0).
"""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fm.rng import CounterRng
from pretrain.engine.batches import MicroBatch
from pretrain.objective import Objective
from tests.conformance.objectives import MASKED, ObjectiveCase

SIDE = 4
"""Tokens along one side of a test image."""


@pytest.fixture(scope="module", params=MASKED, ids=str)
def case(request: pytest.FixtureRequest) -> ObjectiveCase:
    return MASKED[request.param]


def blind(objective: Objective, case: ObjectiveCase) -> Objective:
    """Make the encoding independent of the pixels."""
    with torch.no_grad():
        for parameter in case.backbone.embedding(objective.backbone).parameters():
            parameter.zero_()
    return objective


def some_bands(count: int) -> range | list[int]:
    """Take all channels of a multispectral image, five of a hyperspectral one."""
    return range(count) if count < 20 else [round(i * (count - 1) / 4) for i in range(5)]


def changed(batch: MicroBatch, modality: str, channel: int) -> MicroBatch:
    """Change one channel in every sample."""
    x = batch.pixels[modality].clone()
    shape = (*x.shape[1:-3], *x.shape[-2:])
    x[..., channel, :, :] += torch.rand(shape, generator=torch.Generator().manual_seed(9)) - 0.5
    return replace(batch, pixels={**batch.pixels, modality: x})


def token_by_token(batch: MicroBatch, modality: str, channel: int) -> MicroBatch:
    """Repeat a sample with the same masks; sample 1 + t has another channel in token t.

    Tokens of a series are numbered image after image.
    """
    images = 1 if batch.times is None else batch.times.shape[1]
    count = images * SIDE * SIDE
    same = torch.zeros(count + 1, dtype=torch.int64)
    pixels = {m: x[same] for m, x in batch.pixels.items()}
    new = changed(batch, modality, channel).pixels[modality][0]
    height, width = new.shape[-2] // SIDE, new.shape[-1] // SIDE
    for token in range(count):
        image, place = divmod(token, SIDE * SIDE)
        rows = slice(place // SIDE * height, (place // SIDE + 1) * height)
        columns = slice(place % SIDE * width, (place % SIDE + 1) * width)
        at = (
            (..., channel, rows, columns)
            if batch.times is None
            else (image, channel, rows, columns)
        )
        pixels[modality][1 + token][at] = new[at]
    times = None if batch.times is None else batch.times[same]
    return MicroBatch(pixels, torch.ones(count + 1), {}, CounterRng(7, same, same), times=times)


@torch.no_grad()
def given_to_heads(objective: Objective, case: ObjectiveCase, batch: MicroBatch) -> list[Tensor]:
    """Return the inputs of the prediction heads, in the order of the calls."""
    seen: list[Tensor] = []
    hooks = [
        head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
        for head in case.heads(objective).values()
    ]
    objective(batch, batch.rng)
    for hook in hooks:
        hook.remove()
    assert seen
    return seen


def sample_losses(objective: Objective, batch: MicroBatch) -> Tensor:
    """Return the loss of each sample, which the sum of losses is linear in the weight of."""
    batch.weight.requires_grad_()
    (found,) = torch.autograd.grad(objective(batch, batch.rng).loss_sum, batch.weight)
    return found


def test_t1_targets_are_what_the_encoder_did_not_see(case: ObjectiveCase) -> None:
    """T1. Defect: masks of one band group applied to another group's bands (SatMAE, SatMAE++)."""
    objective = case.build()
    batch = case.batch(objective, 1)
    wanted = [(m, c) for m, x in batch.pixels.items() for c in some_bands(x.shape[-3])]
    seen: dict[tuple[str, int], Tensor] = {}
    for cell in wanted:
        given = given_to_heads(objective, case, token_by_token(batch, *cell))
        moved = torch.stack([(x[1:] - x[:1]).abs().flatten(1).amax(dim=1) for x in given])
        # rounding, where sums run in another order, is below 1e-5; what is seen moves by .05
        seen[cell] = moved.amax(dim=0) > 1e-4
    blind(objective, case)
    for cell in wanted:
        losses = sample_losses(objective, token_by_token(batch, *cell))
        # the least of 500 changes of one token moves the loss by 2e-6, rounding by 1e-7
        target = ((losses[1:] - losses[0]) / losses[0]).abs() > 5e-7
        assert target.any()
        if case.hidden_only:
            assert not (seen[cell] & target).any(), cell
        if case.complete:
            assert (seen[cell] | target).all(), cell
    assert any(found.any() for found in seen.values())


@pytest.mark.parametrize("name", [n for n, c in MASKED.items() if not c.shared_heads])
def test_t1_an_output_is_trained_towards_one_band_of_its_own_head(name: str) -> None:
    """T1. Defect: outputs in group order against targets in band order (SatMAE, SatMAE++)."""
    case = MASKED[name]
    objective = blind(case.build(), case)
    batch = case.batch(objective, 2)
    heads = case.heads(objective)

    def pull(given: MicroBatch) -> dict[str, Tensor]:
        biases = {name: torch.as_tensor(head.bias) for name, head in heads.items()}
        loss = objective(given, given.rng).loss_sum
        return dict(zip(biases, torch.autograd.grad(loss, list(biases.values())), strict=True))

    base = pull(batch)
    taken: set[tuple[str, int]] = set()
    for modality, x in batch.pixels.items():
        bands = objective.backbone.bands[modality]
        for channel in some_bands(len(bands)):
            now = pull(changed(batch, modality, channel))
            moved = {
                (head, int(i))
                for head in heads
                for i in (now[head] != base[head]).nonzero()[:, 0]
            }  # fmt: skip
            assert moved, f"{bands[channel].name} is no target"
            for head, _ in moved:
                assert bands[channel] in case.bands_of_head(objective, head), (head, bands[channel])
            if case.pixel_targets:
                patch = x.shape[-1] // SIDE
                assert len(moved) == patch * patch
                assert not moved & taken
                taken |= moved
    if case.pixel_targets and all(x.shape[-3] < 20 for x in batch.pixels.values()):
        assert len(taken) == sum(len(value) for value in base.values())


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=[] if c.config["kind"] == "mae" else pytest.mark.slow)
        for n, c in MASKED.items()
        if c.pixel_targets
    ],
)
def test_t1_predictions_of_a_channel_ramp_find_their_channel(name: str) -> None:
    """T1. Defect: slot k is trained on, or shown as, another band (SatMAE, SatMAE++)."""
    case = MASKED[name]
    objective = case.build()
    batch = case.batch(objective, 2)
    for x in batch.pixels.values():
        x[:] = torch.linspace(0.1, 0.9, x.shape[-3])[:, None, None]
    optimizer = torch.optim.Adam(objective.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        out = objective(batch, batch.rng)
        (out.loss_sum / out.weight).backward()
        optimizer.step()
    panels = objective.eval().panels(batch, batch.rng)[0]
    assert panels
    for panel in panels:
        if panel.image.shape[0] > 20:
            continue
        made = panel.predicted[:, ~panel.shown].mean(axis=1)
        levels = panel.image[:, 0, 0]
        nearest = [int(abs(levels - value).argmin()) for value in made]
        assert nearest == list(range(len(levels)))


@torch.no_grad()
def test_t2_the_decoder_knows_what_it_predicts(case: ObjectiveCase) -> None:
    """T2. Defect: a decoder without position and wavelength codes (LESS ViT v2 with RoPE)."""
    objective = case.build().eval()
    batch = case.batch(objective, 1)
    for x in batch.pixels.values():
        x[:] = 0.5  # nothing but the codes tells one token from another
    for given in given_to_heads(objective, case, batch):
        rows = given[0].flatten(0, -2)
        rows = rows[rows.any(dim=1)]  # spare ones, of groups that share one budget of tokens
        distance = torch.cdist(rows, rows) + torch.eye(len(rows))
        assert distance.min() > 1e-4
