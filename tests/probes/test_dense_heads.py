import pytest
import torch
from torch.nn.functional import interpolate

from fm.errors import UsageError
from probes.dense import heads
from probes.dense.heads import Shape

PLAIN = [Shape(8, 5, 5, (4 / 18, 4 / 18))] * 4
STAGES = [Shape(8 * 2**i, 16 // 2**i, 16 // 2**i, (2**i / 16, 2**i / 16)) for i in range(4)]


def maps(shapes, count=3):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(count, s.channels, s.rows, s.columns, generator=generator) for s in shapes]


@pytest.mark.parametrize("kind", ["linear", "fcn", "upernet"])
@pytest.mark.parametrize("shapes", [PLAIN, STAGES], ids=["plain", "stages"])
def test_scores_of_a_sample_do_not_depend_on_its_batch(kind, shapes):
    torch.manual_seed(0)
    head = heads.build(kind, shapes, (18, 18), 16, 4).train()
    levels = maps(shapes)
    together = head.scores(levels, (18, 18))
    assert together.shape == (3, 4, 18, 18)
    alone = torch.cat([head.scores([x[i : i + 1] for x in levels], (18, 18)) for i in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_linear_is_a_layer_a_token_upsampled():
    head = heads.build("linear", PLAIN, (20, 20), 16, 3)
    x = maps(PLAIN)
    shape = Shape(8, 5, 5, (0.2, 0.2))
    head = heads.Linear(shape, 3)
    weight, bias = head.classify.weight[:, :, 0, 0], head.classify.bias
    tokens = torch.einsum("kc,bchw->bkhw", weight, x[-1]) + bias[:, None, None]
    want = interpolate(tokens, (20, 20), mode="bilinear", align_corners=False)
    torch.testing.assert_close(head.scores(x, (20, 20)), want)


@pytest.mark.parametrize(
    ("pixels", "factors"), [(1, (1, 1, 1, 0.5)), (3, (2, 2, 1, 0.5)), (4, (4, 2, 1, 0.5))]
)
def test_levels_of_a_plain_vit_are_never_finer_than_the_pixels(pixels, factors):
    cell = pixels / 36
    shapes = [Shape(8, 36 // pixels, 36 // pixels, (cell, cell))] * 4
    head = heads.UPerNet(shapes, (36, 36), 8, 2)
    assert [cell / own[0] for own in head.cells] == pytest.approx(factors)
    sizes = [
        r(p(x)).shape[-1] for x, p, r in zip(maps(shapes), head.project, head.rescale, strict=True)
    ]
    assert sizes == [-(-36 // pixels * f // 1) for f in factors]


def test_upernet_sees_every_level_and_the_whole_picture():
    torch.manual_seed(0)
    head = heads.UPerNet(STAGES, (32, 32), 16, 3)
    levels = [x.requires_grad_() for x in maps(STAGES, 1)]
    head.scores(levels, (32, 32))[0, 0, 0, 0].backward()
    for x in levels:
        assert (x.grad != 0).any()
    # pooling over the whole picture: the far corner of the deepest level counts
    assert (levels[-1].grad[0, :, -1, -1] != 0).any()
    with pytest.raises(UsageError, match="four levels"):
        heads.UPerNet(STAGES[:3], (32, 32), 16, 3)
