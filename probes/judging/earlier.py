"""Results that a run would replace: those of another model or data are never lost in silence."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fm.console import note
from fm.errors import FMError, UsageError
from probes import backbones
from probes.backbones.adapter import Adapter
from probes.judging.session import Session, Subject
from probes.protocols import Protocol
from probes.result import Result, identify


def refuse_others(
    out: Path, session: Session, subject: Subject, rows: Sequence[tuple[Protocol, dict[str, Any]]]
) -> None:
    """Look for results of the names that a run will write, before it begins.

    One that is repeated is replaced. One of other weights at the same place, such as a run that
    was trained again, is replaced and that is told.

    Args:
        out: folder of the results.
        session: the benchmark, opened.
        subject: the model.
        rows: protocols on it and the axes that are changed.

    Raises:
        UsageError: a result of that name is of another model, or of other data.
    """
    declared = subject.model.intake.declared if isinstance(subject.model, Adapter) else None
    benchmark = session.benchmark
    for protocol, changed in rows:
        name = identify(
            (benchmark.name, benchmark.version),
            (protocol.name, protocol.version),
            subject.about["name"],
            {**changed, **({"channels": declared} if declared else {}), **session.left_out},
            session.seed,
        )
        path = out / f"{name}.json"
        try:
            found = Result.load(path)
        except FMError:  # none, or one that nobody can read
            continue
        if found.benchmark["manifest_hash"] != session.data.manifest_hash:
            raise UsageError(
                f"{path} is of other data ({found.benchmark['dataset']}, manifest "
                f"{str(found.benchmark['manifest_hash'])[:8]}); name another --out"
            )
        there, own = found.model, subject.about
        if None in (there["weights_sha256"], own["weights_sha256"]):
            continue
        if there["weights_sha256"] == own["weights_sha256"]:
            continue
        what = f"{path} is of other weights ({there['path']}, {there['weights_sha256'][:8]})"
        if there["path"] != own["path"] or backbones.is_backbone(own["path"]):
            raise UsageError(f"{what}; give --name to tell the models apart, or another --out")
        note(f"{what} and will be replaced")
