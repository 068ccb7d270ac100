"""The engine against plain autograd, on one process."""

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from fm.config import parse
from fm.errors import FMError, UsageError
from fm.models import create_model
from fm.sensors import sensor
from pretrain.engine.engine import Engine
from pretrain.engine.fragment import read_fragment
from pretrain.engine.groups import parameter_groups
from pretrain.ranks.processes import processes
from pretrain.settings.engine import EngineConfig
from pretrain.settings.optimizer import OptimizerConfig
from tests.pretrain.batches import mae, s2_batch


@pytest.fixture(scope="module")
def device() -> Iterator[torch.device]:
    with processes() as place:
        yield place


def engine_of(objective: torch.nn.Module, device: torch.device, **options: object) -> Engine:
    settings = {"micro_batch": 4, "accumulate": 1, **options}
    named = {name: settings.pop(name) for name in ("precision", "deepspeed") if name in settings}
    config = EngineConfig(**{"precision": "fp32", **named})  # type: ignore[arg-type]
    optimizer = OptimizerConfig(lr=1e-3, clip=float(settings.pop("clip", 0.0)))  # type: ignore[arg-type]
    return Engine(objective, optimizer, config, device=device, **settings)  # type: ignore[arg-type]


def test_torchs_linear_layer_is_replaced_inside_a_step_of_zero_3_alone(
    device: torch.device,
) -> None:
    """Defect: what a process computes after a run of ZeRO 3 is computed by DeepSpeed's."""
    torchs, seen = torch.nn.functional.linear, []
    engine = engine_of(mae(), device, deepspeed="zero3")
    assert torch.nn.functional.linear is torchs
    engine.objective.register_forward_pre_hook(lambda *_: seen.append(torch.nn.functional.linear))
    engine.step([s2_batch(4)], 1e-3, stop=False)
    assert len(seen) == 1
    assert seen[0] is not torchs
    assert torch.nn.functional.linear is torchs


