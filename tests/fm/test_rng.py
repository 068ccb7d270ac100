"""Counter-based randomness against a plain-integer reference and against its promises."""

import numpy as np
import torch

from fm.rng import CounterRng, mix, purpose_bits

MASK = (1 << 64) - 1


def reference_mix(x: int) -> int:
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def rng(count: int = 5, seed: int = 3) -> CounterRng:
    return CounterRng(seed, torch.zeros(count, dtype=torch.int64), torch.arange(count))


def test_mix_equals_unsigned_arithmetic() -> None:
    values = [0, 1, 2, 0x9E3779B97F4A7C15, MASK, 1 << 63, 123456789123456789]
    signed = torch.tensor(np.array(values, dtype=np.uint64).view(np.int64))
    ours = mix(signed).numpy().view(np.uint64)
    assert [int(v) for v in ours] == [reference_mix(v) for v in values]


def test_draw_equals_plain_integers() -> None:
    golden = 0x9E3779B97F4A7C15
    seed, epoch, position = 7, 2, 41
    state = (seed * golden + 1) & MASK
    for word in (purpose_bits("mask") & MASK, epoch, position):
        state = reference_mix(reference_mix(state) ^ (word * golden & MASK))
    expected = [reference_mix((state + (i + 1) * golden) & MASK) for i in range(4)]
    draw = CounterRng(seed, torch.tensor([epoch]), torch.tensor([position])).bits("mask", 4)
    assert [int(v) for v in draw[0].numpy().view(np.uint64)] == expected


def test_a_sample_draws_the_same_in_any_batch() -> None:
    whole = rng(8).permutation("mask", 64)
    part = CounterRng(3, torch.zeros(2, dtype=torch.int64), torch.tensor([5, 2]))
    assert torch.equal(part.permutation("mask", 64), whole[[5, 2]])
    assert torch.equal(rng(8).select(slice(3, 6)).permutation("mask", 64), whole[3:6])


def test_seed_epoch_position_and_purpose_all_matter() -> None:
    base = rng().bits("mask", 16)
    assert not torch.equal(base, rng(seed=4).bits("mask", 16))
    assert not torch.equal(base, rng().bits("flip", 16))
    moved = CounterRng(3, torch.ones(5, dtype=torch.int64), torch.arange(5)).bits("mask", 16)
    assert not (moved == base).any()
    assert len(torch.unique(base)) == base.numel()


def test_uniform_and_permutation_are_what_they_say() -> None:
    u = rng(200).uniform("u", 500)
    assert u.min() >= 0
    assert u.max() < 1
    # 100,000 draws: mean within 5 standard errors of 1/2, each tenth within 5 of 10,000
    assert abs(u.mean().item() - 0.5) < 5 * (1 / 12 / u.numel()) ** 0.5
    counts = torch.histc(u, bins=10, min=0, max=1)
    assert (counts - 10_000).abs().max() < 5 * (10_000 * 0.9) ** 0.5
    order = rng(50).permutation("p", 16)
    assert torch.equal(order.sort(dim=1).values, torch.arange(16).expand(50, 16))
    below = rng(100).integers("i", 20, below=8)
    assert below.min() == 0
    assert below.max() == 7


def test_several_purposes_at_once_draw_what_each_draws() -> None:
    each = rng().uniform_of_each(["mask", "flip", "mask"], 7)
    assert each.shape == (3, 5, 7)
    for own, purpose in zip(each, ("mask", "flip", "mask"), strict=True):
        assert torch.equal(own, rng().uniform(purpose, 7))
