"""What changes over a run, against closed forms; lengths in steps and in samples."""

import math
from itertools import pairwise

import pytest

from fm.config import dump_yaml, override, parse, read_yaml
from fm.errors import UsageError
from pretrain.config import RunConfig
from pretrain.schedule import Clock, Kind, between, learning_rate
from pretrain.settings.ramp import Ramp

BASE = {
    "name": "it",
    "out": "run",
    "data": {"path": "nowhere", "batch_size": 30},
    "objective": {"kind": "mae"},
}


def config(*words: str) -> RunConfig:
    return parse(RunConfig, override(BASE, words), "it")


def test_schedule_warms_up_peaks_and_ends_where_the_run_ends() -> None:
    rates = [learning_rate(s, peak=2.0, steps=50, warmup=10, minimum=0.5) for s in range(50)]
    assert rates[:10] == pytest.approx([0.2 * (i + 1) for i in range(10)])
    assert rates[10] == 2.0
    assert rates[-1] == pytest.approx(0.5)
    middle = 0.5 + 1.5 * 0.5 * (1 + math.cos(math.pi * 15 / 39))
    assert rates[25] == pytest.approx(middle)
    assert all(a > b for a, b in pairwise(rates[10:]))


def test_a_run_of_one_step_uses_the_peak() -> None:
    assert learning_rate(0, peak=1.0, steps=1, warmup=0, minimum=0.0) == 1.0


def test_linear_constant_and_stable_then_down() -> None:
    def rates(kind: Kind, **more: int) -> list[float]:
        told = {"peak": 2.0, "steps": 21, "warmup": 4, "minimum": 0.4}
        return [learning_rate(s, kind=kind, **told, **more) for s in range(21)]  # type: ignore[arg-type]

    start = [0.5, 1.0, 1.5, 2.0]
    line = [2.0 - 1.6 * i / 16 for i in range(17)]
    assert rates("linear") == pytest.approx([*start, *line])
    assert rates("constant") == [*start, *[2.0] * 17]
    down = [2.0 - 1.6 * i / 5 for i in range(1, 6)]
    assert rates("wsd", decay=5) == pytest.approx([*start, *[2.0] * 12, *down])


def test_steps_fall_where_the_published_epochs_end() -> None:
    """MoCo-v2 and SeCo: x .1 from epochs 120 and 160 of 200 on; shares, so in samples too."""
    found = config("schedule={kind: steps, steps: 1000, warmup: 0, milestones: [0.6, 0.8]}")
    told = {"peak": 2.0, "steps": 1000, "warmup": 0, "minimum": 0.0, "kind": "steps"}
    rates = [
        learning_rate(s, **told, milestones=found.schedule.falls, factor=found.schedule.factor)  # type: ignore[arg-type]
        for s in range(1000)
    ]
    for step, rate in enumerate(rates):
        epoch = step // 5  # 200 epochs of 5 steps
        assert rate == pytest.approx(2.0 * 0.1 ** sum(epoch >= m for m in (120, 160)), rel=1e-12)
    samples = "schedule={kind: steps, samples: 30000, warmup: 0, milestones: [0.6, 0.8]}"
    assert config(samples).identity() == found.identity()
    half = config("schedule={kind: steps, steps: 100, warmup: 1, milestones: [0.55], factor: 0.5}")
    assert half.schedule.falls == (55,)  # 0.55 x 100 is 55.00000000000001
    assert half.identity()["schedule"] == {
        "kind": "steps",
        "steps": 100,
        "warmup": 1,
        "min_lr": 0.0,
        "milestones": [0.55],
        "factor": 0.5,
    }


