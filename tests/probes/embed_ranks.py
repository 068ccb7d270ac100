"""What ranks of `tests/probes/test_embed_ranks.py` do; in a module, so that they can be started."""

import os
import signal
from pathlib import Path
from typing import Any

import torch

import fm
from probes.embed.table import _Work, embed


def encoder() -> Any:
    """A small model of four bands, the same in every process."""
    torch.manual_seed(0)
    bands = {"s2l2a_10": fm.sensor("sentinel2-l2a").modalities["s2l2a_10"]}
    return fm.create_model("vit_nano", bands=bands, token_m=120, width=32, depth=1, heads=2)


def table(pairs: str, out: str, dies: int | None) -> int:
    """Embed a dataset; rank `dies` is killed at its second piece."""
    torch.set_num_threads(1)
    if os.environ["RANK"] == str(dies):
        fill, seen = _Work.fill, []

        def killed(self: Any, stage: Any, span: Any) -> int:
            seen.append(span)
            if len(seen) > 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return fill(self, stage, span)

        _Work.fill = killed  # type: ignore[method-assign]
    from probes.embed import table as module

    module._SPAN = 1
    try:
        embed(encoder(), Path(pairs), Path(out), batch_size=2)
    except Exception as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        return 1
    return 0


def table_apart(pairs: str, out: str, left: bool) -> int:
    """Embed a dataset, each rank on a disk of its own under the same name.

    Args:
        pairs: the dataset.
        out: with the rank's number in front of its folder.
        left: an earlier run left a work folder on the second rank's disk.
    """
    from probes.embed import ranks
    from probes.embed.stage import show, work_folder

    ranks.PATIENCE = 0.2
    own = Path(out).parent / os.environ["RANK"] / Path(out).name
    own.parent.mkdir()
    if left and os.environ["RANK"] != "0":
        work_folder(own).mkdir()
        show(work_folder(own))
    return table(pairs, str(own), None)


def world(out: str) -> int:
    """Embed the globe."""
    torch.set_num_threads(1)
    from probes.embed.world import Grid, embed_map
    from tests.probes.test_embed_world import small

    embed_map(small(), Grid(10.0), Path(out))
    return 0
