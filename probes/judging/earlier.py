"""Results that a run would replace: those of another model or data are never lost in silence."""

from collections.abc import Mapping, Sequence
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
    out: Path,
    session: Session,
    subject: Subject | None,
    rows: Sequence[tuple[Protocol, dict[str, Any]]],
    floors: Sequence[Protocol],
) -> None:
    """Look for results of the names that a run will write, before it begins.

    One that is repeated is replaced. One of other weights at the same place, such as a run that
    was trained again, is replaced and that is told.

    Args:
        out: folder of the results.
        session: the benchmark, opened.
        subject: the model; None where only floors are judged.
        rows: protocols on it and the axes that are changed.
        floors: protocols without a model.

    Raises:
        UsageError: a result of that name is of another model, or of other data.
    """
    no_model = {"weights_sha256": None, "path": None}
    every: list[tuple[Protocol, dict[str, Any], dict[str, Any]]] = []
    if subject is not None:
        declared = subject.model.intake.declared if isinstance(subject.model, Adapter) else None
        own = {"channels": declared} if declared else {}
        every += [(protocol, {**changed, **own}, subject.about) for protocol, changed in rows]
    every += [(protocol, {}, {**no_model, "name": protocol.name}) for protocol in floors]
    benchmark = session.benchmark
    for protocol, changed, judged in every:
        name = identify(
            (benchmark.name, benchmark.version),
            (protocol.name, protocol.version),
            judged["name"],
            {**changed, **session.left_out},
            session.seed,
        )
        refuse_other(out / f"{name}.json", judged, session.data.manifest_hash)


def refuse_other(path: Path, about: Mapping[str, Any], manifest_hash: str) -> None:
    """Look for one result that a run will write.

    Args:
        path: where it will lie.
        about: what will say of its model: `weights_sha256` and `path`, None where it has none.
        manifest_hash: of its data.

    Raises:
        UsageError: see `refuse_others`.
    """
    try:
        found = Result.load(path)
    except FMError:  # none, or one that nobody can read
        return
    if found.benchmark["manifest_hash"] != manifest_hash:
        raise UsageError(
            f"{path} is of other data ({found.benchmark['dataset']}, manifest "
            f"{str(found.benchmark['manifest_hash'])[:8]}); name another --out"
        )
    there = found.model
    if None in (there["weights_sha256"], about["weights_sha256"]):
        return
    if there["weights_sha256"] == about["weights_sha256"]:
        return
    what = f"{path} is of other weights ({there['path']}, {there['weights_sha256'][:8]})"
    if there["path"] != about["path"] or backbones.is_backbone(about["path"]):
        raise UsageError(f"{what}; give --name to tell the models apart, or another --out")
    note(f"{what} and will be replaced")
