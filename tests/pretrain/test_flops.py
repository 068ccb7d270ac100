"""Counted operations against the formula, by hand."""

from dataclasses import replace

import pytest
import torch

from pretrain.data import declared
from pretrain.plan.flops import flops_by_part, flops_of, meta_batch
from pretrain.trainer import load_config
from tests.pretrain.batches import mae, s2_batch


def products(*shapes: tuple[int, int, int]) -> int:
    return sum(2 * m * n * k for m, n, k in shapes)


def block(tokens: int, width: int) -> int:
    """Operations of a transformer block: QKV, scores, values, output and the MLP of 4 widths."""
    scores = (tokens, tokens, width)  # over all heads together
    linear = [(tokens, width, 3 * width), (tokens, width, width), (tokens, width, 8 * width)]
    return products(*linear, scores, scores)


def test_a_mae_step_is_its_products_forward_and_twice_that_back() -> None:
    with torch.device("meta"):
        objective = mae(decoder={"kind": "joint", "width": 32, "depth": 2, "heads": 2})
    shapes = {name: tuple(x.shape[1:]) for name, x in s2_batch(1).pixels.items()}
    batch = meta_batch(shapes, dict.fromkeys(shapes, (1e-4, 0.0)), 0, 2)
    found = flops_of(objective, batch)
    width, values = objective.backbone.width, 4 * 12**2 + 6 * 6**2 + 3 * 2**2
    kept, hidden, all_of = 4, 12, 16  # of 4 x 4 tokens of 120 m
    embed = products((kept, values, width))
    encoder = block(kept + 1, width)
    decoder = products((kept + 1, width, 32)) + 2 * block(all_of + 1, 32)
    heads = products((hidden, 32, values))
    assert found.forward == embed + encoder + decoder + heads
    # two products of the same size each, but none for the pixels, which need no gradient
    assert found.backward == 2 * found.forward - embed
    assert found.total == found.forward + found.backward


def test_a_share_of_the_batch_is_the_same_whatever_its_size() -> None:
    with torch.device("meta"):
        objective = mae()
    shapes = {name: tuple(x.shape[1:]) for name, x in s2_batch(1).pixels.items()}
    scaling = dict.fromkeys(shapes, (1e-4, 0.0))
    one, five = (flops_of(objective, meta_batch(shapes, scaling, 0, n)) for n in (1, 5))
    assert one.total == five.total


def test_parts_of_a_recipe_are_counted_without_touching_the_generator() -> None:
    config = load_config("mae_multisensor_tiny")
    torch.manual_seed(3)
    before = torch.get_rng_state()
    found = flops_by_part(config, declared(config.data))
    assert torch.equal(torch.get_rng_state(), before)
    assert set(found) == set(config.data.parts or ())
    assert all(one.forward > 0 and one.backward > 0 for one in found.values())


@pytest.mark.slow
def test_bands_that_a_step_draws_are_averaged() -> None:
    config = load_config("less_tiny", ["model.options.depth=1", "objective.decoder.depth=1"])
    layout = declared(config.data)
    whole = config.objective.model_copy(update={"channel_sampling": None})
    drawn = flops_by_part(config, layout)[""].total
    assert (
        0 < drawn < flops_by_part(config.model_copy(update={"objective": whole}), layout)[""].total
    )


def test_no_time_or_values_are_needed() -> None:
    with torch.device("meta"):
        objective = mae()
    shapes = {name: tuple(x.shape[1:]) for name, x in s2_batch(1).pixels.items()}
    batch = meta_batch(shapes, dict.fromkeys(shapes, (1e-4, 0.0)), 0, 2)
    assert flops_of(objective, batch) == flops_of(objective, replace(batch, step=5))
