"""Protocols: named, versioned recipes, one YAML file each under `configs/probes/`."""

from pydantic import Field

from fm.config import Config, list_recipes, parse, read_yaml, recipe_folder
from fm.errors import UsageError, suggest
from probes.settings import Settings


class Protocol(Config):
    """A recipe: `NAME@VERSION`, what it follows, and its settings.

    `floors` names the protocols on pixels alone that every table carries beside it, with as few
    labels as it has; where numbers are asked for, `ridge-NAME` (`probes.judging.judge.floors_of`).
    """

    name: str
    version: int = Field(ge=1)
    help: str
    reference: str
    floors: tuple[str, ...] = ("image-statistics", "raw-pixel", "random-conv", "random-conv-zca")
    settings: Settings

    @property
    def full_name(self) -> str:
        """`NAME@VERSION`."""
        return f"{self.name}@{self.version}"

    @property
    def needs_model(self) -> bool:
        """False for the floors, which look at pixels alone."""
        return getattr(self.settings, "input", "model") == "model"

    def from_scratch(self) -> "Protocol | None":
        """The same number of steps from random weights, for the floor; None where it is frozen."""
        scratch = getattr(self.settings, "scratch", None)
        settings = scratch() if scratch is not None else None
        return None if settings is None else self.model_copy(update={"settings": settings})


def list_protocols() -> list[str]:
    """List the shipped protocols as `NAME@VERSION`."""
    return list_recipes("probes")


def get_protocol(name: str) -> Protocol:
    """Return a protocol.

    Args:
        name: `NAME@VERSION`, or `NAME` for its newest version.

    Raises:
        UsageError: there is none; names the nearest.
    """
    known = list_protocols()
    if name not in known:
        versions = [k for k in known if k.rpartition("@")[0] == name]
        if not versions:
            raise UsageError(f"there is no protocol {name!r}; {suggest(name, known)}")
        name = max(versions, key=lambda k: int(k.rpartition("@")[2]))
    path = recipe_folder() / "probes" / f"{name}.yaml"
    protocol = parse(Protocol, read_yaml(path), str(path))
    if protocol.full_name != name:
        raise UsageError(f"{path}: the file says {protocol.full_name}; its name must be the same")
    return protocol
