"""The dihedral augmentation: a symmetry of the square, the same on all grids of a sample."""

import torch

from fm.rng import CounterRng
from pretrain.augment import dihedral


def test_each_sample_is_one_of_its_eight_symmetries_on_every_grid() -> None:
    count = 200
    rng = CounterRng(0, torch.zeros(count, dtype=torch.int64), torch.arange(count))
    fine = torch.arange(36).reshape(1, 1, 6, 6).expand(count, 1, 6, 6)
    coarse = torch.arange(9).reshape(1, 1, 3, 3).expand(count, 1, 3, 3)
    out = dihedral({"a_10": fine.to(torch.uint16), "a_20": coarse.to(torch.int16)}, rng)
    assert out["a_10"].dtype == torch.uint16

    def symmetries(x: torch.Tensor) -> list[torch.Tensor]:
        turned = [torch.rot90(x, k, (-2, -1)) for k in range(4)]
        return turned + [y.flip(-1) for y in turned]

    seen = set()
    for i in range(count):
        pairs = zip(symmetries(fine[0]), symmetries(coarse[0]), strict=True)
        found = [
            n
            for n, (f, c) in enumerate(pairs)
            if torch.equal(out["a_10"][i].to(torch.int64), f)
            and torch.equal(out["a_20"][i].to(torch.int64), c)
        ]
        assert len(found) == 1
        seen.add(found[0])
    assert seen == set(range(8))


def test_oblong_images_keep_their_shape() -> None:
    rng = CounterRng(0, torch.zeros(20, dtype=torch.int64), torch.arange(20))
    x = torch.rand(20, 2, 4, 6)
    out = dihedral({"a": x}, rng)["a"]
    assert out.shape == x.shape
    assert torch.equal(out.flatten(1).sort().values, x.flatten(1).sort().values)
