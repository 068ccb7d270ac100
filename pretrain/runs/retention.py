"""What checkpoints of a run are called, and which of them stay."""

from collections.abc import Sequence

PREFIX = "step-"


def name_of(step: int) -> str:
    """Return the name of the folder of a checkpoint."""
    return f"{PREFIX}{step:08d}"


def surplus(names: Sequence[str], newest: str, keep: int, milestones: int | None) -> list[str]:
    """Return the checkpoints that need not stay.

    Args:
        names: of the folders that are there.
        newest: the one that was just written. Later ones are from before the run went back, and
            `latest` does not know them.
        keep: how many of the newest stay.
        milestones: those at multiples of this many steps stay too.
    """
    step = {name: int(name.removeprefix(PREFIX)) for name in names}
    known = sorted((name for name in names if step[name] <= step[newest]), key=step.__getitem__)
    stay = set(known[-keep:])
    if milestones is not None:
        stay |= {name for name in known if step[name] % milestones == 0}
    return sorted(set(names) - stay)
