"""Drives lightly's parts of MoCo-v2 around timm's ViT-S, as its example puts them together.

Arguments: side, patch, keys in the queue, batch, depth, counts.
"""

import copy
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from bench.mae_steps import adamw, images


def main() -> None:
    """Take training steps on demand."""
    side, patch, keys, batch, depth, counted, warm = map(int, sys.argv[1:])
    import lightly
    from lightly.loss import NTXentLoss
    from lightly.models.modules import MoCoProjectionHead
    from lightly.models.utils import (
        batch_shuffle,
        batch_unshuffle,
        deactivate_requires_grad,
        update_momentum,
    )
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(0)
    vit = VisionTransformer(
        side, patch, 13, embed_dim=384, depth=depth, num_heads=6, num_classes=0, global_pool="token"
    )
    student = torch.nn.Sequential(vit, MoCoProjectionHead(384, 384, 128))
    teacher = copy.deepcopy(student)
    deactivate_requires_grad(teacher)
    loss_of = NTXentLoss(temperature=0.2, memory_bank_size=(keys, 128))
    optimizer, x = adamw(student.train()), images((batch, 13, side, side))

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        update_momentum(student, teacher, m=0.999)
        query = student(x)
        with torch.no_grad():
            mixed, order = batch_shuffle(x)
            key = batch_unshuffle(teacher(mixed), order)
        loss = loss_of(query, key)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    for _ in range(warm):
        step()
    told = {
        "lightly": lightly.__version__,
        "batch": batch,
        "threads": torch.get_num_threads(),
        "precision": "float32",
        "parameters": sum(p.numel() for p in student.parameters()),
    }
    print(json.dumps(told), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        for _ in range(counted):
            step()
        print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)


if __name__ == "__main__":
    main()
