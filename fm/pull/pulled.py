"""What came of a pull."""

from dataclasses import dataclass
from pathlib import Path

from fm.foreign.report import Report


@dataclass(frozen=True)
class Pulled:
    """What was written.

    Attributes:
        name: of the catalogue, `eofm/NAME`, or `OWNER/NAME` on the hub.
        path: the checkpoint folder, or the file alone.
        sha256: of the file that came; of the weights where a whole checkpoint did.
        parent: the file in words: repository, revision, path and hash.
        licence: of the weights.
        report: what became of every key; None for a file alone, for location encoders and for
            checkpoints, which are taken as they are.
    """

    name: str
    path: Path
    sha256: str
    parent: str
    licence: str
    report: Report | None = None
