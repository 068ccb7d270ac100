"""T10: what is learned does not depend on ranks or interruptions, whatever the objective."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pretrain.ranks.processes import processes
from tests import ranks
from tests.conformance import two_ranks
from tests.conformance.objectives import OBJECTIVES
from tests.conformance.two_ranks import engine_of, steps


@pytest.fixture(scope="module")
def device() -> Iterator[torch.device]:
    with processes() as place:
        yield place


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=[] if n in ("mae-cross", "satclip-queue") else pytest.mark.slow)
        for n in OBJECTIVES
    ],
)
def test_t10_going_on_is_the_uninterrupted_run(
    name: str, tmp_path: Path, device: torch.device
) -> None:
    """T10. Defect: optimiser state, step or masks that a resume does not bring back."""
    case = OBJECTIVES[name]
    engine = engine_of(case.build(), 4, device)
    steps(case, engine, range(2))
    engine.save(str(tmp_path), "middle")
    want = steps(case, engine, range(2, 4))
    state = copy.deepcopy(engine.objective.state_dict())
    torch.manual_seed(99)
    other = engine_of(case.build(), 4, device)
    other.load(str(tmp_path), "middle")
    assert steps(case, other, range(2, 4)) == want
    assert all(torch.equal(v, state[k]) for k, v in other.objective.state_dict().items())


@pytest.mark.slow
def test_t10_two_ranks_learn_what_one_does(tmp_path: Path, device: torch.device) -> None:
    """T10. Defect: a mean of ranks' means, or masks drawn by rank."""
    out = tmp_path / "losses.json"
    done = ranks.launch(tmp_path / "told", two_ranks.main, out, ranks=2)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert list(found) == list(OBJECTIVES)
    for name, case in OBJECTIVES.items():
        alone = steps(case, engine_of(case.build(), 4, device), range(3))
        for (loss, norm), (want, want_norm) in zip(found[name], alone, strict=True):
            assert loss == pytest.approx(want, rel=1e-5 * case.rounding), name
            assert norm == pytest.approx(want_norm, rel=1e-4 * case.rounding), name
