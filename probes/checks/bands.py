"""Does a model take what a benchmark has?"""

from collections.abc import Mapping
from typing import Any

from fm.errors import UsageError
from fm.sensors import sensor_of_modality
from probes.backbones.align import table


def fit(
    model: Any, bands: Mapping[str, tuple[str, ...]], *, benchmark: str, adapt: bool | str
) -> tuple[Any, dict[str, Any] | None]:
    """Check the bands, or adapt the model to them on request.

    Foreign backbones are left as they are: `probes.backbones.feed` aligns their bands.

    Args:
        model: has `bands`.
        bands: modality to band names of the benchmark.
        benchmark: its full name, for the error.
        adapt: build a model for the benchmark's bands from the shared ones; a word is the policy
            of bands that the model has never seen (`fm.adapt.policy_of`).

    Returns:
        the model and the report of `fm.adapt.to_bands`, None when nothing had to be done.

    Raises:
        UsageError: the bands differ and `adapt` is false, or no counterpart exists.
    """
    if hasattr(model, "intake"):
        return model, None
    problem = difference(model, bands)
    if problem is None:
        return model, None
    if not adapt:
        raise UsageError(
            f"{benchmark}: {problem}; give adapt=True (--adapt) to use the shared bands, "
            f"--adapt-policy to estimate the model's from others, or another model"
        )
    from fm.adapt import policy_of, to_bands  # here, because it loads the backbones

    chosen = policy_of(adapt) if isinstance(adapt, str) else {"policy": "refuse"}
    if chosen["policy"] == "refuse":
        return to_bands(model, table(bands), like=counterparts(model, bands, benchmark))
    return to_bands(model, table(bands), **chosen)


def difference(model: Any, bands: Mapping[str, tuple[str, ...]]) -> str | None:
    """Say in one line how a model's bands differ from a benchmark's; None when they fit.

    A model may know more modalities than the benchmark has; band order does not matter, because
    `encode` orders by name.
    """
    parts = []
    for modality, names in bands.items():
        own = [band.name for band in model.bands.get(modality, ())]
        if not own:
            parts.append(f"{modality} ({_short(names)}) is not known to the model")
        elif set(own) != set(names):
            parts.append(f"{modality} has {_short(names)}, the model takes {_short(own)}")
    if not parts:
        return None
    takes = ", ".join(f"{m} ({_short([b.name for b in v])})" for m, v in model.bands.items())
    return f"{'; '.join(parts)}; the model takes {takes}"


def counterparts(
    model: Any, bands: Mapping[str, tuple[str, ...]], benchmark: str
) -> dict[str, str]:
    """Find the model's modality that stands in for each of the benchmark's.

    It is the one of the same name, or of the same platform on the same grid.

    Raises:
        UsageError: there is none.
    """
    found = {}
    for modality in bands:
        sensor = sensor_of_modality(modality)
        grid = modality.rpartition("_")[2]
        near = [
            other
            for other in model.bands
            if other == modality
            or (
                sensor_of_modality(other).platform == sensor.platform
                and other.rpartition("_")[2] == grid
            )
        ]
        if not near:
            raise UsageError(
                f"{benchmark}: nothing in the model ({', '.join(model.bands)}) can stand in for "
                f"{modality}; choose a benchmark without it"
            )
        found[modality] = modality if modality in near else near[0]
    return found


def _short(names: Any) -> str:
    names = list(names)
    shown = names if len(names) <= 14 else [*names[:2], "...", names[-1]]
    return f"{len(names)} bands {' '.join(shown)}"
