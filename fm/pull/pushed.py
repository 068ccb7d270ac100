"""Checkpoints on the hub, as `fm models push` puts them there, back into folders.

The checkpoint's own files come: card, page and weights, not what else lay in the folder.

A commit holds all of one model, so its hash is what is pinned: the card comes under it, and says
the SHA-256 that the weights must have.
"""

import os
import shutil
from pathlib import Path

from fm import checkpoint, hub
from fm.checkpoint import CARD, README, WEIGHTS
from fm.console import note
from fm.errors import FMError, UsageError
from fm.files import atomic_folder, refuse_taken, sha256_file
from fm.hub import HubFile
from fm.pull.download import Wanted, fetch
from fm.pull.pulled import Pulled
from fm.pull.waiting import INSTEAD, waiting

PAGE_BYTES = 1 << 26
"""Largest card, and largest page."""
OTHERWISE = "bring the folder over by hand: a checkpoint is used as it lies"


def pull_pushed(
    repo: str,
    to: str | os.PathLike[str],
    *,
    revision: str = "",
    sha256: str = "",
    accept_unpinned: bool = False,
    overwrite: bool = False,
    max_bytes: int,
) -> Pulled:
    """Get a checkpoint from the hub: its card, page and weights, byte by byte as they lie there.

    Args:
        repo: `OWNER/NAME`, a public one.
        to: checkpoint folder to write.
        revision: commit, which `push` printed.
        sha256: of the weights, all digits, or nothing; the card's is compared in any case.
        accept_unpinned: take the newest commit, and tell which it is, where none is given.
        overwrite: replace a checkpoint that is there.
        max_bytes: of the weights.

    Raises:
        UsageError: no commit.
        FMError: see `fm.pull.download.fetch`; no checkpoint of eofm there, weights that are not
            the card's or do not fit its architecture. Nothing stands at `to` then; what came of
            the weights is kept beside it for the next try.
    """
    target = Path(to)
    refuse_taken(target, overwrite=overwrite, ours=(CARD,), instead=INSTEAD)
    if not revision and not accept_unpinned:
        raise UsageError(
            f"{repo} is unpinned: give --revision, the commit that fm models push printed, or "
            f"--accept-unpinned for the newest"
        )
    if not revision:
        revision = hub.newest(repo)
        note(f"{repo}: unpinned; revision {revision} is the newest now")
    with waiting(target, anew=(CARD, README)) as aside:

        def bring(name: str, digest: str, limit: int) -> str:
            url = HubFile(repo, name, revision).url()
            return fetch(Wanted(url, digest, revision, limit, OTHERWISE), aside / name)

        bring(CARD, "", PAGE_BYTES)
        card = checkpoint.read_card(aside)
        if sha256 and card.weights_sha256 != sha256.lower():
            raise FMError(
                f"{repo}: refused: the card says weights of SHA-256 {card.weights_sha256}, pinned "
                f"is {sha256}"
            )
        bring(README, "", PAGE_BYTES)
        whole = (aside / WEIGHTS).is_file()
        if not (whole and sha256_file(aside / WEIGHTS) == card.weights_sha256):
            bring(WEIGHTS, card.weights_sha256, max_bytes)
        checkpoint.load(aside)
        with atomic_folder(target, overwrite=overwrite, ours=(CARD,)) as made:
            for name in (CARD, README, WEIGHTS):
                _put(aside / name, made / name)
    parent = f"{repo}@{revision}, sha256 {card.weights_sha256}"
    return Pulled(repo, target, card.weights_sha256, parent, card.licence)


def _put(source: Path, target: Path) -> None:
    """Link a file, or copy it, so that it stays where it is until the folder stands."""
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copyfile(source, target)
