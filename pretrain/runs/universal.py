"""DeepSpeed's universal checkpoints: any number of ranks can read them."""

import argparse
import contextlib
import io
import os
from pathlib import Path

from fm.errors import FMError
from pretrain.ranks.processes import quiet_stderr


def convert(written: Path, out: Path) -> None:
    """Turn what ranks wrote under ZeRO 1, 2 or 3 into a universal checkpoint.

    Every parameter gets a folder with its values and moments, whole and in float32. Takes as much
    disk as the checkpoint, and the memory of one rank's share of it.

    Args:
        written: DeepSpeed's folder in a checkpoint.
        out: the folder to write; beside it comes a file `latest_universal`.

    Raises:
        FMError: the files are not those of a checkpoint, or the disk is full.
    """
    from deepspeed.checkpoint import ds_to_universal

    settings = argparse.Namespace(
        input_folder=str(written),
        output_folder=str(out),
        # one worker is this process: children of a process with threads and a device may hang
        num_extract_workers=1,
        num_merge_workers=1,
        keep_temp_folder=False,
        strict=True,
        # written before we put it in (`Recorder`)
        inject_missing_state=True,
    )
    os.makedirs(out, exist_ok=True)
    try:
        with contextlib.redirect_stdout(io.StringIO()), quiet_stderr():
            ds_to_universal.main(settings)
    except Exception as error:  # its asserts, and what the disk says
        words = str(error).splitlines()[0] if str(error) else type(error).__name__
        if isinstance(error, KeyError) and error.args[0] in ("exp_avg", "exp_avg_sq"):
            words = "DeepSpeed converts AdamW's moments alone"
        raise FMError(
            f"{written}: cannot be converted for other ranks ({words}); start as many as wrote it"
        ) from None
