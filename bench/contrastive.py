"""A step of SoftCon with Siamese masking, without it, and of MoCo beside lightly's.

ViT-S/14 on 13 bands of 112 px (64 tokens), views of the same pixels without effects, so that the
networks are compared and not the making of views. A step is all that training takes: both networks,
the loss, backward pass, AdamW, the teacher's step and the queue's.
"""

from collections.abc import Callable
from dataclasses import replace

import torch

from bench import peers
from bench.mae_steps import adamw, batch_of, images, normalisation, stored, threads
from bench.runner import Bench, Ready, Target
from fm.models import create_model
from fm.sensors import sensor
from pretrain.after_step import AfterStep
from pretrain.engine.teachers import Teachers
from pretrain.objectives.contrast.moco import MoCo, MoCoConfig
from pretrain.objectives.contrast.momentum import MomentumContrast
from pretrain.objectives.contrast.softcon import SoftCon, SoftConConfig
from pretrain.schedule import Clock
from pretrain.settings.view import OpticalEffects, ViewConfig

SIDE, PATCH, CLASSES, QUEUE = 112, 14, 9, 4096
STILL = OpticalEffects(colour_chance=0.0, grey=0.0, blur_chance=0.0)
AS_IT_IS = ViewConfig(scale=(1.0, 1.0), ratio=(1.0, 1.0), flips="none", optical=STILL)
MASKED, WHOLE = "SoftCon, half of the tokens masked", "SoftCon, no token masked"
OURS, LIGHTLY = "MoCo-v2", "MoCo-v2 of lightly"


def _shape(quick: bool) -> tuple[int, int]:
    """Return the batch and the depth."""
    return (4, 2) if quick else (16, 12)


def _ready(quick: bool, build: Callable[..., MomentumContrast]) -> Ready:
    threads(quick)
    size, depth = _shape(quick)
    own = sensor("sentinel2-l1c").bands
    bands = {"s2l1c_10": tuple(replace(b, gsd_m=10.0, modality="s2l1c_10") for b in own)}
    torch.manual_seed(0)
    backbone = create_model(
        "vit_small",
        bands=bands,
        token_m=10 * PATCH,
        depth=depth,
        pooling="cls",
        normalisation=normalisation(bands),
    )
    objective = build(backbone).train()
    teachers = Teachers(objective.momentum_pairs())
    memories = [part for part in objective.modules() if isinstance(part, AfterStep)]
    optimizer = adamw(objective)
    pixels = {"s2l1c_10": stored(images((size, 13, SIDE, SIDE)))}
    labels = torch.eye(CLASSES)[torch.arange(size) % CLASSES]
    taken = [0]

    def step() -> None:
        batch = batch_of(pixels, taken[0])
        batch.labels = {"cover": labels}
        optimizer.zero_grad(set_to_none=True)
        out = objective(batch, batch.rng)
        (out.loss_sum / out.weight).backward()
        optimizer.step()
        teachers.update(Clock())
        for memory in memories:
            memory.take(lambda rows: rows)
        taken[0] += 1

    count = sum(p.numel() for p in objective.parameters())
    told = {"batch": size, "threads": torch.get_num_threads(), "precision": "float32"}
    return Ready(step, {**told, "parameters": count})


def softcon(mask_ratio: float) -> Callable[[bool], Ready]:
    """Return what sets SoftCon up."""
    config = SoftConConfig(label="cover", classes=CLASSES, mask_ratio=mask_ratio, view=AS_IT_IS)
    return lambda quick: _ready(quick, lambda backbone: SoftCon(backbone, config))


def moco(quick: bool) -> Ready:
    """Set MoCo-v2 up."""
    config = MoCoConfig(version="v2", queue=QUEUE, view=AS_IT_IS)
    return _ready(quick, lambda backbone: MoCo(backbone, config))


def lightly(quick: bool) -> Ready | None:
    """Set lightly's MoCo-v2 up, in an environment of its own."""
    words = [SIDE, PATCH, QUEUE, *_shape(quick)]
    return peers.start("lightly", *map(str, words), counted=1, warm=1, script="lightly_moco")


BENCH = Bench(
    name="contrastive",
    question="What does Siamese masking save, and what does a step of MoCo cost beside lightly's?",
    competitors={MASKED: softcon(0.5), WHOLE: softcon(0.0), OURS: moco, LIGHTLY: lightly},
    targets=(
        Target("speed-up by masking half of the tokens", of=WHOLE, over=MASKED, at_least=1.4),
        Target("speed-up over lightly's MoCo-v2", of=LIGHTLY, over=OURS, at_least=1.0),
    ),
    rounds=10,
    quick_rounds=3,
    warmup=1,
    versions=("torch", "timm", "lightly"),
)
