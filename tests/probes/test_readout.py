import numpy as np
import pytest
import torch

import fm
from fm.errors import UsageError
from probes.benchmarks import Inputs
from probes.features import readout
from probes.features.extraction import encode
from probes.protocols import get_protocol


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    bands = {"aviris_20": fm.sensor("aviris-indian-pines").bands[:4]}
    return fm.create_model("vit_nano", bands=bands, token_m=60, depth=2).eval()


def inputs(side=9):
    pixels = np.random.default_rng(0).normal(size=(3, 4, side, side)).astype(np.float32)
    return Inputs({"aviris_20": pixels}, {"aviris_20": np.ones((3, side, side), bool)})


def made(model, words, given):
    bands = {m: tuple(b.name for b in v) for m, v in model.bands.items()}
    with torch.inference_mode():
        return encode(model, given, bands, {"aviris_20": (1.0, 0.0)}, words)


def test_parts_are_what_encode_gives(model):
    given = inputs()
    x = torch.from_numpy(given.pixels["aviris_20"])
    with torch.inference_mode():
        found = model.encode({"aviris_20": x}, hidden=True)
    everything = made(model, ("pooled", "centre", "mean@1", "centre@2"), given)
    assert everything.shape == (3, 4 * 128)
    want = [found.pooled, found.tokens[:, 4], found.hidden[0].mean(1), found.hidden[1][:, 4]]
    assert torch.allclose(everything, torch.cat(want, dim=1), atol=1e-5)


def test_the_middle_is_that_of_the_window_not_of_its_extension(model):
    given = inputs(side=7)  # 3x3 tokens of 3 px after extension; pixel 3 lies in token 1
    assert readout.middle(model, given.pixels) == {"aviris": (1, 1)}
    base = made(model, ("centre@1",), given)
    changed = inputs(side=7)
    changed.pixels["aviris_20"][:, :, 3, 3] += 1
    other = inputs(side=7)
    other.pixels["aviris_20"][:, :, 6, 6] += 1
    near = (made(model, ("centre@1",), changed) - base).abs().mean()
    far = (made(model, ("centre@1",), other) - base).abs().mean()
    assert near > 3 * far


def test_means_leave_out_invalid_tokens(model):
    given = inputs()
    given.valid["aviris_20"][:, :3] = False
    x = {m: torch.from_numpy(v) for m, v in given.pixels.items()}
    valid = {m: torch.from_numpy(v) for m, v in given.valid.items()}
    with torch.inference_mode():
        tokens = model.encode(x, valid=valid).tokens
    assert torch.allclose(made(model, ("mean",), given), tokens[:, 3:].mean(1), atol=1e-5)


def test_wrong_parts_are_refused(model):
    for words in ((), ("mean", "mean"), ("pooled@2",), ("mean@0",), ("median",)):
        with pytest.raises(ValueError, match="readout"):
            readout.check(words)
    with pytest.raises(UsageError, match="has 2 blocks"):
        made(model, ("mean@3",), inputs())
    assert get_protocol("linear-centre").settings.readout == ("centre", "mean")
