"""Where what comes from a hub waits until the checkpoint that is made of it stands."""

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from fm.files import passing_folder

INSTEAD = "name another with --to, or give --overwrite"
"""What to do where the target is there."""


@contextlib.contextmanager
def waiting(target: Path, anew: Sequence[str] = ()) -> Iterator[Path]:
    """Make `.NAME.pull` beside a target, and remove it when the block ends.

    After an error it stays for the next try, if it holds something that the next try need not
    fetch again.

    Args:
        target: what is made.
        anew: names of files that every try writes anew.

    Yields:
        the folder.
    """
    aside = target.parent / f".{target.name}.pull"
    with passing_folder(aside):
        try:
            yield aside
        except BaseException:
            if {path.name for path in aside.iterdir()} <= set(anew):
                shutil.rmtree(aside, ignore_errors=True)
            raise
    shutil.rmtree(aside, ignore_errors=True)