@pytest.mark.parametrize("clip", [0.0, 0.1])
def test_steps_equal_a_bare_loop(device: torch.device, clip: float) -> None:
    ours, bare = mae(), mae()
    bare.load_state_dict(copy.deepcopy(ours.state_dict()))
    engine = engine_of(ours, device, clip=clip)
    adamw = torch.optim.AdamW(parameter_groups(bare, 0.05), lr=1e-3, betas=(0.9, 0.95), fused=True)
    for step in range(4):
        batch = s2_batch(4, seed=step, start=4 * step)
        result, _ = engine.step([batch], 1e-3 * (step + 1), stop=False)
        for group in adamw.param_groups:
            group["lr"] = 1e-3 * (step + 1)
        out = bare(batch, batch.rng)
        loss = out.loss_sum / out.weight
        adamw.zero_grad()
        loss.backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in bare.parameters()])
        if clip:
            torch.nn.utils.clip_grad_norm_(bare.parameters(), clip)
        adamw.step()
        assert result.loss == pytest.approx(loss.item(), rel=1e-6)
        assert result.grad_norm == pytest.approx(norm.item(), rel=1e-4)
    for a, b in zip(ours.parameters(), bare.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_accumulation_does_not_change_the_step(device: torch.device) -> None:
    one, four = mae(), mae()
    whole = s2_batch(4)
    whole.weight[1] = 0.0  # unequal micro-batch weights: a mean of means would be wrong
    first, _ = engine_of(one, device).step([whole], 1e-3, stop=False)
    split = engine_of(four, device, micro_batch=1, accumulate=4)
    parts = whole.split(1)
    second, _ = split.step(parts, 1e-3, stop=False)
    assert first.loss == pytest.approx(second.loss, rel=1e-6)
    assert first.weight == second.weight == 3 * 12
    assert first.grad_norm == pytest.approx(second.grad_norm, rel=1e-5)
    # Adam's first step is lr * sign(gradient), so rounding shows where a gradient is zero (the
    # keys' biases): nearly all parameters agree
    pairs = zip(one.parameters(), four.parameters(), strict=True)
    moved = torch.cat([(a - b).abs().flatten() for a, b in pairs])
    assert (moved > 1e-4).float().mean() < 0.01


def test_bf16_is_close_to_fp32_and_keeps_float32_parameters(device: torch.device) -> None:
    objective = mae()
    result, _ = engine_of(mae(), device).step([s2_batch()], 1e-3, stop=False)
    low, _ = engine_of(objective, device, precision="bf16").step([s2_batch()], 1e-3, stop=False)
    assert low.loss == pytest.approx(result.loss, rel=2e-2)
    assert low.loss != result.loss
    assert {p.dtype for p in objective.parameters()} == {torch.float32}


def test_stop_and_unreadable_batches(device: torch.device) -> None:
    engine = engine_of(mae(), device)
    assert engine.step([s2_batch()], 1e-3, stop=True)[1] is True
    spoiled = s2_batch()
    spoiled.weight[:] = 0
    with pytest.raises(FMError, match="no sample of the global batch"):
        engine.step([spoiled], 1e-3, stop=False)


def test_decay_is_for_matrices_only() -> None:
    objective = mae()
    decayed, plain = parameter_groups(objective, 0.05)
    names = {id(p): n for n, p in objective.named_parameters()}
    assert {names[id(p)].rpartition(".")[2] for p in decayed["params"]} == {"weight"}
    undecayed = {names[id(p)] for p in plain["params"]}
    assert {"mask_token", "backbone.cls_token"} <= undecayed
    assert len(names) == len(decayed["params"]) + len(plain["params"])
    model = create_model(
        "vit_nano", bands=sensor("aviris-indian-pines"), tokenizer="spectral_adapter", depth=1
    )
    decayed, plain = parameter_groups(model, 0.05)
    spectral = model.patch_embed["aviris"].embed["aviris_20"].spectral
    ids = {id(p) for p in decayed["params"]}
    assert all(id(p) in ids for p in spectral.parameters() if p.ndim == 3)
    assert not any(id(p) in ids for p in spectral.parameters() if p.ndim == 1)


def test_settings_that_cannot_hold_are_refused(tmp_path: object) -> None:
    path = f"{tmp_path}/ds.yaml"
    with open(path, "w") as stream:
        stream.write("gradient_accumulation_steps: 3\n")
    with pytest.raises(UsageError, match="gradient_accumulation_steps follow"):
        read_fragment(EngineConfig(deepspeed=path))
    with open(path, "w") as stream:
        stream.write("zero_optimization: {stage: 0}\n")
    with pytest.raises(UsageError, match="float32 copy of the weights"):
        read_fragment(EngineConfig(deepspeed=path, precision="pure-bf16"))
    with pytest.raises(UsageError, match=r"engine.compile: .* are of stage 3"):
        read_fragment(EngineConfig(deepspeed="zero3", compile=True))
    mistyped = "zero_optimisation: {stage: 3}"  # DeepSpeed would take it for stage 0
    for wrong in ("zero_optimization: 2", "zero_optimization: {stage: two}", mistyped):
        with open(path, "w") as stream:
            stream.write(wrong)
        with pytest.raises(UsageError, match="stage must be 0, 1, 2 or 3"):
            read_fragment(EngineConfig(deepspeed=path))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("overlap_com: true", "unknown key 'overlap_com'; did you mean 'overlap_comm'"),
        (
            "stage3_param_persistence_treshold: 5",
            "unknown key 'stage3_param_persistence_treshold'; "
            "did you mean 'stage3_param_persistence_threshold'",
        ),
        (
            "offload_optimizer: {devise: cpu}",
            "unknown key 'devise' in offload_optimizer; did you mean 'device'",
        ),
        ("reduce_bucket_size: many", "reduce_bucket_size='many': "),
    ],
)
def test_what_deepspeed_does_not_know_is_one_line(wrong: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "ds.yaml"
    path.write_text(f"zero_optimization: {{stage: 1, {wrong}}}\n")
    with pytest.raises(UsageError) as found:
        read_fragment(EngineConfig(deepspeed=str(path)))
    assert f"deepspeed settings {path}, zero_optimization: {told}" in str(found.value)
    assert "\n" not in str(found.value)


def test_half_precision_is_refused_in_words() -> None:
    with pytest.raises(UsageError, match=r"fp16 is not offered: .* use bf16"):
        parse(EngineConfig, {"precision": "fp16"}, "here")
