"""What DeepSpeed leaves out, or changes, when it loads."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from fm.errors import FMError
from pretrain.engine.files import ModelFiles
from pretrain.engine.loading import load_untrained, own_hyperparameters


def test_groups_keep_their_own_settings() -> None:
    """Under ZeRO 3 a universal checkpoint gives all groups those of the first."""
    groups = [
        {"params": [1], "weight_decay": 0.05, "lr": 1e-3},
        {"params": [2], "weight_decay": 0.0, "lr": 1e-3},
    ]
    optimizer = SimpleNamespace(param_groups=groups, state={})
    with own_hyperparameters(optimizer):
        for group in groups:
            group.update(params=[], weight_decay=0.05, step=7)
    assert [group["weight_decay"] for group in groups] == [0.05, 0.0]
    assert [group["step"] for group in groups] == [7, 7]
    assert [group["params"] for group in groups] == [[], []]


class Small(nn.Module):
    """Trained, frozen, kept and not kept."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.trained = nn.Parameter(torch.full((2,), value))
        self.frozen = nn.Parameter(torch.full((5,), value), requires_grad=False)
        self.register_buffer("kept", torch.full((3,), value))
        self.register_buffer("made", torch.full((3,), value), persistent=False)


def test_each_state_counts_its_own_steps() -> None:
    """Under ZeRO 3 a universal checkpoint gives all states one tensor, raised once for each."""
    weights = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    optimizer = torch.optim.AdamW([{"params": [w]} for w in weights], fused=True)
    with own_hyperparameters(optimizer):
        shared = torch.tensor(5.0)
        for weight in weights:
            optimizer.state[weight]["step"] = shared
    optimizer.state[weights[0]]["step"] += 1
    assert optimizer.state[weights[1]]["step"] == 5


def test_buffers_and_frozen_parameters_are_loaded(tmp_path) -> None:
    torch.save({"module": Small(1.0).state_dict()}, tmp_path / "mp_rank_00_model_states.pt")
    module = Small(2.0)
    load_untrained(module, tmp_path, 2)
    found = {"kept": module.kept, "frozen": module.frozen, "made": module.made}
    assert {name: float(value[0]) for name, value in found.items()} == {
        "kept": 1.0,
        "frozen": 1.0,
        "made": 2.0,  # in no checkpoint
    }
    assert module.trained[0].item() == 2.0  # DeepSpeed's
    module.register_buffer("more", torch.ones(1))
    with pytest.raises(FMError, match="holds no more"):
        load_untrained(module, tmp_path, 2)
    module = Small(2.0)
    module.kept = torch.ones(4)
    with pytest.raises(FMError, match=r"kept is \(3,\) and not \(4,\)"):
        load_untrained(module, tmp_path, 2)


def test_what_zero_3_splits_is_whole(tmp_path) -> None:
    """Three ranks: equal pieces of each parameter, the last one padded."""
    trained, frozen = torch.arange(7.0).view(7, 1), torch.arange(5.0)
    shapes = [{"a": torch.Size([7, 1]), "b": torch.Size([2])}]
    for rank in range(3):
        flat = torch.cat([trained.flatten(), torch.full((2,), -1.0)])[3 * rank : 3 * rank + 3]
        other = torch.tensor([10.0, 11.0, -1.0])[rank : rank + 1]
        torch.save(
            {
                "module": {"a": torch.empty(0), "b": torch.empty(0), "kept": torch.ones(2)},
                "param_shapes": shapes,
                "frozen_param_shapes": {"f": torch.Size([5])},
                "frozen_param_fragments": {
                    "f": torch.cat([frozen, frozen])[2 * rank : 2 * rank + 2]
                },
            },
            tmp_path / f"zero_pp_rank_{rank}_mp_rank_00_model_states.pt",
        )
        torch.save(
            {"optimizer_state_dict": {"fp32_flat_groups": [torch.cat([flat, other])]}},
            tmp_path / f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt",
        )
    files = ModelFiles(tmp_path, 3)
    assert torch.equal(files.tensor("a"), trained)
    assert files.tensor("b").tolist() == [10.0, 11.0]
    assert torch.equal(files.tensor("f"), frozen)
    assert files.tensor("kept").tolist() == [1.0, 1.0]
    assert files.weights("").layout["a"] == (torch.float32, (7, 1))