@pytest.mark.parametrize("kind", ["cosine", "linear", "wsd"])
@pytest.mark.parametrize(("steps", "warmup"), [(2, 0), (2, 1), (3, 0), (3, 2), (17, 16), (97, 13)])
def test_the_last_step_has_the_end_value_exactly(kind: Kind, steps: int, warmup: int) -> None:
    told = {"peak": 0.3, "steps": steps, "warmup": warmup, "minimum": 0.017, "kind": kind}
    decay = max((steps - warmup) // 2, 1) if kind == "wsd" else 0
    assert learning_rate(steps - 1, **told, decay=decay) == 0.017  # type: ignore[arg-type]


@pytest.mark.parametrize("batch", [1, 7, 64, 1000])
@pytest.mark.parametrize("kind", ["cosine", "linear"])
def test_a_ramp_ends_with_the_run_whatever_the_batch(batch: int, kind: str) -> None:
    steps = -(-1000 // batch)
    ramp = Ramp(start=0.996, end=1.0, kind=kind)  # type: ignore[arg-type]
    values = [ramp.at(Clock(s * batch, (steps - 1) * batch)) for s in range(steps)]
    assert values[-1] == 1.0
    assert steps == 1 or values[0] == 0.996
    assert values == sorted(values)
    for step in range(steps - 1):
        share = step / (steps - 1)
        left = 0.5 * (1 + math.cos(math.pi * share)) if kind == "cosine" else 1 - share
        assert values[step] == pytest.approx(1.0 - 0.004 * left, rel=1e-12)


def test_a_ramp_over_samples_is_over_with_them_and_with_the_run_at_the_latest() -> None:
    ramp = Ramp(start=0.04, end=0.07, kind="linear", samples=300)
    values = [ramp.at(Clock(100 * s, 1900)) for s in range(20)]
    assert values[:4] == pytest.approx([0.04, 0.05, 0.06, 0.07])
    assert set(values[3:]) == {0.07}
    assert ramp.at(Clock(200, 200)) == 0.07


def test_between_starts_and_ends_exactly() -> None:
    for kind in ("cosine", "linear"):
        assert between(0.04, 0.4, 0.0, kind) == pytest.approx(0.04)  # type: ignore[arg-type]
        assert between(0.04, 0.4, 1.0, kind) == 0.4  # type: ignore[arg-type]
    assert between(0.04, 0.4, 1.0, "constant") == 0.04


def test_lengths_in_samples_are_the_steps_that_hold_them() -> None:
    found = config("schedule={samples: 1000, warmup_samples: 91}")
    same = config("schedule={steps: 34, warmup: 4}")
    assert (found.schedule.steps, found.schedule.warmup) == (34, 4)
    assert found.identity() == same.identity()
    wsd = config("schedule={kind: wsd, samples: 1000, warmup: 2, decay_samples: 300}").schedule
    assert (wsd.steps, wsd.warmup, wsd.decay) == (34, 2, 10)


def test_a_rate_for_256_is_scaled_by_the_batch_when_asked() -> None:
    found = config("optimizer.base_lr=2e-3")
    assert found.optimizer.lr == pytest.approx(2e-3 * 30 / 256)
    assert config("optimizer.lr=2e-3").optimizer.lr == 2e-3
    assert found.identity() == config(f"optimizer.lr={found.optimizer.lr!r}").identity()
    null = config("optimizer.lr=2e-3", "optimizer.base_lr=1e-3", "optimizer.lr=null")
    assert null.optimizer.lr == pytest.approx(1e-3 * 30 / 256)


def test_the_resolved_config_reads_back(tmp_path: object) -> None:
    found = config("schedule={samples: 1000, warmup_samples: 91}", "optimizer.base_lr=2e-3")
    path = tmp_path / "config.yaml"  # type: ignore[operator]
    path.write_text(dump_yaml(found))
    again = parse(RunConfig, read_yaml(path), "it")
    assert again == found
    assert again.hash() == found.hash()


def test_new_keys_at_their_defaults_leave_the_identity_alone() -> None:
    """Runs of before these keys go on: the values are those that were hashed then."""
    values = config().identity()
    assert values["schedule"] == {"steps": 100, "warmup": 10, "min_lr": 0.0}
    assert values["optimizer"] == {
        "lr": 1.5e-4,
        "weight_decay": 0.05,
        "betas": [0.9, 0.95],
        "eps": 1e-8,
        "clip": 0.0,
    }
    for word in (
        "schedule.kind=linear",
        "schedule.weight_decay_end=0.4",
        "optimizer.kind=lamb",
        "optimizer.layer_decay=0.7",
    ):
        assert config(word).identity() != values


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ["schedule={steps: 100, samples: 900}"],
            r"schedule.steps=100 is not schedule.samples=900",
        ),
        (["schedule={samples: 90}"], "warmup=10 does not end before steps=3"),
        (["schedule={samples: 90, warmup_samples: 90}"], "does not end before"),
        (["schedule.kind=wsd"], "kind=wsd needs decay=STEPS"),
        (["schedule.decay=5"], "the other kinds none"),
        (["schedule={kind: wsd, decay: 95}"], "do not fit into steps=100"),
        (["schedule={kind: constant, min_lr: 1e-5}"], "not reached with kind=constant"),
        (["schedule.kind=steps"], r"kind=steps needs milestones"),
        (["schedule.milestones=[0.5]"], "the other kinds none"),
        (["schedule={kind: steps, milestones: [0.1]}"], r"steps \[10\] of 100; they must follow"),
        (["schedule={kind: steps, milestones: [0.8, 0.6]}"], "and each other"),
        (["schedule={kind: steps, milestones: [0.999]}"], "leave steps after them"),
        (["schedule={kind: steps, milestones: [1.2]}"], "less than 1"),
        (
            ["schedule={kind: steps, milestones: [0.6], min_lr: 1e-5}"],
            "not reached with kind=steps",
        ),
        (["optimizer={lr: 1e-3, base_lr: 1e-3}"], r"optimizer.lr=0.001 is not what"),
        (["optimizer.layer_decay=0"], "greater than 0"),
    ],
)
def test_lengths_and_rates_that_disagree_are_refused(words: list[str], text: str) -> None:
    with pytest.raises(UsageError, match=text) as error:
        config(*words)
    assert "\n" not in str(error.value)
