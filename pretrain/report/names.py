"""What the figures of a run are called on a page, in which unit, and where they stand."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

SAMPLES = "samples_per_s"


@dataclass(frozen=True)
class Kind:
    """How a figure is shown.

    Attributes:
        title: in words.
        unit: behind the number, empty where it has none.
        factor: what the logged number is multiplied by to have that unit.
        section: `learning`, `speed` or `other`.
    """

    title: str
    unit: str = ""
    factor: float = 1.0
    section: str = "other"


# the first pattern that a name fits decides; logged names are `snake_case`, nested by `/`
_KINDS: tuple[tuple[str, Kind], ...] = (
    ("loss", Kind("Loss", section="learning")),
    (r"loss[_/].*", Kind("", section="learning")),
    (r"validation/.*", Kind("", section="learning")),
    ("lr", Kind("Learning rate", section="learning")),
    (r"lr[_/].*", Kind("", section="learning")),
    ("grad_norm", Kind("Gradient norm", section="learning")),
    (r"(momentum|temperature)([_/].*)?", Kind("", section="learning")),
    ("effective_rank", Kind("Effective rank of the features", section="learning")),
    ("feature_std", Kind("Spread of the features", section="learning")),
    ("seconds", Kind("Time of the logged step", "s", section="speed")),
    ("step_seconds", Kind("Time of a step, median", "s", section="speed")),
    ("data_wait", Kind("Waiting for data", "%", 100, "speed")),
    ("run_wait_share", Kind("Waiting for data, whole session", "%", 100, "speed")),
    (SAMPLES, Kind("Samples", "a second", section="speed")),
    ("tokens_per_s", Kind("Tokens", "a second", section="speed")),
    ("mfu", Kind("Model FLOPs utilisation", "%", 100, "speed")),
    ("memory_peak_gib", Kind("Memory, peak of a rank", "GiB", section="speed")),
    ("cuda_peak_gib", Kind("GPU memory, peak of a rank", "GiB", section="speed")),
    (r".*flops.*", Kind("", section="speed")),
    (r".*_bytes", Kind("", "GiB", 2.0**-30, "speed")),
    (r".*_gib", Kind("", "GiB", 1.0, "speed")),
    (r".*_gb", Kind("", "GB", 1.0, "speed")),
    (r".*(seconds|_s)", Kind("", "s", 1.0, "speed")),
    (r".*share", Kind("", "%", 100, "speed")),
)


def kind(name: str) -> Kind:
    """Say how a figure is shown; one that nobody foresaw keeps its name and has no unit."""
    found = next((k for pattern, k in _KINDS if re.fullmatch(pattern, name)), Kind(""))
    if found.title:
        return found
    first, slash, rest = re.sub(r"_(bytes|gib|gb)$", "", name).partition("/")
    words = first.replace("_", " ") + (f": {rest}" if slash else "")
    return Kind(words[:1].upper() + words[1:], found.unit, found.factor, found.section)


def families(names: Iterable[str]) -> dict[str, list[str]]:
    """Group nested figures by what stands before their last `/`; the others are on their own.

    Returns:
        family to its names; `loss/s2/B02` and `loss/s2/B03` are the family `loss/s2`.
    """
    found: dict[str, list[str]] = {}
    for name in names:
        head, slash, _ = name.rpartition("/")
        found.setdefault(head if slash else name, []).append(name)
    return found


def short(value: float) -> str:
    """Write a number in at most four significant digits, with a true minus sign."""
    if value == 0:
        return "0"
    size = abs(value)
    if 1e4 <= size < 1e15:
        for power, letter in ((12, "T"), (9, "G"), (6, "M"), (3, "k")):
            if size >= 10.0**power:
                return f"{value / 10.0**power:.3g}{letter}".replace("-", "−")
    text = f"{value:.4g}" if 1e-3 <= size < 1e4 else f"{value:.2e}"
    text = re.sub(r"\.?0*e([+-])0*(\d)", r"e\1\2", text)
    return text.replace("e+", "e").replace("-", "−")
