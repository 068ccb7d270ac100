"""What every loss of the library holds: precision, the same on several ranks, where it learns."""

import json
from pathlib import Path

import pytest
import torch

from tests import ranks
from tests.pretrain import loss_cases
from tests.pretrain.loss_cases import CASES, LEARNS, data, measured


@pytest.mark.parametrize("name", CASES)
def test_float32_inside_whatever_the_autocast(name: str) -> None:
    """Defect: cosines, softmax or a correlation in bfloat16, because the model is."""
    want = CASES[name](data())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        made = data()
        loss = CASES[name](made)
        loss.backward()
    assert loss.dtype is torch.float32
    assert torch.equal(loss, want)
    assert all(made[key].grad.dtype is torch.float32 for key in LEARNS[name])


@pytest.mark.parametrize("name", CASES)
def test_bfloat16_embeddings_cost_their_own_rounding_only(name: str) -> None:
    """Half a unit in the last of 8 bits, 0.2 %, through cosines over a temperature of 0.1."""
    want = CASES[name](data()).item()
    made = data(dtype=torch.bfloat16)
    loss = CASES[name](made)
    assert loss.dtype is torch.float32
    assert loss.item() == pytest.approx(want, rel=0.03)
    rounded = {
        key: x.detach().float().requires_grad_() if key in "abc" else x for key, x in made.items()
    }
    assert loss.item() == CASES[name](rounded).item()


@pytest.mark.parametrize("name", CASES)
def test_gradients_reach_what_learns_and_nothing_else(name: str) -> None:
    """Defect: a teacher's targets, or the keys of a momentum encoder, that are learned."""
    made = data()
    made["queue"].requires_grad_()
    CASES[name](made).backward()
    reached = {key for key in "abc" if made[key].grad is not None and made[key].grad.any()}
    assert reached == set(LEARNS[name])
    assert made["queue"].grad is None


@pytest.mark.parametrize("name", CASES)
def test_what_could_not_be_read_is_neither_positive_nor_negative(name: str) -> None:
    want, gradients = measured(name, data())
    made = data()
    with torch.no_grad():
        for key in "abc":
            made[key][2] = 50.0 * torch.randn(made[key].shape[1])
    found, others = measured(name, made)
    assert found == pytest.approx(want, rel=1e-6)
    for key, rows in gradients.items():
        assert rows[2] == others[key][2] == [0.0] * 6
        assert torch.allclose(torch.tensor(others[key]), torch.tensor(rows), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_the_order_of_the_batch_does_not_matter(name: str) -> None:
    order = torch.tensor([3, 1, 4, 0, 7, 2, 6, 5])
    made = data()
    turned = {
        key: x if key == "queue" else x.detach()[order].requires_grad_(key in "abc")
        for key, x in made.items()
    }
    (want, gradients), (found, others) = measured(name, made), measured(name, turned)
    assert found == pytest.approx(want, rel=1e-5)
    for key, rows in gradients.items():
        want_rows = torch.tensor(rows)[order]
        assert torch.allclose(torch.tensor(others[key]), want_rows, rtol=1e-4, atol=1e-5)


def test_two_ranks_have_the_loss_and_gradients_of_one(tmp_path: Path) -> None:
    """Defect: positives of rank 0 on every rank, means of a rank, gathers without gradient."""
    out = tmp_path / "losses.json"
    done = ranks.launch(tmp_path / "told", loss_cases.main, out, ranks=2)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert list(found) == list(CASES)
    for name, (loss, gradients) in found.items():
        want, wanted = measured(name, data())
        assert loss == pytest.approx(want, rel=1e-6), name
        for key, rows in wanted.items():
            made, asked = torch.tensor(gradients[key]), torch.tensor(rows)
            assert torch.allclose(made, asked, rtol=1e-5, atol=1e-6), (name, key)
